from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from weakseg.ops.tiles import GRID, shares, spans, tiled_scores


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 12).map(lambda n: n * GRID), st.integers(0, 6))
def test_tiles_cover_a_side(length, tile, parts):
    overlap = min(parts * GRID, tile // 2 // GRID * GRID)
    places = spans(length, tile, overlap)
    assert places[0][0] == 0
    assert places[-1][1] == length
    assert all(start % GRID == 0 for start, _ in places)
    assert all(0 < end - start < tile + GRID for start, end in places)
    for (start, end), (following, _) in pairwise(places):
        assert start < following <= end - overlap
    total = torch.zeros(length)
    for (start, end), share in zip(places, shares(places, overlap), strict=True):
        assert share.shape == (end - start,)
        assert (share >= 0).all()
        margin = overlap // 4
        assert start == 0 or not share[:margin].any()
        assert end == length or margin == 0 or not share[-margin:].any()
        total[start:end] += share
    torch.testing.assert_close(total, torch.ones(length))


@pytest.mark.parametrize(("tile", "overlap"), [(100, 0), (96, 20), (96, 64), (0, 0), (96, -32)])
def test_odd_tiles_are_refused(tile, overlap):
    with pytest.raises(ValueError, match="multiple of 32"):
        spans(500, tile, overlap)


class Near(nn.Module):
    """Cells of 8 pixels; looks 12 pixels far, and enlarges its scores again."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 8, stride=8)
        self.mix = nn.Conv2d(6, 5, 1)

    def forward(self, x):
        height, width = x.shape[-2:]
        x = functional.pad(x, (0, -width % 8, 0, -height % 8))
        scores = functional.interpolate(
            self.mix(self.down(x).relu()), size=x.shape[-2:], mode="bilinear"
        )
        return scores[..., :height, :width]


def whole(bands):
    rows, tops = [], []
    for top, scores in bands:
        tops.append(top)
        rows.append(scores.clone())
    assert tops == [sum(r.shape[1] for r in rows[:i]) for i in range(len(rows))]
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("size", [(201, 330), (96, 96), (127, 128), (128, 90), (500, 64)])
def test_tiles_are_the_whole_image(size):
    torch.manual_seed(0)
    network, image = Near(), torch.rand(3, *size)
    calls = []

    def score(tile):
        calls.append(tile.shape[1:])
        return network(tile[None])[0]

    with torch.no_grad():
        expected = network(image[None])[0]
    torch.testing.assert_close(whole(tiled_scores(score, image, 96, 48 // GRID * GRID)), expected)
    assert (len(calls) > 1) == (max(size) >= 96 + GRID)
    assert max(max(call) for call in calls) < 96 + GRID


def test_scores_that_depend_on_the_tile_are_blended_without_steps():
    level = iter(range(100))

    def score(tile):
        return torch.full((1, *tile.shape[1:]), float(next(level)))

    scores = whole(tiled_scores(score, torch.zeros(3, 400, 400), 192, 64))
    assert scores.max() > 3
    # The steps between neighbouring tiles (up to 3 from row to row) are spread over half the overlap.
    assert scores.diff(dim=1).abs().max() < 4 / 32 + 1e-5
    assert scores.diff(dim=2).abs().max() < 2 / 32 + 1e-5
