import math
from itertools import product

import pytest
import torch

from weakseg.ops import permutohedral
from weakseg.ops.permutohedral import PermutohedralLattice


def slow_filter(features, values):
    """The lattice of the paper, point by point: remainders, ranks, a dictionary of vertices."""
    dim, points = features.shape
    features = features.double()
    deviation = math.sqrt(2 / 3) * (dim + 1)

    def simplex(point):
        scaled = [
            float(point[i]) * deviation / math.sqrt((i + 1) * (i + 2)) for i in range(dim)
        ] + [0.0]
        elevated = [sum(scaled[i:]) - (i * scaled[i - 1] if i else 0) for i in range(dim + 1)]
        nearest = [round(e / (dim + 1)) * (dim + 1) for e in elevated]
        excess = sum(nearest) // (dim + 1)
        order = sorted(range(dim + 1), key=lambda i: -(elevated[i] - nearest[i]))
        rank = {axis: place + excess for place, axis in enumerate(order)}
        for i in range(dim + 1):
            turn = rank[i] // (dim + 1)
            rank[i] -= turn * (dim + 1)
            nearest[i] -= turn * (dim + 1)
        by_rank = sorted(range(dim + 1), key=lambda i: rank[i])
        rest = [(elevated[i] - nearest[i]) / (dim + 1) for i in by_rank]
        for k in range(dim + 1):
            vertex = tuple(
                nearest[i] + k - (dim + 1 if rank[i] > dim - k else 0) for i in range(dim + 1)
            )
            weight = rest[dim - k] - rest[dim + 1 - k] if k else 1 + rest[dim] - rest[0]
            yield vertex, weight

    corners = [list(simplex(features[:, n])) for n in range(points)]
    lattice = {}
    for n, corner in enumerate(corners):
        for vertex, weight in corner:
            lattice[vertex] = lattice.get(vertex, 0) + weight * values[n].double()
    for axis in range(dim + 1):
        blurred = {}
        for vertex, value in lattice.items():
            for sign in (1, -1):
                beside = tuple(
                    v + sign * (1 - (dim + 1) * (i == axis)) for i, v in enumerate(vertex)
                )
                if beside in lattice:
                    value = value + lattice[beside] / 2  # noqa: PLW2901
            blurred[vertex] = value
        lattice = blurred
    return torch.stack([sum(weight * lattice[v] for v, weight in corner) for corner in corners])


@pytest.mark.parametrize(("dim", "points"), [(1, 40), (2, 80), (5, 120), (5, 1)])
def test_equals_the_lattice_of_the_paper(dim, points):
    generator = torch.Generator().manual_seed(dim)
    features = 3 * torch.rand(dim, points, generator=generator) - 1
    values = torch.rand(points, 2, generator=generator)
    fast = PermutohedralLattice(features).filter(values)
    torch.testing.assert_close(fast.double(), slow_filter(features, values), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_approximates_the_gaussian(dim):
    side = {1: 200, 2: 24, 3: 10}[dim]
    axis = torch.linspace(0, 4, side)
    features = torch.tensor(list(product(axis.tolist(), repeat=dim))).T
    distance = torch.cdist(features.T, features.T)
    exact = torch.exp(-0.5 * distance**2)
    values = torch.sin(2 * features.sum(0))[:, None] + 1
    ones = torch.ones_like(values)
    lattice = PermutohedralLattice(features)
    found = lattice.filter(values) / lattice.filter(ones)
    wanted = (exact @ values) / (exact @ ones)
    assert (found - wanted).abs().max() < 0.1
    assert (found - wanted).abs().mean() < 0.03


def test_points_that_coincide_share_their_value():
    features = torch.tensor([[0.3, 0.3, 5.0], [0.1, 0.1, 9.0]])
    lattice = PermutohedralLattice(features)
    out = lattice.filter(torch.tensor([[1.0], [3.0], [7.0]]))
    torch.testing.assert_close(out[0], out[1])
    assert lattice.vertices == 6


def test_scale_multiplies_before_and_after():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(3, 50, generator=generator)
    values = torch.rand(50, 2, generator=generator)
    before, after = torch.rand(2, 50, generator=generator)
    lattice = PermutohedralLattice(features)
    wanted = lattice.filter(values * before[:, None]) * after[:, None]
    lattice.scale(before, after)
    torch.testing.assert_close(lattice.filter(values), wanted)


def test_wide_keys_and_devices_without_bags_give_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features = 2 * torch.rand(5, 300, generator=generator)
    values = torch.rand(300, 3, generator=generator)
    wanted = PermutohedralLattice(features).filter(values)
    # One far point widens the keys to 64 bits and is too far off to change the others.
    far = torch.cat([features, torch.full((5, 1), 900.0)], 1)
    assert permutohedral._enclosing_simplices(far)[1].dtype == torch.int64
    found = PermutohedralLattice(far).filter(torch.cat([values, values[:1]]))
    torch.testing.assert_close(found[:-1], wanted)
    monkeypatch.setattr(permutohedral, "_BAG_DEVICES", frozenset())
    torch.testing.assert_close(PermutohedralLattice(features).filter(values), wanted)


def test_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match="too narrow"):
        PermutohedralLattice(torch.tensor([[0.0, 1e6]] * 5))
    with pytest.raises(ValueError, match=r"features \[d, N\]"):
        PermutohedralLattice(torch.zeros(2, 0))
