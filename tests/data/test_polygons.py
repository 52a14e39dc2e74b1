"""Filled polygons against a slow truth: each pixel's centre, one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.data.polygons import fill_polygon, fill_polygons

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


@given(polygons)
def test_every_pixel_whose_centre_is_inside(ring):
    np.testing.assert_array_equal(fill_polygon([ring], HEIGHT, WIDTH), slowly(ring))


@given(polygons, polygons)
def test_rings_make_holes_and_polygons_join(first, second):
    one, two = slowly(first), slowly(second)
    np.testing.assert_array_equal(fill_polygon([first, second], HEIGHT, WIDTH), one ^ two)
    np.testing.assert_array_equal(fill_polygons([first, second], HEIGHT, WIDTH), one | two)


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
