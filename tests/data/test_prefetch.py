import threading

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.data import prefetch as ahead
from weakseg.data.prefetch import read_in_batches
from weakseg.faults import FileError


def image(height, width, value=0):
    return np.full((height, width, 3), value, np.uint8)


def test_batches_of_one_size_the_largest_first():
    images = [image(8, 8), image(16, 8), image(8, 8), image(16, 8), image(8, 8)]
    batches = list(read_in_batches(images, lambda size: size, lambda size: 2))
    assert [[one.number for one in batch] for batch in batches] == [[1, 3], [0, 2], [4]]
    assert all(one.pixels.shape == (3, *one.size) for batch in batches for one in batch)


def test_images_are_resized_to_what_the_network_sees():
    (batch,) = read_in_batches([image(8, 8), image(40, 8)], lambda size: (10, 12), lambda size: 9)
    assert [one.size for one in batch] == [(8, 8), (40, 8)]
    assert [one.pixels.shape for one in batch] == [(3, 10, 12)] * 2


def test_bad_files_come_with_their_error_beside_the_others(tmp_path):
    missing, damaged = tmp_path / "missing.jpg", tmp_path / "damaged.png"

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:4000])
    images = [image(64, 64), missing, damaged, image(64, 64)]
    found = {
        one.number: one.pixels
        for batch in read_in_batches(images, lambda size: size, lambda size: 4)
        for one in batch
    }
    assert isinstance(found[1], FileError)
    assert isinstance(found[2], FileError)
    assert found[2].kind == "image_damaged"
    assert torch.is_tensor(found[0])
    assert torch.is_tensor(found[3])


def test_images_are_taken_some_at_a_time_and_threads_end(monkeypatch):
    monkeypatch.setattr(ahead, "_WINDOW", 4)
    taken = []

    def images():
        for number in range(1000):
            taken.append(number)
            yield image(8, 8, number % 256)

    batches = read_in_batches(images(), lambda size: size, lambda size: 2)
    assert [int(one.pixels.max()) for one in next(batches)] == [0, 1]
    assert len(taken) <= 4 * (ahead._AHEAD + 1)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("weakseg-read")]


def test_a_size_of_which_not_one_fits_goes_alone():
    batches = list(read_in_batches([image(8, 8)] * 3, lambda size: size, lambda size: 0))
    assert [len(batch) for batch in batches] == [1, 1, 1]


def test_no_images():
    assert list(read_in_batches([], lambda size: size, lambda size: 1)) == []


def test_what_is_no_image_is_the_callers_fault():
    with pytest.raises(ValueError, match="expected an RGB"):
        list(read_in_batches([np.zeros(3, np.uint8)], lambda size: size, lambda size: 1))
