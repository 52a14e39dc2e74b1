import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from weakseg.ops.cams import (
    FAINT,
    CamSettings,
    careful_cams,
    grid_size,
    label_map,
    multi_scale_cams,
    network_size,
    normalized,
    upsampled,
    weighted_cam,
    working_size,
)

KERNEL = torch.randn(3, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def network(images):
    maps = functional.conv2d(images, KERNEL, stride=8, padding=2).relu()
    return [maps, maps.square()]


def test_maps_are_the_sum_over_scales_and_mirror_images_one_at_a_time():
    images = torch.rand(3, 3, 72, 88)
    settings = CamSettings(scales=(0.5, 1.0, 1.5))
    fast = multi_scale_cams(network, images, settings)
    for branch in range(2):
        for index in range(3):
            slow = 0
            for scale in settings.scales:
                size = (round(72 * scale), round(88 * scale))
                view = functional.interpolate(
                    images[index][None], size, mode="bilinear", antialias=True
                )
                straight = network(view)[branch]
                mirrored = network(view.flip(-1))[branch].flip(-1)
                slow = slow + functional.interpolate(straight + mirrored, (18, 22), mode="bilinear")
            torch.testing.assert_close(fast[branch][index], slow[0], rtol=1e-4, atol=1e-5)


def test_without_mirror_only_the_image_is_seen():
    calls = []

    def forward(images):
        calls.append(len(images))
        return network(images)

    settings = CamSettings(scales=(1.0,), mirror=False)
    multi_scale_cams(forward, torch.rand(2, 3, 16, 16), settings)
    assert calls == [2]


def test_large_views_go_through_few_at_a_time(monkeypatch):
    monkeypatch.setattr("weakseg.ops.cams._FORWARD_PIXELS", 40 * 40)
    images = torch.rand(3, 3, 40, 40)
    sizes = []

    def forward(views):
        sizes.append(len(views))
        return network(views)

    pieces = multi_scale_cams(forward, images, CamSettings(scales=(1.0,)))
    assert sizes == [1] * 6
    monkeypatch.undo()
    whole = multi_scale_cams(network, images, CamSettings(scales=(1.0,)))
    torch.testing.assert_close(pieces[0], whole[0])


def test_no_view_is_smaller_than_a_cell_of_the_coarsest_grid():
    sizes = []

    def forward(views):
        sizes.append(tuple(views.shape[-2:]))
        return network(views)

    multi_scale_cams(forward, torch.rand(1, 3, 8, 100), CamSettings(scales=(0.5,)))
    assert sizes == [(32, 50)]


def test_a_batch_without_its_dimension_is_refused():
    with pytest.raises(ValueError, match=r"expected images \[B,C,H,W\]"):
        multi_scale_cams(network, torch.rand(3, 8, 8), CamSettings())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (375, 500)),
        ((3000, 4000), (375, 500)),
        ((8, 8), (500, 500)),
        ((8, 160), (25, 500)),
        ((4, 1000), (8, 500)),
    ],
)
def test_working_size_keeps_the_aspect_and_a_least_side(size, expected):
    assert working_size(*size, 500) == expected


def test_grid_is_a_quarter_rounded_up():
    assert grid_size(375, 500) == (94, 125)


def test_normalized_has_maximum_one_and_keeps_zeros():
    maps = torch.rand(2, 5, 6) * torch.tensor([30.0, 0.0]).view(2, 1, 1)
    assert float(normalized(maps)[0].max()) == pytest.approx(1)
    assert not normalized(maps)[1].any()


def test_weighted_cam_mixes_normalized_maps():
    a, b = torch.rand(2, 6, 7) * 5, torch.rand(2, 6, 7) * 0.1
    mixed = 0.3 * normalized(a) + 0.7 * normalized(b)
    torch.testing.assert_close(weighted_cam(a, b, 0.3), normalized(mixed))
    torch.testing.assert_close(weighted_cam(a * 100, b, 0.3), weighted_cam(a, b, 0.3))
    torch.testing.assert_close(weighted_cam(a, b, 1.0), normalized(a))


def test_labels_are_the_class_of_the_highest_map_or_background():
    maps = torch.rand(3, 9, 11)
    classes = torch.tensor([4, 0, 2])
    full = upsampled(maps, (36, 44))
    best, index = full.max(0)
    slow = torch.where(best >= 0.6, classes[index] + 1, 0).to(torch.uint8)
    assert torch.equal(label_map(maps, classes, 0.6, (36, 44)), slow)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_thresholds_at_the_ends(threshold):
    maps = torch.tensor([[[0.0, 0.5], [1.0, 1.0]]])
    labels = label_map(maps, torch.tensor([1]), threshold, (2, 2))
    assert (labels == 2).sum() == (4 if threshold == 0 else 2)


def test_no_tags_no_foreground():
    assert not label_map(
        torch.zeros(0, 3, 3), torch.zeros(0, dtype=torch.long), 0.3, (12, 12)
    ).any()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(32, 2000))
def test_a_network_sees_multiples_of_its_coarsest_cell(height, width, long_side):
    rows, columns = network_size(height, width, long_side)
    assert rows % 32 == columns % 32 == 0
    assert min(rows, columns) >= 32
    assert abs(max(rows, columns) - long_side) <= 16
    scale = long_side / max(height, width)
    for seen, side in ((rows, height), (columns, width)):
        assert abs(seen - side * scale) <= 16 or seen == 32


def _strong_and_faint(calls, kind):
    """Maps of two classes: as bright as the image, and a hundredth of that."""

    def forward(views):
        calls.append((kind, tuple(views.shape)))
        gray = views.mean(dim=1, keepdim=True)
        error = 1.0 if kind == "quick" else 0.0
        return [torch.cat([gray + error, gray / 100 + error], dim=1)]

    return forward


@pytest.mark.parametrize("mirror", [False, True])
def test_faint_scores_are_looked_at_exactly(mirror):
    scales = CamSettings(scales=(1.0, 0.5, 2.0), mirror=mirror)
    images = torch.full((3, 3, 64, 64), 40.0)
    images[2] = 4.0
    tags = torch.tensor([[True, False], [True, True], [True, False]])
    calls = []
    exact, quick = (_strong_and_faint(calls, kind) for kind in ("exact", "quick"))
    (found,) = careful_cams(exact, quick, images, tags, scales, faint=[FAINT])
    views = 2 if mirror else 1
    assert calls[0] == ("exact", (3 * views, 3, 32, 32))
    assert sorted(calls[1:]) == sorted(
        (kind, (count * views, 3, side, side))
        for side in (64, 128)
        for kind, count in (("quick", 1), ("exact", 2))
    )
    (expected,) = multi_scale_cams(exact, images, scales)
    expected[0] += 2 * views  # of the first image alone, at two scales
    torch.testing.assert_close(found, expected)


def test_a_single_scale_is_exact():
    once = CamSettings(scales=(1.0,))
    images, calls = torch.rand(1, 3, 64, 64), []
    exact, quick = (_strong_and_faint(calls, kind) for kind in ("exact", "quick"))
    careful_cams(exact, quick, images, torch.ones(1, 2, dtype=torch.bool), once, faint=[FAINT])
    assert [kind for kind, _ in calls] == ["exact"]
