import numpy as np
import pytest
from PIL import Image

from weakseg.planning.data_facts import DataFacts, evenly
from weakseg.types import Catalog, Sample


def catalog(folder, sizes, tags, *, colours=True):
    samples = []
    for number, ((width, height), own) in enumerate(zip(sizes, tags, strict=True)):
        path = folder / f"{number}.png"
        channels = 3 if colours else 1
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, channels))
        pixels = np.broadcast_to(pixels, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(str(number), path, frozenset(own)))
    return Catalog(("a", "b", "c"), tuple(samples))


def test_a_catalog_in_a_few_numbers(tmp_path):
    sizes = [(60, 40), (80, 40), (40, 90), (70, 50)]
    found = DataFacts.of(catalog(tmp_path, sizes, [{0}, {0, 1}, {0, 1, 2}, set()]))
    assert (found.images, found.classes, found.tags, found.untagged) == (4, 3, 6, 1)
    assert found.counts == (1, 2, 3)
    assert (found.long_side, found.short_side) == (70, 40)
    assert found.aspect == 70 / 40
    assert found.class_share == 2 / 4
    assert not found.gray
    assert found.tried == 0


def test_gray_images_saved_as_rgb_are_gray(tmp_path):
    assert DataFacts.of(catalog(tmp_path, [(60, 40)], [{0}], colours=False)).gray


@pytest.mark.parametrize("most", [1, 3, 10, 20])
def test_evenly_chosen_from_all(tmp_path, most):
    samples = catalog(tmp_path, [(40, 40)] * 10, [{0}] * 10).samples
    chosen = evenly(samples, most)
    assert len(chosen) == min(most, 10)
    assert len({sample.id for sample in chosen}) == len(chosen)
    assert chosen[0] == samples[0]
