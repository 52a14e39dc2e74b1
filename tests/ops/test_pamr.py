import math

import pytest
import torch
from pydantic import ValidationError

from weakseg.ops.pamr import PAMRSettings, pamr


@pytest.fixture(autouse=True)
def _one_thread():
    # Threads that wait for each other make these tests ten times slower on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def slow_pamr(image, maps, settings):
    """One image, pixel by pixel, in double precision: the equation of `pamr` as it stands."""
    image, maps = image.double(), maps.double()
    _, height, width = image.shape
    offsets = [
        (dy * r, dx * r)
        for r in settings.dilations
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    distance = torch.tensor([math.hypot(dy, dx) for dy, dx in offsets]).double()
    nearness = torch.softmax(-((distance / (settings.position_scale * distance.std())) ** 2), 0)
    for _ in range(settings.iterations):
        result = torch.zeros_like(maps)
        for y in range(height):
            for x in range(width):
                ys = torch.tensor([min(max(y + dy, 0), height - 1) for dy, _ in offsets])
                xs = torch.tensor([min(max(x + dx, 0), width - 1) for _, dx in offsets])
                seen = image[:, ys, xs]
                scale = settings.colour_scale * (seen.std(1) + 1e-8)
                away = (image[:, y, x, None] - seen) / scale[:, None]
                weight = torch.softmax(-(away**2).mean(0), 0)
                weight = weight + settings.position_weight * nearness
                result[:, y, x] = (maps[:, ys, xs] * weight / (1 + settings.position_weight)).sum(1)
        maps = result
    return maps


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (11, 8)])
@pytest.mark.parametrize("position_weight", [0.0, 0.5])
def test_equals_the_equation(size, position_weight):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *size, generator=generator)
    maps = torch.rand(2, 4, *size, generator=generator)
    settings = PAMRSettings(iterations=3, dilations=(1, 3), position_weight=position_weight)
    fast = pamr(images, maps, settings)
    for b in range(2):
        slow = slow_pamr(images[b], maps[b], settings)
        torch.testing.assert_close(fast[b].double(), slow, rtol=1e-4, atol=1e-5)


def test_defaults_are_those_of_the_papers():
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 6, 7, generator=generator)
    maps = torch.rand(2, 6, 7, generator=generator)
    settings = PAMRSettings()
    assert (settings.iterations, settings.dilations) == (10, (1, 2, 4, 8, 12, 24))
    slow = slow_pamr(image, maps, settings)
    fast = pamr(image[None], maps[None])[0]
    torch.testing.assert_close(fast.double(), slow, rtol=1e-3, atol=1e-4)


def test_strips_and_groups_change_nothing():
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(3, 3, 60, 70, generator=generator)
    maps = torch.rand(3, 2, 60, 70, generator=generator)
    together = pamr(images, maps, PAMRSettings(iterations=3))
    apart = pamr(images, maps, PAMRSettings(iterations=3, max_pixels=1024))
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-6)


def test_an_image_does_not_depend_on_its_batch_mates():
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(3, 3, 20, 24, generator=generator)
    maps = torch.rand(3, 2, 20, 24, generator=generator)
    torch.testing.assert_close(pamr(images[1:2], maps[1:2])[0], pamr(images, maps)[1])


def test_colour_scale_does_not_matter():
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (1, 3, 16, 16), generator=generator, dtype=torch.uint8)
    maps = torch.rand(1, 2, 16, 16, generator=generator)
    torch.testing.assert_close(pamr(images, maps), pamr(images / 255, maps), rtol=1e-3, atol=1e-4)


def test_mask_moves_to_the_edge_of_the_image():
    image = torch.zeros(1, 3, 48, 48)
    image[..., 24:] = 1
    image += 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(5))
    foreground = torch.zeros(48, 48)
    foreground[:, 30:] = 1
    maps = torch.stack([1 - foreground, foreground])[None]
    truth = (torch.arange(48) >= 24).expand(48, 48)
    before = (maps.argmax(1)[0] == truth).float().mean()
    after = (pamr(image, maps).argmax(1)[0] == truth).float().mean()
    assert before < 0.9
    assert after > 0.97


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (32, 32), (5, 100)])
def test_constant_images_keep_probabilities(size):
    maps = torch.softmax(torch.randn(1, 3, *size), 1)
    refined = pamr(torch.full((1, 3, *size), 0.5), maps)
    assert refined.isfinite().all()
    torch.testing.assert_close(refined.sum(1), torch.ones(1, *size))


def test_no_iterations_return_the_maps():
    maps = torch.rand(1, 2, 5, 5)
    assert torch.equal(pamr(torch.rand(1, 3, 5, 5), maps, PAMRSettings(iterations=0)), maps)


@pytest.mark.parametrize(
    ("images", "maps", "message"),
    [
        ((3, 8, 8), (1, 2, 8, 8), r"expected images \[B, C, H, W\]"),
        ((1, 3, 8, 8), (2, 2, 8, 8), "one number and size"),
        ((1, 3, 8, 8), (1, 2, 4, 4), "resize"),
        ((1, 3, 0, 8), (1, 2, 0, 8), "with pixels"),
    ],
)
def test_wrong_shapes_are_named(images, maps, message):
    with pytest.raises(ValueError, match=message):
        pamr(torch.zeros(images), torch.zeros(maps))


@pytest.mark.parametrize(
    "wrong", [{"dilations": ()}, {"dilations": (0,)}, {"colour_scale": 0}, {"sigma": 1}]
)
def test_settings_refuse(wrong):
    with pytest.raises(ValidationError):
        PAMRSettings(**wrong)
