import pytest
import torch
from torch.nn import functional

from weakseg.ops import label_maps as labels
from weakseg.ops.label_maps import best_labels, class_labels, class_probabilities, quartered


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


def test_the_likeliest_label_is_that_of_upsampled_maps():
    torch.manual_seed(0)
    maps = torch.rand(4, 5, 6)
    full = torch.nn.functional.interpolate(maps[None], size=(23, 31), mode="bilinear")[0]
    assert torch.equal(best_labels(maps, (23, 31)), full.argmax(dim=0).to(torch.uint8))
    full[2] = -1
    allowed = best_labels(maps, (23, 31), (0, 1, 3))
    assert torch.equal(allowed, full.argmax(dim=0).to(torch.uint8))


def test_of_equals_the_first_label_counts():
    assert best_labels(torch.zeros(3, 2, 2), (2, 2)).tolist() == [[0, 0], [0, 0]]
    assert best_labels(torch.ones(3, 2, 2), (2, 2), (1, 2)).tolist() == [[1, 1], [1, 1]]


def test_labels_of_an_images_classes_become_mask_indices():
    local = torch.tensor([[0, 1, 2, 255]], dtype=torch.uint8)
    assert class_labels(local, torch.tensor([4, 253])).tolist() == [[0, 5, 254, 255]]
    assert class_labels(local[:, :1], torch.zeros(0, dtype=torch.long)).tolist() == [[0]]


def test_probabilities_of_allowed_labels():
    logits = torch.tensor([[[0.0, 1]], [[1.0, 0]], [[9.0, 9]]])
    found = class_probabilities(logits, logits=True, allowed=[0, 1])
    torch.testing.assert_close(found[:2], logits[:2].softmax(dim=0))
    assert not found[2].any()
    torch.testing.assert_close(class_probabilities(found, logits=False), found)
    only = class_probabilities(found, logits=False, allowed=[1])
    torch.testing.assert_close(only[1], torch.ones(1, 2))


def test_quartered_maps_are_means():
    maps = torch.arange(32.0).view(1, 4, 8)
    assert quartered(maps, (4, 8)).tolist() == [[[13.5, 17.5]]]
    assert quartered(maps, (16, 32)) is maps
    assert quartered(maps, (32, 64)) is maps
    assert quartered(torch.ones(2, 5, 9), (5, 9)).tolist() == torch.ones(2, 2, 3).tolist()
