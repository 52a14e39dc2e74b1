"""labelme's JSONs, by its own examples and the fields it writes."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from weakseg.sources.source import open_catalog
from weakseg.types import DataError


def shape(label: str, points, kind: str = "polygon", **more) -> dict:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
        **more,
    }


def record(*shapes, image: str = "a.jpg", **more) -> dict:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": 8,
        "imageWidth": 8,
        **more,
    }


def square(label: str, left: float, top: float, side: float) -> dict:
    right, bottom = left + side, top + side
    return shape(label, [[left, top], [right, top], [right, bottom], [left, bottom]])


def png(pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PLACES = {
    "beside": ("photos/a.jpg", "photos/a.json", "a.jpg", "photos/a"),
    "apart": ("images/a.jpg", "labels/a.json", "../images/a.jpg", "a"),
    "windows": ("images/a.jpg", "labels/a.json", "..\\images\\a.jpg", "a"),
    "moved": ("images/a.jpg", "annotations/a.json", "a.jpg", "a"),
    "absolute": ("images/a.jpg", "labels/a.json", "C:\\Users\\me\\photos\\a.jpg", "a"),
    "parts": ("train/images/a.jpg", "train/labels/a.json", "a.jpg", "train/images/a"),
    "renamed": ("a.jpg", "a.json", "IMG_1.jpg", "a"),
    "other name": ("x.jpg", "a.json", "x.jpg", "x"),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_images_are(made, place):
    image, file, written, sample_id = PLACES[place]
    made.photo(image, 8, 8)
    made.text(file, record(square("cat", 0, 0, 4), image=written))
    assert made.tags() == {sample_id: {"cat"}}
    assert made.check() == ([], [])


def test_parts(made):
    for name in ("train/a", "val/b"):
        made.photo(f"{name}.jpg")
        made.text(f"{name}.json", record(square(name[-1], 0, 0, 4), image=f"{name[-1]}.jpg"))
    assert made.tags(split="train") == {"train/a": {"a"}}
    assert made.tags(split="val") == {"val/b": {"b"}}


def test_one_file_is_a_source(made):
    for name in "ab":
        made.photo(f"{name}.jpg", 8, 8)
        made.text(f"{name}.json", record(square("cat", 0, 0, 4), image=f"{name}.jpg"))
    assert made.tags("a.json") == {"a": {"cat"}}


def test_later_shapes_lie_over_earlier_ones(made):
    made.photo("a.jpg", 8, 8)
    made.text(
        "a.json",
        record(
            square("cat", 0, 0, 8),
            square("dog", 1, 1, 5),
            square("_background_", 2, 2, 2),
            square("__ignore__", 6, 6, 2),
        ),
    )
    assert made.open().classes == ("cat", "dog")
    mask = np.array(made.truth("a"))
    assert [mask[0, 0], mask[1, 1], mask[2, 2], mask[7, 7]] == [1, 2, 0, 255]


def test_the_other_shapes_with_pixels(made):
    made.photo("a.jpg", 8, 8)
    made.text(
        "a.json",
        record(
            shape("box", [[5, 6], [3, 4]], "rectangle"),
            shape("ball", [[2.0, 2.0], [2.0, 3.4]], "circle"),
            shape("mask", [[5, 0], [7, 1]], "mask", mask=png([[1, 0, 1], [0, 1, 0]])),
        ),
    )
    catalog = made.open()
    mask = np.array(made.truth("a"))
    index = {name: k for k, name in enumerate(catalog.classes, start=1)}
    assert np.argwhere(mask == index["box"]).tolist() == [[4, 3], [4, 4], [5, 3], [5, 4]]
    assert np.argwhere(mask == index["mask"]).tolist() == [[0, 5], [0, 7], [1, 6]]
    assert (mask == index["ball"]).sum() == 4
    faults, notes = made.check()
    assert faults == []
    assert any("1 of 1 images have rectangles: their whole area counts" in n for n in notes)


def test_rectangles_alone_are_boxes(made):
    made.photo("a.jpg", 8, 8)
    made.text("a.json", record(shape("cat", [[5, 6], [3, 4]], "rectangle")))
    assert made.tags() == {"a": {"cat"}}
    assert made.truth("a") is None
    assert any("read as boxes, for tags only" in note for note in made.check()[1])


@pytest.mark.parametrize("kind", ["point", "line", "linestrip", "points", "oriented_rectangle"])
def test_shapes_without_pixels_are_tags_only(made, kind):
    for name in "ab":
        made.photo(f"{name}.jpg", 8, 8)
    made.text("a.json", record(square("cat", 0, 0, 3), shape("dog", [[1, 2], [3, 4]], kind)))
    made.text("b.json", record(square("cat", 0, 0, 3), image="b.jpg"))
    assert made.tags() == {"a": {"cat", "dog"}, "b": {"cat"}}
    assert made.truth("a") is None
    assert made.truth("b") is not None


def test_flags_are_tags(made):
    for name, flags in (("a", {"cat": True, "dog": False}), ("b", {"__ignore__": True})):
        made.photo(f"{name}.jpg")
        made.text(f"{name}.json", record(image=f"{name}.jpg", flags=flags))
    assert made.tags() == {"a": {"cat"}}
    faults, [note] = made.check()
    assert faults == []
    assert "image 'b' has the flag __ignore__, so it is left out" in note


def test_an_image_without_shapes_is_all_background(made):
    for name, shapes in (("a", [square("cat", 0, 0, 3)]), ("b", [])):
        made.photo(f"{name}.jpg", 8, 8)
        made.text(f"{name}.json", record(*shapes, image=f"{name}.jpg"))
    assert made.truth("b") == np.zeros((8, 8)).tolist()
    faults, [note] = made.check()
    assert faults == []
    assert "nothing is marked in 1 of 2 images" in note


def test_the_picture_inside_is_never_taken_for_the_photo(made):
    made.photo("b.jpg", 8, 8)
    made.text("b.json", record(square("cat", 0, 0, 3), image="b.jpg"))
    made.text("a.json", record(square("cat", 0, 0, 3), imageData=png(np.zeros((8, 8)))))
    assert made.tags() == {"b": {"cat"}}
    [fault], _ = made.check()
    assert "there is no image 'a.jpg'" in fault
    assert "copies inside of the JSONs are not used" in fault


def test_sizes_are_of_the_upright_photo(made):
    made.photo("a.jpg", 16, 8, turned=True)
    made.text("a.json", record(square("cat", 0, 0, 3), imageHeight=8, imageWidth=16))
    assert np.array(made.truth("a")).shape == (8, 16)
    assert made.check() == ([], [])
    made.text("a.json", record(square("cat", 0, 0, 3), imageHeight=16, imageWidth=8))
    [fault], _ = made.check()
    assert "8×16 pixels, its image 16×8 once turned upright" in fault


@pytest.mark.parametrize("size", [None, True, 0, -8, 8.0, 1 << 40])
def test_without_a_size_the_images_counts(made, size):
    made.photo("a.jpg", 16, 8, turned=True)
    made.text("a.json", record(square("cat", 0, 0, 3), imageHeight=size, imageWidth=size))
    assert np.array(made.truth("a")).shape == (8, 16)


def test_labels_are_kept_as_written_but_for_blanks(made):
    made.photo("a.jpg", 8, 8)
    made.text("a.json", record(square("cat-1 ", 0, 0, 3), square("tv/monitor", 4, 4, 3)))
    assert made.tags() == {"a": {"cat-1", "tv/monitor"}}
    assert any("spaces around the label 'cat-1 '" in note for note in made.check()[1])


def test_damaged_files_are_faults_of_theirs(made):
    for name in ("good", "torn", "torn2", "odd", "nameless"):
        made.photo(f"{name}.jpg", 8, 8)
    made.text("good.json", record(square("cat", 0, 0, 3), image="good.jpg"))
    for name in ("torn", "torn2"):
        made.text(f"{name}.json", '{"version": "5", "shapes": [], "imagePath": "torn.jpg", ')
    made.text("odd.json", record(shape("cat", [[1, "x"], [2, 3], [4, 5]]), image="odd.jpg"))
    made.text("nameless.json", record(shape(None, [[1, 2]], "point"), image="nameless.jpg"))
    made.text("other.json", {"anything": 1})
    assert set(made.tags()) == {"good", "odd", "nameless"}
    assert made.truth("odd") is None
    [fault], notes = made.check()
    assert "(and 3 more like this)" in fault
    assert any("1 JSON files are not labelme's" in note for note in notes)


def test_a_mask_that_is_no_png_is_found_by_check(made):
    made.photo("a.jpg", 8, 8)
    made.text("a.json", record(shape("cat", [[0, 0], [2, 2]], "mask", mask="bm8=")))
    assert made.tags() == {"a": {"cat"}}
    [fault], _ = made.check()
    assert "a region of 'cat' cannot be drawn" in fault


def test_labelme_beside_yolo_is_read_with_a_note(made):
    made.photo("a.jpg", 8, 8)
    made.text("a.json", record(square("cat", 0, 0, 3)))
    made.text("a.txt", "0 0.5 0.5 0.2 0.2\n")
    made.text("classes.txt", "cat\n")
    faults, [note] = made.check()
    assert faults == []
    assert "read as labelme; there are also annotations of yolo; give --kind yolo" in note
    assert open_catalog(made.root, kind="yolo")["a"].tags == {0}


def test_true_masks_beside_annotations_are_no_second_kind(made):
    made.photo("images/a.jpg", 8, 8)
    made.text("labels/a.json", record(square("cat", 0, 0, 3), image="../images/a.jpg"))
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 1
    (made.root / "masks").mkdir()
    Image.fromarray(mask).save(made.root / "masks" / "a.png")
    assert made.truth("a") == mask.tolist()
    assert made.check() == ([], [])


def test_a_folder_without_annotations_is_not_labelme(made):
    made.photo("a.jpg")
    made.text("config.json", {"shapes": 3})
    with pytest.raises(DataError, match="no tags"):
        made.open()
