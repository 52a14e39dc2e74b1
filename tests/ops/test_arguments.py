"""Public functions take what means something, and refuse the rest with a word."""

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.models.amr import AMR, AttentionModulation
from weakseg.models.segmenter import Segmenter
from weakseg.ops.crf import dense_crf
from weakseg.ops.pamr import pamr
from weakseg.ops.propagation import spread
from weakseg.ops.walk import random_walk

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
SEEDS = np.zeros((12, 16), np.uint8)
SEEDS[:6] = 1


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        Image.fromarray(PIXELS).convert("RGBA"),
    ],
    ids=["pillow", "array", "tensor", "pillow with alpha"],
)
@pytest.mark.parametrize("seeds", [SEEDS, torch.from_numpy(SEEDS)], ids=["array", "tensor"])
def test_an_image_in_any_form_gives_the_same_labels(image, seeds):
    expected = dense_crf(torch.from_numpy(PIXELS).permute(2, 0, 1), torch.from_numpy(SEEDS))
    assert torch.equal(dense_crf(image, seeds), expected)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("cat.jpg", "got str"),
        (PIXELS.astype(np.float32), "float32"),
        (PIXELS[..., 0], r"\[12, 16\]"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), r"\[3, 0, 4\]"),
    ],
)
def test_what_is_no_image_is_named(image, words):
    with pytest.raises(ValueError, match=f"expected an RGB image.*{words}"):
        dense_crf(image, SEEDS)


def test_labels_of_another_kind_are_named():
    with pytest.raises(ValueError, match=r"expected label maps or probabilities.*got list"):
        dense_crf(PIXELS, SEEDS.tolist())


MAPS, WALL = np.ones((2, 5, 6), np.float32), np.zeros((5, 6), np.float32)
NAN = np.full_like(WALL, np.nan)


def test_a_walk_takes_arrays():
    expected = random_walk(torch.from_numpy(MAPS), torch.from_numpy(WALL))
    assert torch.equal(random_walk(MAPS, WALL), expected)


@pytest.mark.parametrize(
    ("maps", "boundary", "words"),
    [
        (MAPS * np.nan, WALL, "maps of finite numbers"),
        (MAPS * np.inf, WALL, "maps of finite numbers"),
        (MAPS, NAN, "a boundary map of finite numbers"),
        (-MAPS, WALL, "maps ≥ 0, got -1"),
        (MAPS, WALL + 2, "probabilities in 0..1, got 2"),
        (MAPS.tolist(), WALL, "maps as tensor or array, got list"),
    ],
)
@pytest.mark.parametrize("steps", [0, 8])
def test_a_walk_refuses_what_would_give_nonsense(maps, boundary, words, steps):
    with pytest.raises(ValueError, match=words):
        random_walk(maps, boundary, steps=steps)


def test_other_steps_refuse_nan_too():
    images, maps = torch.rand(1, 3, 8, 8), torch.full((1, 2, 8, 8), torch.nan)
    with pytest.raises(ValueError, match="maps of finite numbers"):
        pamr(images, maps)
    with pytest.raises(ValueError, match="features of finite numbers"):
        spread(torch.rand(2, 8, 8), torch.full((4, 8, 8), torch.inf))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"channels": 0}, "channels ≥ 1"),
        ({"channels": 8, "reduction": 0}, "reduction ≥ 1, got 8 and 0"),
        ({"channels": 8, "amplitude": "foo"}, "density, unit, mean, got 'foo'"),
        ({"channels": 8, "statistics": "foo"}, "per_sample, per_batch, got 'foo'"),
    ],
)
def test_attention_modulation_names_what_it_expects(arguments, words):
    with pytest.raises(ValueError, match=words):
        AttentionModulation(**arguments)


@pytest.mark.parametrize("network", [AMR, Segmenter])
@pytest.mark.parametrize("classes", [0, -1, "20", 2.5])
def test_networks_need_classes(network, classes):
    with pytest.raises(ValueError, match="expected classes ≥ 1"):
        network(classes)


@pytest.mark.parametrize("shape", [(1, 12, 16), (2, 12, 16), (1, 3, 12, 16), (12, 16)])
def test_images_of_other_shapes_are_refused_with_what_was_expected(shape):
    with pytest.raises(ValueError, match="expected an RGB image with pixels"):
        dense_crf(torch.zeros(shape, dtype=torch.uint8), SEEDS)
