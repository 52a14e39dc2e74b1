"""Filled polygons against a slow truth: each pixel's centre, one by one."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.data.polygons import bridged, fill_polygon, fill_polygons, mask_polygons

HEIGHT, WIDTH = 7, 9
points = st.tuples(st.integers(-4, 24), st.integers(-4, 20))
# Shifted by odd fractions, so that no edge meets a pixel's centre exactly.
polygons = st.lists(points, min_size=3, max_size=7).map(
    lambda ps: [(x / 2 + 0.2371, y / 2 + 0.1193) for x, y in ps]
)


def slowly(ring):
    inside = np.zeros((HEIGHT, WIDTH), bool)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y, crossings = column + 0.5, row + 0.5, 0
            for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) < x:
                    crossings += 1
            inside[row, column] = crossings % 2 == 1
    return inside


def processor_seconds(work):
    """The least time of this process alone that some work takes: others' load does not count."""
    times = []
    for _ in range(5):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


@given(polygons)
def test_every_pixel_whose_centre_is_inside(ring):
    np.testing.assert_array_equal(fill_polygon([ring], HEIGHT, WIDTH), slowly(ring))


@given(polygons, polygons)
def test_rings_make_holes_and_polygons_join(first, second):
    one, two = slowly(first), slowly(second)
    np.testing.assert_array_equal(fill_polygon([first, second], HEIGHT, WIDTH), one ^ two)
    np.testing.assert_array_equal(fill_polygons([first, second], HEIGHT, WIDTH), one | two)


def test_a_small_polygon_in_a_large_image_is_cheap():
    ring = np.array([(4000, 2000), (4010, 2000), (4005, 2010)], float)
    mask, wide = fill_polygon([ring], 4000, 6000), [(0, 0), (6000, 0), (6000, 4000), (0, 4000)]
    small = processor_seconds(lambda: fill_polygon([ring], 4000, 6000))
    assert small < processor_seconds(lambda: fill_polygon([np.array(wide, float)], 4000, 6000)) / 3
    assert mask.sum() == fill_polygon([ring - (3995, 1995)], 20, 20).sum() > 40


def test_a_box_on_the_grid_covers_exactly_its_pixels():
    box = [(2, 1), (5, 1), (5, 4), (2, 4)]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(fill_polygon([box], HEIGHT, WIDTH), expected)


@pytest.mark.parametrize("ring", [[], [(1, 1)], [(1, 1), (3, 3)]])
def test_points_and_lines_enclose_nothing(ring):
    ring = np.array(ring, float).reshape(-1, 2)
    assert not fill_polygon([ring], HEIGHT, WIDTH).any()


@pytest.mark.parametrize("ring", [[1, 2, 3], [(1, 2, 3)] * 3, [(0, 0), (float("nan"), 1), (2, 2)]])
def test_what_is_no_ring_is_refused(ring):
    with pytest.raises(ValueError, match="expected points"):
        fill_polygon([ring], HEIGHT, WIDTH)


def masks(side):
    shapes = st.tuples(st.integers(1, side), st.integers(1, side))
    return shapes.flatmap(
        lambda size: st.lists(
            st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]
        ).map(lambda bits: np.array(bits, bool).reshape(size))
    )


def regions(mask):
    """How many groups of pixels hang together by their sides, by flooding."""
    left, count = set(zip(*np.nonzero(mask), strict=True)), 0
    while left:
        count += 1
        waiting = [left.pop()]
        while waiting:
            row, column = waiting.pop()
            for near in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if near in left:
                    left.remove(near)
                    waiting.append(near)
    return count


@given(masks(7))
def test_traced_outlines_fill_to_the_same_mask(mask):
    polygons = mask_polygons(mask)
    rings = [ring for polygon in polygons for ring in polygon]
    np.testing.assert_array_equal(fill_polygon(rings, *mask.shape), mask)
    joined = np.zeros_like(mask, int)
    for polygon in polygons:
        one = fill_polygon(polygon, *mask.shape)
        assert regions(one) == 1
        joined += one
        np.testing.assert_array_equal(fill_polygon([bridged(polygon)], *mask.shape), one)
    np.testing.assert_array_equal(joined, mask)
    assert len(polygons) == regions(mask)


@given(masks(7))
def test_rings_are_simple_and_have_corners_only(mask):
    for outer, *holes in mask_polygons(mask):
        for ring, sign in ((outer, 1), *((hole, -1) for hole in holes)):
            assert len({tuple(point) for point in ring.tolist()}) == len(ring)
            before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
            turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
            assert (turns != 0).all()
            (x, y), (u, v) = ring.T, np.roll(ring, -1, axis=0).T
            assert sign * (x * v - u * y).sum() > 0


def test_pixels_that_touch_at_a_corner():
    box = [[(0, 0), (1, 0), (1, 1), (0, 1)], [(1, 1), (2, 1), (2, 2), (1, 2)]]
    assert [p[0].tolist() for p in mask_polygons([[1, 0], [0, 1]])] == [
        [list(point) for point in ring] for ring in box
    ]
    # A ring of pixels that is closed by a corner only: its inside is a hole.
    ((outer, hole),) = mask_polygons([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert len(outer) == 6
    assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_a_mask_of_blobs_is_traced_fast():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:375, :500]
    mask = np.zeros((375, 500), bool)
    for _ in range(40):
        y, x, r = rng.integers(0, 375), rng.integers(0, 500), rng.integers(5, 60)
        mask ^= (rows - y) ** 2 + (columns - x) ** 2 < r * r
    polygons = mask_polygons(mask)
    np.testing.assert_array_equal(
        fill_polygon([ring for polygon in polygons for ring in polygon], 375, 500), mask
    )
    # Not pixel by pixel: some 20 ms, where a loop over the pixels in Python alone takes longer.
    tracing = processor_seconds(lambda: mask_polygons(mask))
    assert tracing < processor_seconds(lambda: [bool(x) for x in mask.flat for _ in range(8)])


def test_only_masks_are_traced():
    assert mask_polygons(np.zeros((3, 4), bool)) == []
    with pytest.raises(ValueError, match=r"expected a mask \[H,W\], got \(3,\)"):
        mask_polygons([1, 0, 1])
