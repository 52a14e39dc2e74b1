import pytest
import torch
from torch.nn import functional

from weakseg.ops import labels
from weakseg.ops.labels import best_labels


@pytest.mark.parametrize("size", [(37, 61), (9, 14), (5, 8), (200, 3)])
@pytest.mark.parametrize("strip", [1, 700, 8_000_000])
def test_strips_are_the_whole(monkeypatch, size, strip):
    monkeypatch.setattr(labels, "_STRIP", strip)
    scores = torch.randn(5, 9, 14, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(scores[None], size=size, mode="bilinear")[0]
    found = best_labels(scores, size)
    assert found.dtype == torch.uint8
    assert found.shape == size
    # Where the two best are as good as equal, rounding may choose either.
    best = whole.gather(0, found[None].long())[0]
    assert (whole.amax(0) - best).max() < 1e-5
    assert (found == whole.argmax(0)).float().mean() > 0.99


@pytest.mark.parametrize("size", [(4, 6), (8, 12)])
def test_only_what_is_allowed_is_chosen(size):
    scores = torch.zeros(4, 4, 6)
    scores[3] = 9
    scores[2, :, :3] = 5
    found = best_labels(scores, size, (0, 2))
    assert found.unique().tolist() == [0, 2]
    assert (found[:, : size[1] // 3] == 2).all()
    assert best_labels(scores, size, (0,)).max() == 0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match=r"of 1 to 255 labels, got \(256, 2, 2\)"):
        best_labels(torch.zeros(256, 2, 2), (2, 2))
    with pytest.raises(ValueError, match="at least one label"):
        best_labels(torch.zeros(3, 2, 2), (2, 2), ())
