import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.ops.affinity import (
    Relation,
    displacements,
    pair_affinity,
    pair_labels,
    path,
    path_maxima,
    path_winners,
)

GOLDEN = Path(
    os.environ.get("WEAKSEG_GOLDEN", Path(__file__).parents[2] / ".." / "shared" / "golden")
)


def golden(pattern):
    found = sorted(GOLDEN.glob(pattern))
    if not found:
        reason = f"no {pattern} in {GOLDEN}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(file, id=file.stem) for file in found]


def planes_of_pairs(src, dst, width, radius):
    """Index of the plane of every golden pair [P,N], found from its two ends alone."""
    dy = dst // width - src // width
    dx = dst % width - src % width
    number = {d: index for index, d in enumerate(displacements(radius))}
    return torch.tensor(
        [[number[d] for d in zip(*row, strict=True)] for row in zip(dy, dx, strict=True)]
    )


def brute_maximum(boundary, y, x, dy, dx):
    h, w = boundary.shape
    if not (0 <= y + dy < h and 0 <= x + dx < w):
        return 1.0
    length = (dy * dy + dx * dx) ** 0.5
    best = -1.0
    for py in range(h):
        for px in range(w):
            in_box = min(y, y + dy) <= py <= max(y, y + dy) and min(x, x + dx) <= px <= max(
                x, x + dx
            )
            if in_box and abs(dy * (px - x) - dx * (py - y)) / length < 1:
                best = max(best, float(boundary[py, px]))
    return best


@pytest.mark.parametrize("file", golden("affinity_r*.npz"))
def test_affinity_golden(file):
    case = np.load(file)
    radius, width = int(case["radius"]), case["edge"].shape[-1]
    affinity = pair_affinity(torch.from_numpy(case["edge"])[:, 0], radius).flatten(2)
    plane = planes_of_pairs(case["src"], case["dst"], width, radius)
    assert sorted(plane[:, 0].tolist()) == list(range(len(displacements(radius))))
    ours = affinity[plane, :, torch.from_numpy(case["src"])[None]].permute(2, 0, 1)
    assert torch.equal(ours, torch.from_numpy(case["affinity"]))


@pytest.mark.parametrize("file", golden("affinity_labels*.npz"))
def test_labels_golden(file):
    case = np.load(file)
    radius, width = int(case["radius"]), case["segmentation"].shape[-1]
    codes = pair_labels(torch.from_numpy(case["segmentation"]), radius).flatten(1)
    plane = planes_of_pairs(case["src"], case["dst"], width, radius)
    ours = codes[plane, torch.from_numpy(case["src"])[None]]
    for name in ("background", "foreground", "negative"):
        expected = torch.from_numpy(case[name])
        assert expected.any()
        assert torch.equal(ours == Relation[name.upper()], expected), name


def test_displacements_half_plane():
    assert len(displacements(5)) == 34
    assert len(displacements(10)) == 152
    for radius in (2, 3, 7):
        half = set(displacements(radius))
        disc = {
            (y, x)
            for y in range(-radius, radius + 1)
            for x in range(-radius, radius + 1)
            if 0 < y * y + x * x < radius**2
        }
        assert half | {(-y, -x) for y, x in half} == disc
        assert len(half) * 2 == len(disc)


@pytest.mark.parametrize("radius", [1, 0, -3])
def test_displacements_radius_too_small(radius):
    with pytest.raises(ValueError, match="at least 2"):
        displacements(radius)


def test_path_known():
    assert path(0, 3) == {(0, 0), (0, 1), (0, 2), (0, 3)}
    assert path(1, -1) == {(0, 0), (1, -1), (0, -1), (1, 0)}
    assert path(2, 2) == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}


def test_path_is_symmetric():
    for dy, dx in displacements(9):
        assert path(-dy, -dx) == {(y - dy, x - dx) for y, x in path(dy, dx)}


@settings(max_examples=25, deadline=None)
@given(
    h=st.integers(1, 9), w=st.integers(1, 9), radius=st.integers(2, 6), seed=st.integers(0, 10**6)
)
def test_maxima_against_brute_force(h, w, radius, seed):
    boundary = torch.rand(h, w, generator=torch.Generator().manual_seed(seed))
    maxima = path_maxima(boundary, radius)
    for plane, (dy, dx) in zip(maxima, displacements(radius), strict=True):
        for y in range(h):
            for x in range(w):
                expected = brute_maximum(boundary, y, x, dy, dx)
                assert float(plane[y, x]) == pytest.approx(expected, abs=1e-7)


def test_radius_beyond_the_grid_at_full_size():
    boundary = torch.rand(23, 19, generator=torch.Generator().manual_seed(1))
    maxima = path_maxima(boundary, 10)
    for plane, (dy, dx) in zip(maxima, displacements(10), strict=True):
        for y, x in ((0, 0), (11, 9), (22, 18), (3, 17)):
            assert float(plane[y, x]) == pytest.approx(brute_maximum(boundary, y, x, dy, dx))


def test_batch_mates_do_not_mix():
    maps = torch.rand(2, 3, 11, 8, generator=torch.Generator().manual_seed(0))
    together = path_maxima(maps, 4)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[:, i, j], path_maxima(maps[i, j], 4))


def test_winners_point_at_the_maxima():
    maps = torch.rand(2, 12, 9, generator=torch.Generator().manual_seed(3))
    maxima, winners = path_winners(maps, 5)
    assert torch.equal(maxima, path_maxima(maps, 5))
    inside = maxima < 1
    assert inside.any()
    assert torch.equal(maps.flatten()[winners.long()][inside], maxima[inside])


@settings(max_examples=25, deadline=None)
@given(
    h=st.integers(1, 8), w=st.integers(1, 8), radius=st.integers(2, 5), seed=st.integers(0, 10**6)
)
def test_labels_against_brute_force(h, w, radius, seed):
    choice = torch.tensor([0, 0, 1, 2, 255])
    labels = choice[torch.randint(5, (h, w), generator=torch.Generator().manual_seed(seed))]
    codes = pair_labels(labels, radius)
    for plane, (dy, dx) in zip(codes, displacements(radius), strict=True):
        for y in range(h):
            for x in range(w):
                expected = Relation.UNKNOWN
                if 0 <= y + dy < h and 0 <= x + dx < w:
                    a, b = int(labels[y, x]), int(labels[y + dy, x + dx])
                    if 255 not in (a, b):
                        same = Relation.FOREGROUND if a else Relation.BACKGROUND
                        expected = same if a == b else Relation.NEGATIVE
                assert plane[y, x] == expected


def test_labels_of_any_integer_type():
    labels = torch.tensor([[0, 2, 2, 255], [0, 0, 2, 255]])
    expected = pair_labels(labels, 3)
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(pair_labels(labels.to(dtype), 3), expected)


def test_wrong_arguments_are_explained():
    with pytest.raises(ValueError, match=r"expected a boundary map \[\.\.\.,h,w\], got \(5,\)"):
        pair_affinity(torch.rand(5), 3)
    with pytest.raises(ValueError, match="expected integer labels"):
        pair_labels(torch.rand(5, 5), 3)
