"""Images that EXIF turns: in every export, images and masks have one size for every reader."""

import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from weakseg.apps.export import FORMATS
from weakseg.apps.formats.image_files import upright_file
from weakseg.cli import main
from weakseg.data.images import read_image

# Where each format keeps the turned image, and what tells its size.
IMAGES = {
    "voc": ({}, "JPEGImages/b.jpg"),
    "png nnunet": ({"layout": "nnunet"}, "imagesTr/b_0000.png"),
    "png mmseg": ({"layout": "mmseg"}, "img_dir/train/b.jpg"),
    "yolo-seg": ({}, "images/train/b.jpg"),
    "labelme": ({}, "b.jpg"),
    "hf-datasets": ({}, None),
}
MASKS = {
    "voc": "SegmentationClass/b.png",
    "png nnunet": "labelsTr/b.png",
    "png mmseg": "ann_dir/train/b.png",
}
ANNOTATIONS = {"coco": "out.json", "label-studio": "out", "cvat": "out", "geojson": "out"}


def test_every_format_is_tested_here():
    tested = {name.split()[0] for name in IMAGES} | set(ANNOTATIONS) | {"onnx"}
    assert tested == set(FORMATS)


def stored(out, place):
    """The image as a reader sees it that ignores EXIF: RGB [H,W,3]."""
    if place is None:
        rows = parquet.read_table(next((out / "data").iterdir())).to_pylist()
        (row,) = [row for row in rows if row["id"] == "b"]
        data = np.frombuffer(row["image"]["bytes"], np.uint8)
    else:
        data = np.fromfile(out / place, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_upright_without_exif(finished, name):
    options, place = IMAGES[name]
    summary = finished.export(name.split()[0], **options)
    pixels, expected = stored(summary.path, place), finished.image("b")
    assert pixels.shape == expected.shape == (90, 60, 3)
    assert np.abs(pixels.astype(int) - expected).mean() < 2  # saved anew at quality 95
    if name in MASKS:
        with Image.open(summary.path / MASKS[name]) as mask:
            assert mask.size == (60, 90)
    assert len(summary.notes) == 1
    assert "1 of 4 images have an EXIF orientation: " in summary.notes[0]


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_sizes_without_images_are_upright_and_a_note_says_so(finished, name):
    summary = finished.export(name, ANNOTATIONS[name])
    out = summary.path
    if name == "coco":
        records = json.loads(out.read_text())["images"]
        (size,) = [(r["width"], r["height"]) for r in records if r["file_name"] == "b.jpg"]
    elif name == "label-studio":
        (task,) = [
            t for t in json.loads((out / "tasks.json").read_text()) if t["data"]["id"] == "b"
        ]
        result = task["predictions"][0]["result"][0]
        size = (result["original_width"], result["original_height"])
    elif name == "cvat":
        root = ElementTree.parse(out / "annotations.xml").getroot()
        (image,) = [image for image in root.findall("image") if image.get("name") == "b.jpg"]
        size = (int(image.get("width")), int(image.get("height")))
    else:
        about = json.loads((out / "b.geojson").read_text())["weakseg"]
        size = (about["width"], about["height"])
    assert size == (60, 90)
    assert "1 of 4 images have an EXIF orientation: " in summary.notes[0]
    assert "upright" in summary.notes[0]


def test_other_images_are_linked(finished):
    out = finished.export("voc").path / "JPEGImages"
    assert (out / "a.jpg").samefile(finished.file("a"))
    assert not (out / "b.jpg").samefile(finished.file("b"))


def test_the_command_tells_it_once(finished, capsys):
    out = finished.photos.parent / "out"
    assert main(["export", str(finished.path), "--to", "voc", "--out", str(out)]) == 0
    assert capsys.readouterr().err == (
        "weakseg: note: 1 of 4 images have an EXIF orientation: they were written upright, JPEGs "
        "anew at quality 95\n"
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_turned_files_are_written_anew(tmp_path, suffix, orientation):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path, anew = tmp_path / f"x.{suffix}", tmp_path / f"y.{suffix}"
    image = Image.fromarray(pixels).resize((40, 24), Image.Resampling.BICUBIC)
    image.save(path, exif=exif, icc_profile=b"profile" * 20)
    anew.write_bytes(upright_file(path))
    expected = read_image(path).permute(1, 2, 0).numpy()
    with Image.open(anew) as image, Image.open(path) as before:
        assert image.format == before.format
        assert image.getexif().get(0x0112) is None
        assert image.info["icc_profile"] == b"profile" * 20
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    raw = cv2.imdecode(np.fromfile(anew, np.uint8), flags)[..., ::-1]
    if suffix == "jpg":
        assert np.abs(raw.astype(int) - expected).max() <= 12
    else:
        np.testing.assert_array_equal(raw, expected)
