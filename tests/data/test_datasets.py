import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.data.datasets import (
    BatchesOfOneSize,
    MaskedViews,
    ShuffledBatches,
    TaggedViews,
    WholeImages,
    tag_vector,
)
from weakseg.data.images import read_image
from weakseg.data.masks import write_mask
from weakseg.data.transforms import (
    AugmentSettings,
    MaskAugmentSettings,
    augment,
    augment_pair,
)
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


def test_a_limit_cuts_the_epochs_short_and_never_lengthens_them():
    everything = list(ShuffledBatches(10, 4, 2, seed=1))
    cut = ShuffledBatches(10, 4, 2, seed=1, limit=4)
    assert (len(cut), list(cut)) == (4, everything[:4])
    assert list(ShuffledBatches(10, 4, 2, seed=1, limit=40)) == everything


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


MASK_SETTINGS = MaskAugmentSettings(crop=64, long_side=(48, 96), color=0.0)


@pytest.fixture
def masks(catalog, tmp_path):
    """Masks by which every view can be compared with its image: bright is 1, dark 0."""
    paths = []
    for sample in catalog:
        shape = read_image(sample.image).shape[-2:]
        mask = torch.zeros(shape, dtype=torch.uint8)
        mask[: shape[0] // 2, : shape[1] // 3] = 1
        Image.fromarray((mask * 255)[..., None].expand(-1, -1, 3).numpy()).save(sample.image)
        paths.append(tmp_path / f"{sample.id}-mask.png")
        write_mask(paths[-1], mask)
    return paths


def test_image_and_mask_are_seen_alike(catalog, masks):
    views = MaskedViews(catalog.samples, masks, MASK_SETTINGS, seed=1)
    assert len(views) == 4
    differing = seen = 0
    for epoch in range(10):
        for index in range(3):
            image, labels = views[epoch, index]
            assert image.shape == (3, 64, 64)
            assert labels.shape == (64, 64)
            assert labels.dtype == torch.uint8
            known = labels != 255
            assert set(labels.unique().tolist()) <= {0, 1, 255}
            differing += int((((image[0] > 127) != (labels == 1)) & known).sum())
            seen += int(known.sum())
            assert int((image[0] == 128).sum()) >= int((~known).sum())
    assert differing < 0.02 * seen


def test_masked_views_depend_on_seed_epoch_and_index_alone(catalog, masks):
    settings = MASK_SETTINGS.model_copy(update={"color": 0.4})
    views = MaskedViews(catalog.samples, masks, settings, seed=3)
    first = [views[0, index] for index in range(4)]
    again = [
        MaskedViews(catalog.samples, masks, settings, seed=3)[0, index] for index in (3, 2, 1, 0)
    ]
    for one, two in zip(first, again[::-1], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[0][1], views[1, 0][1])
    other = MaskedViews(catalog.samples, masks, settings, seed=4)
    assert not torch.equal(first[0][1], other[0, 0][1])


def test_colours_vary_and_labels_do_not(catalog, masks):
    plain = MaskedViews(catalog.samples, masks, MASK_SETTINGS, seed=3)
    vivid = MaskedViews(
        catalog.samples, masks, MASK_SETTINGS.model_copy(update={"color": 0.5}), seed=3
    )
    for epoch in range(3):
        (a, labels), (b, same) = plain[epoch, 0], vivid[epoch, 0]
        assert torch.equal(labels, same)
        assert not torch.equal(a, b)


def test_a_mask_fits_an_image_decoded_at_a_part_of_its_size():
    mask = torch.zeros(80, 120, dtype=torch.uint8)
    mask[:, 60:] = 7
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[..., 15:] = 255
    settings = MaskAugmentSettings(crop=64, long_side=(60, 60), flip=0, color=0.0)
    view, labels = augment_pair(image, mask, settings, torch.Generator().manual_seed(0))
    known = labels != 255
    assert set(labels.unique().tolist()) == {0, 7, 255}
    assert float((((view[0] > 127) == (labels == 7)) | ~known).float().mean()) > 0.98
