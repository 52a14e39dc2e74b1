import pytest
import torch

from weakseg.ops.regions import boundary_regions


def walls(height=24, width=36):
    """A square inside of a frame of probability 1, and a wall across."""
    boundary = torch.zeros(height, width)
    boundary[6, 8:20] = boundary[17, 8:20] = 1
    boundary[6:18, 8] = boundary[6:18, 19] = 1
    return boundary


def test_pieces_on_both_sides_of_a_boundary_are_apart():
    regions = boundary_regions(walls())
    assert int(regions.max()) == 1
    assert regions[0, 0] == 0
    assert bool((regions[7:17, 9:19] == regions[10, 12]).all())
    assert regions[10, 12] != regions[0, 0]


def test_numbers_follow_the_first_pixels_and_leave_no_gap():
    boundary = torch.zeros(10, 31)
    boundary[:, 10] = boundary[:, 20] = 1
    regions = boundary_regions(boundary)
    assert regions.shape == (10, 31)
    assert [int(regions[5, x]) for x in (3, 15, 27)] == [0, 1, 2]
    assert sorted(regions.unique().tolist()) == [0, 1, 2]


@pytest.mark.parametrize(("height", "apart"), [(0.05, 1), (0.5, 2)])
def test_a_weak_boundary_parts_nothing(height, apart):
    boundary = torch.zeros(8, 20)
    boundary[:, 10] = height
    assert int(boundary_regions(boundary, depth=0.1).max()) + 1 == apart


def test_small_pieces_join_a_neighbour():
    boundary = torch.zeros(12, 12)
    boundary[4:7, 4:7] = 1
    boundary[5, 5] = 0
    assert int(boundary_regions(boundary, smallest=12).max()) == 0
    assert int(boundary_regions(boundary, smallest=1).max()) == 1


def test_a_gap_in_a_boundary_lets_regions_join():
    boundary = walls()
    boundary[10:13, 8] = 0
    assert int(boundary_regions(boundary).max()) == 0


def test_every_region_is_connected():
    boundary = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))
    regions = boundary_regions(boundary)
    for number in range(int(regions.max()) + 1):
        left = {tuple(place) for place in (regions == number).nonzero().tolist()}
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    stack.append(near)
        assert not left


def test_what_is_no_map_is_refused():
    with pytest.raises(ValueError, match=r"\[h,w\]"):
        boundary_regions(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="finite"):
        boundary_regions(torch.full((4, 4), float("nan")))
