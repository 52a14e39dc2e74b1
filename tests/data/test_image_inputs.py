from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from weakseg.data.image_inputs import given_pixels, given_size, listed_images
from weakseg.faults import FileError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_one_image_in_any_form_is_the_same(pixels, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    expected = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (path, str(path), Image.open(path), pixels, expected):
        assert given_size(image) == (20, 30)
        assert torch.equal(given_pixels(image, (20, 30)), expected)
        assert list(listed_images(image)) == [image] or listed_images(image)[0] is image


def test_gray_becomes_three_channels(pixels):
    gray = pixels[..., 0]
    for image in (gray, torch.from_numpy(gray), Image.fromarray(gray)):
        read = given_pixels(image, (20, 30))
        assert read.shape == (3, 20, 30)
        assert torch.equal(read[2], torch.from_numpy(gray))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied_to_files_and_pillow_images(pixels, tmp_path, orientation):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    size = (20, 30) if orientation < 5 else (30, 20)
    image = Image.open(path)
    assert given_size(path) == given_size(image) == size
    assert torch.equal(given_pixels(path, size), given_pixels(image, size))
    upright = ImageOps.exif_transpose(Image.open(path))
    assert torch.equal(given_pixels(path, size), given_pixels(np.asarray(upright), size))


def test_resizing(pixels):
    assert given_pixels(pixels, (10, 15)).shape == (3, 10, 15)
    assert given_pixels(np.full((20, 30, 3), 7, np.uint8), (40, 60)).unique().tolist() == [7]


def test_a_batch_is_a_list(pixels):
    batch = torch.from_numpy(np.stack([pixels, pixels])).permute(0, 3, 1, 2)
    assert [one.shape for one in listed_images(batch)] == [(3, 20, 30)] * 2
    several = [pixels, "a.png"]
    assert listed_images(several) is several


@pytest.mark.parametrize(
    ("image", "about"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"array uint8 \[H,W,3\] or gray \[H,W\], got uint8"),
        (torch.zeros(20, 30, 3, dtype=torch.uint8), r"tensor uint8 \[3,H,W\] or gray \[H,W\]"),
        (torch.zeros(3, 20, 30), r"got torch.float32 \(3, 20, 30\)"),
        (np.zeros(5, np.uint8), r"got uint8 \(5,\)"),
    ],
)
def test_what_is_no_image_is_refused(image, about):
    with pytest.raises(ValueError, match=about):
        given_size(image)


def test_a_missing_file():
    with pytest.raises(FileError, match="no such file"):
        given_size(Path("nowhere.jpg"))
