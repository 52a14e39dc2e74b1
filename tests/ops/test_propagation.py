import pytest
import torch

from weakseg.ops.propagation import (
    HALF,
    SpreadSettings,
    feature_affinity,
    min_max_normalized,
    spread,
    spread_over_scales,
)


def slow_affinity(features, power):
    _, height, width = features.shape
    vectors = [features[:, y, x] for y in range(height) for x in range(width)]
    mean = sum(vectors) / len(vectors)
    vectors = [v - mean for v in vectors]
    rows = []
    for i, a in enumerate(vectors):
        row = []
        for j, b in enumerate(vectors):
            cosine = float(a @ b) / max(float(a.norm()) * float(b.norm()), 1e-12)
            row.append(1.0 if i == j else max(0.0, cosine) ** power)
        rows.append([value / sum(row) for value in row])
    return torch.tensor(rows)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_affinity_is_that_of_the_formula(power):
    features = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(feature_affinity(features, power), slow_affinity(features, power))


def test_a_map_reaches_all_that_looks_alike_and_nothing_else():
    features = torch.zeros(2, 4, 4)
    features[0, :, :2] = 1  # the left half looks one way, the right the other
    features[1, :, 2:] = 1
    seed = torch.zeros(1, 4, 4)
    seed[0, 0, 0] = 8
    wide = spread(seed, features)
    torch.testing.assert_close(wide[0, :, :2], torch.ones(4, 2))
    assert float(wide[0, :, 2:].abs().max()) == 0


def test_maps_of_another_grid_are_averaged_onto_the_features():
    flat = torch.full((3, 16, 24), 0.25)
    torch.testing.assert_close(spread(flat, torch.randn(5, 4, 6)), torch.full((3, 4, 6), 0.25))


def test_no_map_stays_none_and_equal_features_change_nothing():
    assert spread(torch.zeros(0, 4, 4), torch.rand(3, 2, 2)).shape == (0, 2, 2)
    maps = torch.rand(2, 4, 4)
    torch.testing.assert_close(spread(maps, torch.ones(3, 4, 4)), maps)


@pytest.mark.parametrize(
    ("maps", "features"), [((4, 4), (3, 4, 4)), ((1, 4, 4), (4, 4)), ((1, 4, 4), (1, 3, 4, 4))]
)
def test_other_shapes_are_refused(maps, features):
    with pytest.raises(ValueError, match="expected"):
        spread(torch.rand(maps), torch.rand(features))


def test_stretched_maps_go_from_0_to_1_each():
    maps = torch.rand(3, 5, 5) * torch.tensor([1.0, 10.0, 0.1])[:, None, None] + 0.3
    wide = min_max_normalized(maps)
    torch.testing.assert_close(wide.amin(dim=(1, 2)), torch.zeros(3))
    torch.testing.assert_close(wide.amax(dim=(1, 2)), torch.ones(3))
    assert float(min_max_normalized(torch.full((1, 3, 3), 0.7)).abs().max()) == 0


def test_maps_are_spread_by_the_affinity_of_the_power_that_is_set():
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(6, 3, 4, generator=generator)
    maps = torch.rand(2, 3, 8, generator=generator)  # of another width alone
    small = maps.view(2, 3, 4, 2).mean(dim=3)
    for options, power in (({}, SpreadSettings().power), ({"power": 1.0}, 1.0)):
        expected = small.flatten(1) @ slow_affinity(features, power).T
        torch.testing.assert_close(spread(maps, features, **options).flatten(1), expected)


def test_over_scales_it_is_the_mean_and_goes_from_0_to_1():
    generator = torch.Generator().manual_seed(5)
    details = [torch.randn(4, 3, 3, generator=generator), torch.randn(4, 6, 6, generator=generator)]
    maps = torch.rand(2, 6, 6, generator=generator)
    wide = [
        torch.nn.functional.interpolate(spread(maps, x)[None], size=(6, 6), mode="bilinear")[0]
        for x in details
    ]
    mean = (wide[0] + wide[1]) / 2
    found = spread_over_scales(maps, details, (6, 6))
    torch.testing.assert_close(found, min_max_normalized(mean))
    assert found.amin(dim=(1, 2)).tolist() == [0, 0]
    torch.testing.assert_close(found.amax(dim=(1, 2)), torch.ones(2))
    # Where such maps are parted lies in their middle.
    assert 0 < float((found >= HALF).float().mean()) < 1
