"""True masks in all the forms that sources have."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.data.rle import brush_rle, coco_rle, cvat_rle
from weakseg.data.truth import IGNORED, MappedMask, Region, RegionMask, true_mask
from weakseg.faults import FileError
from weakseg.types import Sample

SQUARE = np.zeros((6, 8), bool)
SQUARE[1:4, 2:6] = True
CORNERS = [(2, 1), (6, 1), (6, 4), (2, 4)]


def png(pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


SHAPES = {
    "polygons": [CORNERS],
    "rings": [CORNERS],
    "rectangle": (2, 1, 6, 4),
    "png": (png(np.ones((3, 4))), 2, 1),
    "coco_rle": coco_rle(SQUARE),
    "cvat_rle": cvat_rle(SQUARE),
    "brush_rle": brush_rle(SQUARE),
    "bits": SQUARE.tolist(),
}


@pytest.mark.parametrize("form", SHAPES)
def test_every_form_draws_the_same_square(form):
    mask = RegionMask(Path("a.json"), (6, 8), (Region("dog", form, SHAPES[form]),))
    np.testing.assert_array_equal(mask.read(["cat", "dog"]), SQUARE * 2)
    assert mask.digest() == mask.digest()
    other = RegionMask(Path("a.json"), (6, 8), (Region("cat", form, SHAPES[form]),))
    assert mask.digest() != other.digest()


@pytest.mark.parametrize("flat", [[2, 1, 6, 1, 6, 4, 2, 4], np.ravel(CORNERS)])
def test_a_polygon_may_be_one_number_after_the_other(flat):
    mask = RegionMask(Path("a.json"), (6, 8), (Region("dog", "polygons", [flat]),))
    np.testing.assert_array_equal(mask.read(["dog"]), SQUARE)


def test_an_ellipse_is_turned_clockwise():
    flat = RegionMask(Path("a"), (9, 9), (Region("dog", "ellipse", (4.5, 4.5, 4, 1, 0)),))
    tall = RegionMask(Path("a"), (9, 9), (Region("dog", "ellipse", (4.5, 4.5, 4, 1, 90)),))
    np.testing.assert_array_equal(flat.read(["dog"]).T, tall.read(["dog"]))
    falling = RegionMask(Path("a"), (9, 9), (Region("dog", "ellipse", (4.5, 4.5, 4, 1, 45)),))
    assert (falling.read(["dog"])[2, 2], falling.read(["dog"])[2, 6]) == (1, 0)
    assert flat.read(["dog"]).sum(axis=1).tolist() == [0, 0, 0, 1, 9, 1, 0, 0, 0]


@pytest.mark.parametrize(("left", "top"), [(-1, -2), (6, 5)])
def test_a_png_is_cut_at_the_images_edges(left, top):
    part = np.arange(1, 13).reshape(4, 3) % 2
    mask = RegionMask(Path("a"), (6, 8), (Region("dog", "png", (png(part), left, top)),))
    canvas = np.zeros((14, 16), np.uint8)
    canvas[4 + top : 8 + top, 4 + left : 7 + left] = part
    np.testing.assert_array_equal(mask.read(["dog"]), canvas[4:10, 4:12])


def test_the_size_may_be_the_images(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    region = Region("dog", "polygons", [CORNERS])
    mask = RegionMask(Path("a.json"), tmp_path / "a.png", (region,))
    np.testing.assert_array_equal(mask.read(["dog"]), SQUARE)
    assert mask.digest() == RegionMask(Path("a.json"), (6, 8), (region,)).digest()


def test_a_size_beyond_all_images_is_refused():
    mask = RegionMask(Path("a.json"), (1 << 20, 1 << 20), ())
    with pytest.raises(FileError, match=r"a\.json: an image of 1048576×1048576 pixels"):
        mask.read(["cat"])


def test_later_regions_lie_over_earlier_ones():
    regions = [
        Region("cat", "rectangle", (0, 0, 8, 6)),
        Region(IGNORED, "rectangle", (1, 1, 7, 5)),
        Region("stranger", "rectangle", (2, 2, 4, 4)),
    ]
    mask = RegionMask(Path("a.json"), (6, 8), tuple(regions)).read(["cat"])
    assert (mask[0, 0], mask[1, 1], mask[2, 2]) == (1, 255, 0)


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        ("polygons", [[1, 2, 3]]),
        ("coco_rle", {"size": [3, 3], "counts": [9]}),
        ("rectangle", "no"),
        ("ellipse", (1, 1, -1, 1, 0)),
        ("png", ("bm8=", 0, 0)),
        ("png", (png(np.ones((400, 400))), 0, 0)),
    ],
)
def test_a_region_that_cannot_be_drawn_is_a_fault_of_its_file(form, shape):
    mask = RegionMask(Path("a.json"), (6, 8), (Region("cat", form, shape),))
    with pytest.raises(FileError, match=r"a\.json: a region of 'cat' cannot be drawn"):
        mask.read(["cat"])


def test_indices_and_colours_by_a_list(tmp_path):
    indices = np.array([[0, 3, 9]], np.uint8)
    Image.fromarray(indices).save(tmp_path / "gray.png")
    by_index = MappedMask(tmp_path / "gray.png", {0: "", 3: "dog", 9: IGNORED})
    assert by_index.read(["cat", "dog"]).tolist() == [[0, 2, 255]]
    colours = np.array([[(0, 0, 0), (128, 0, 0), (0, 128, 0)]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    table = {(0, 0, 0): "", (128, 0, 0): "cat", (0, 128, 0): "dog"}
    by_colour = MappedMask(tmp_path / "rgb.png", table)
    assert by_colour.read(["dog", "cat"]).tolist() == [[0, 2, 1]]
    with pytest.raises(FileError, match=r"colour \(0, 128, 0\) stands for no class"):
        MappedMask(tmp_path / "rgb.png", {(0, 0, 0): "", (128, 0, 0): "cat"}).read(["cat"])
    with pytest.raises(FileError, match="index 9 stands for no class"):
        MappedMask(tmp_path / "gray.png", {0: "", 3: "dog"}).read(["dog"])


def test_true_mask_takes_what_is_there(tmp_path):
    Image.fromarray(SQUARE.astype(np.uint8)).save(tmp_path / "m.png")
    annotation = RegionMask(Path("a.json"), (6, 8), (Region("dog", "polygons", [CORNERS]),))
    for sample in (
        Sample("a", Path("a.jpg"), frozenset([0]), mask=tmp_path / "m.png"),
        Sample("a", Path("a.jpg"), frozenset([0]), annotation=annotation),
    ):
        np.testing.assert_array_equal(true_mask(sample, ["dog"]), SQUARE)
    assert true_mask(Sample("a", Path("a.jpg"), frozenset()), ["dog"]) is None


@pytest.mark.parametrize("size", [(2.5, 3), (0, 3), (3, -1), (None, 3), ("3", 3), (True, 3)])
def test_a_size_that_is_none_is_told(size):
    mask = RegionMask(Path("a.json"), size, ())
    with pytest.raises(FileError, match=r"a\.json: an image of .* pixels: no size"):
        mask.read(("cat",))
