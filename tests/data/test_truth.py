"""True masks in all the forms that sources have."""

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

SHAPES = {
    "polygons": [CORNERS],
    "rings": [CORNERS],
    "rectangle": (2, 1, 6, 4),
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
    [("polygons", [[1, 2, 3]]), ("coco_rle", {"size": [3, 3], "counts": [9]}), ("rectangle", "no")],
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
