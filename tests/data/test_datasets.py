import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.data.datasets import (
    BatchesOfOneSize,
    ShuffledBatches,
    TaggedViews,
    WholeImages,
    tag_vector,
)
from weakseg.data.transforms import AugmentSettings, augment
from weakseg.types import Catalog, Sample

SETTINGS = AugmentSettings(crop=64, long_side=(48, 96))


@pytest.fixture
def catalog(tmp_path):
    samples = []
    for index, size in enumerate([(80, 60), (50, 70), (8, 8), (400, 20)]):
        path = tmp_path / f"{index}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(str(index), path, frozenset({index % 2})))
    return Catalog(("a", "b", "c"), tuple(samples))


def test_views_have_one_size_and_depend_on_seed_epoch_and_index_alone(catalog):
    views = TaggedViews(catalog, SETTINGS, seed=3)
    first = [views[0, index] for index in range(4)]
    again = [TaggedViews(catalog, SETTINGS, seed=3)[0, index] for index in (3, 2, 1, 0)][::-1]
    for (view, tags), (same, same_tags) in zip(first, again, strict=True):
        assert view.shape == (3, 64, 64)
        assert view.dtype == torch.uint8
        assert torch.equal(view, same)
        assert torch.equal(tags, same_tags)
    assert not torch.equal(first[0][0], views[1, 0][0])
    assert not torch.equal(first[0][0], TaggedViews(catalog, SETTINGS, seed=4)[0, 0][0])
    assert first[1][1].tolist() == [0, 1, 0]


def test_small_images_are_padded_and_never_lose_a_pixel():
    image = torch.full((3, 10, 40), 255, dtype=torch.uint8)
    settings = AugmentSettings(crop=64, long_side=(40, 40), fill=7)
    view = augment(image, settings, torch.Generator().manual_seed(0))
    assert int((view[0] == 255).sum()) == 10 * 40
    assert int((view[0] == 7).sum()) == 64 * 64 - 10 * 40


def test_the_window_shows_what_resizing_the_whole_image_would():
    image = torch.linspace(0, 255, 200).repeat(3, 160, 1).to(torch.uint8)
    settings = AugmentSettings(crop=64, long_side=(100, 100), flip=0)
    view = augment(image, settings, torch.Generator().manual_seed(5)).float()
    steps = view[0, 0, 1:] - view[0, 0, :-1]
    # A ramp stays a ramp of the slope that the scale gives it: 255 / 100 a pixel.
    assert float(steps.mean()) == pytest.approx(255 / 100, abs=0.1)
    assert torch.allclose(view[:, :1].expand_as(view), view, atol=1)


def test_mirroring_mirrors():
    image = torch.arange(64, dtype=torch.uint8).repeat(3, 64, 1)
    straight = AugmentSettings(crop=64, long_side=(64, 64), flip=0)
    mirrored = straight.model_copy(update={"flip": 1.0})
    a = augment(image, straight, torch.Generator().manual_seed(0))
    b = augment(image, mirrored, torch.Generator().manual_seed(0))
    assert torch.equal(a.flip(-1), b)


def test_each_epoch_shows_each_image_once_in_another_order():
    batches = list(ShuffledBatches(10, 4, 2, seed=1))
    assert len(batches) == len(ShuffledBatches(10, 4, 2, seed=1)) == 6
    assert all(len(batch) == 4 for batch in batches)
    orders = []
    for epoch in (0, 1):
        keys = [key for batch in batches for key in batch if key[0] == epoch]
        assert {index for _, index in keys} == set(range(10))
        assert len({index for _, index in keys[:10]}) == 10
        orders.append(keys)
    assert [i for _, i in orders[0]] != [i for _, i in orders[1]]
    assert batches == list(ShuffledBatches(10, 4, 2, seed=1))


def test_fewer_images_than_a_batch_fill_it():
    assert [len(batch) for batch in ShuffledBatches(3, 8, 1)] == [8]


def test_batches_of_one_size_hold_every_image_once():
    sizes = [(10, 20), (20, 10), (10, 20), (30, 30), (10, 20)]
    batches = list(BatchesOfOneSize(sizes, 2, 10_000))
    assert sorted(index for batch in batches for index in batch) == list(range(5))
    for batch in batches:
        assert len(batch) <= 2
        assert len({sizes[index] for index in batch}) == 1
    assert all(len(batch) == 1 for batch in BatchesOfOneSize(sizes, 8, 1))


def test_whole_images_come_in_the_size_asked_for(catalog):
    images = WholeImages(catalog.samples, [(60, 80), (35, 25), (16, 16), (8, 160)])
    assert [tuple(images[i].shape) for i in range(4)] == [
        (3, 60, 80),
        (3, 35, 25),
        (3, 16, 16),
        (3, 8, 160),
    ]


def test_tags_become_a_vector():
    sample = Sample("x", None, frozenset())
    assert tag_vector(sample, 3).tolist() == [0, 0, 0]


def test_ranges_must_be_ordered():
    with pytest.raises(ValueError, match="16 ≤ low ≤ high"):
        AugmentSettings(long_side=(200, 100))
