"""YOLO's layouts, by Ultralytics' documentation and exports of Roboflow, CVAT and LabelImg."""

import numpy as np
import pytest
from PIL import Image

from weakseg.sources.check import check_catalog
from weakseg.types import DataError

NAMES = "names:\n  0: cat\n  1: dog\n"
BOX = "{} 0.5 0.5 0.25 0.25\n"
POLYGON = "0 0.0 0.0 0.5 0.0 0.5 0.5 0.25 0.75 0.0 0.5\n"
QUAD = "0 0.0 0.0 0.5 0.0 0.5 0.5 0.0 0.5\n"


def pair(made, first: str, second: str) -> None:
    """An image of a cat, one of cat and dog, and their labels."""
    for pattern, lines in ((first, BOX.format(0)), (second, BOX.format(0) + BOX.format("1.0"))):
        made.photo(pattern)
        folder, slash, name = pattern.rpartition("/")
        folder = folder.replace("images", "labels")
        made.text(f"{folder}{slash}{name[:-4]}.txt", lines)


LAYOUTS = {
    "ultralytics": ("images/train/a.jpg", "images/val/b.jpg", "train/a", "val/b"),
    "roboflow": ("train/images/a.jpg", "valid/images/b.jpg", "train/images/a", "valid/images/b"),
    "beside": ("train/a.jpg", "valid/b.jpg", "train/a", "valid/b"),
    "flat": ("images/a.jpg", "images/b.jpg", "a", "b"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("declared", ["data.yaml", "classes.txt"])
def test_layouts(made, layout, declared):
    first, second, *ids = LAYOUTS[layout]
    pair(made, first, second)
    made.text(declared, NAMES + "nc: 2\n" if declared == "data.yaml" else "cat\ndog\n")
    assert made.tags() == {ids[0]: {"cat"}, ids[1]: {"cat", "dog"}}
    assert made.open().classes == ("cat", "dog")
    assert made.check() == ([], [])


SPLITS = {
    "folders": ("train: images/train\nval: images/val\n", {}),
    "up": ("train: ../train\nval: ../val\ntest: ../test\n", {}),
    "absolute": ("path: /kaggle/data\ntrain: /kaggle/data/images/train\nval: images/val\n", {}),
    "lists": (
        "path: .\ntrain: train.txt\nval: val.txt\n",
        {"train.txt": "./images/train/a.jpg\n", "val.txt": "/data/me/images/val/b.jpg\n"},
    ),
    "several": ("train: [images/train]\nval: [images/val, images/nowhere]\n", {}),
}


@pytest.mark.parametrize("way", SPLITS)
def test_parts_of_data_yaml(made, way):
    written, lists = SPLITS[way]
    where = "train/images/a.jpg", "val/images/b.jpg"
    if way != "up":
        where = "images/train/a.jpg", "images/val/b.jpg"
    pair(made, *where)
    made.photo("images/elsewhere/c.jpg")
    made.text("data.yaml", written + "names: [cat, dog]\n")
    for name, content in lists.items():
        made.text(name, content)
    assert list(made.tags(split="train").values()) == [{"cat"}]
    assert list(made.tags(split="val").values()) == [{"cat", "dog"}]
    assert len(made.tags()) == 2
    assert made.tags("data.yaml") == made.tags()
    faults, notes = made.check()
    assert faults == []
    assert any("elsewhere/c" in note for note in notes)
    with pytest.raises(DataError, match="known splits: train, val"):
        made.open(split="dev")


def test_the_yaml_may_be_in_another_folder(made):
    pair(made, "images/train/a.jpg", "images/train/b.jpg")
    made.text("configs/set.yaml", "path: ..\ntrain: images/train\n" + NAMES)
    assert made.tags("configs/set.yaml") == {"train/a": {"cat"}, "train/b": {"cat", "dog"}}


def test_darknet_as_cvat_writes_it(made):
    pair(made, "obj_train_data/a.jpg", "obj_valid_data/b.jpg")
    made.text("obj.names", "cat\ndog\n")
    made.text(
        "obj.data",
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
    )
    made.text("train.txt", "data/obj_train_data/a.jpg\n")
    made.text("valid.txt", "data/obj_valid_data/b.jpg\n")
    assert made.tags(split="train") == {"obj_train_data/a": {"cat"}}
    assert made.tags(split="valid") == {"obj_valid_data/b": {"cat", "dog"}}
    faults, [note] = made.check()
    assert faults == []
    assert "'data/obj_train_data/a.jpg' is taken for 'obj_train_data/a.jpg'" in note


def test_label_studio_exports_yolo_with_notes(made):
    pair(made, "images/0a1b2c3d-a.jpg", "images/0a1b2c3d-b.jpg")
    made.text("classes.txt", "cat\ndog\n")
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    info = {"year": 2024, "version": "1.0", "contributor": "Label Studio"}
    made.text("notes.json", {"categories": categories, "info": info})
    assert made.tags() == {"0a1b2c3d-a": {"cat"}, "0a1b2c3d-b": {"cat", "dog"}}
    assert made.check() == ([], [])


def test_names_beside_the_labels(made):
    pair(made, "train/a.jpg", "valid/b.jpg")
    made.text("train/_darknet.labels", "cat\ndog\n")
    made.text("valid/_darknet.labels", "cat\ndog\n")
    assert made.tags() == {"train/a": {"cat"}, "valid/b": {"cat", "dog"}}
    made.text("valid/_darknet.labels", "dog\ncat\n")
    with pytest.raises(DataError, match="name different classes"):
        made.open()


def test_names_are_needed(made):
    pair(made, "images/a.jpg", "images/b.jpg")
    with pytest.raises(DataError, match=r"nothing that names their classes; name the folder"):
        made.open()
    made.text("classes.txt", "")
    with pytest.raises(DataError, match="names no class"):
        made.open()
    made.text("classes.txt", "cat\n\ndog\n")
    with pytest.raises(DataError, match="an empty line among the class names"):
        made.open()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("names: [cat, no]\ntrain: images\n", "class 1 is read as False"),
        ("names: cat\ntrain: images\n", "names is no list"),
        ("names: {a: cat}\ntrain: images\n", "the class number 'a'"),
        ("names: [cat\ntrain: images\n", "not YAML that can be read"),
        ("names: &x [*x]\ntrain: images\n", "not YAML that can be read .an anchor"),
        (f"names:\n  ? '{'9' * 5000}'\n  : cat\ntrain: images\n", "the class number"),
        ("names: []\nnc: 2\n", "names is no list"),
    ],
)
def test_names_that_cannot_be_used(made, written, found):
    pair(made, "images/a.jpg", "images/b.jpg")
    made.text("data.yaml", written)
    with pytest.raises(DataError, match=found):
        made.open()


def test_what_is_odd_in_the_configuration_is_told(made):
    pair(made, "images/a.jpg", "images/b.jpg")
    made.text("data.yaml", "names: [cat, dog, dog, cow]\nnc: 3\ntrain: images\ntest: images/test\n")
    made.text("classes.txt", "dog\ncat\n")
    faults, notes = made.check()
    assert any("nc is 3, but 4 classes are named" in fault for fault in faults)
    assert any("several classes have the same name: 'dog'" in fault for fault in faults)
    assert any("test is 'images/test', which is not in 'source'" in note for note in notes)
    assert any("classes.txt: names other classes" in note for note in notes)


LISTS = {
    "data.yaml": "train: images\nnames: {0: cat, 1: dog, 2: bus, 3: car}\n",
    "classes.txt": "cat\ndog\nbus\ncar\n",
    "labels/classes.txt": "cat\ndog\nbus\ncar\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_unused_names_are_left_out_with_one_note(made, name):
    pair(made, "images/a.jpg", "images/b.jpg")
    made.text(name, LISTS[name])
    report = check_catalog(made.root)
    told = [note for note in report.notes if note.kind == "class_unused"]
    assert [note.found for note in told] == [
        "2 of 4 classes are in no image and are left out: 'bus', 'car'"
    ]
    assert made.open().classes == ("cat", "dog")
    assert not [fault for fault in report.faults if fault.kind == "class_unused"]


@pytest.mark.parametrize("name", LISTS)
def test_masks_beside_the_labels_count_by_the_whole_list(made, name):
    made.photo("images/a.jpg")
    made.text("labels/a.txt", BOX.format(3))
    made.text(name, LISTS[name])
    (made.root / "masks").mkdir()
    Image.fromarray(np.full((10, 12), 4, np.uint8)).save(made.root / "masks" / "a.png")
    assert made.open().classes == ("cat", "dog", "bus", "car")
    assert np.unique(made.truth("a")).tolist() == [4]
    assert made.check()[0] == []


def test_missing_and_empty_label_files(made):
    pair(made, "images/a.jpg", "images/b.jpg")
    made.photo("images/c.jpg")
    made.photo("images/d.jpg")
    made.text("labels/d.txt", "\n")
    made.text("data.yaml", "train: images\n" + NAMES)
    assert made.tags()["c"] == made.tags()["d"] == set()
    faults, [note] = made.check()
    assert faults == []
    assert "1 of 4 images have no label file" in note


def test_faults_of_label_files_are_told_once_for_all(made):
    pair(made, "images/a.jpg", "images/b.jpg")
    for k in range(3):
        made.photo(f"images/many{k}.jpg")
        made.text(f"labels/many{k}.txt", f"{k + 2} 0.5 0.5 0.1 0.1\n")
        made.photo(f"images/torn{k}.jpg")
        made.text(f"labels/torn{k}.txt", "0 0.5 0.5 0.1 0.1\n1 0.5 0.5\n")
        made.text(f"labels/gone{k}.txt", BOX.format(0))
    for word in ("dog 0.5 0.5 0.1 0.1", "nan 0.5 0.5 0.1 0.1", "-1 0 0 0 0", "1.5 0 0 0 0"):
        made.photo(f"images/{word[:3]}.jpg")
        made.text(f"labels/{word[:3]}.txt", word)
    made.text("data.yaml", "train: images\n" + NAMES)
    faults, notes = made.check()
    assert set(made.tags()) == {"a", "b"}
    assert len(faults) == 3
    assert any(
        "many0.txt: the class number 2, which 'data.yaml' does not name" in f for f in faults
    )
    assert any("(and 2 more like this)" in fault and "many0" in fault for fault in faults)
    assert any("not a class number and shares: '-1 0 0 0 0'" in fault for fault in faults)
    assert any("gone0.txt: a label file of no image (and 2 more like this)" in f for f in faults)
    assert notes == []


def test_polygons_are_truth(made):
    made.photo("images/a.jpg", 8, 8)
    made.text("labels/a.txt", POLYGON)
    made.photo("images/empty.jpg", 8, 8)
    made.text("labels/empty.txt", "")
    made.photo("images/boxed.jpg", 8, 8)
    made.text("labels/boxed.txt", POLYGON + BOX.format(1))
    made.photo("images/none.jpg", 8, 8)
    made.text("data.yaml", "train: images\n" + NAMES)
    mask = np.array(made.truth("a"))
    assert mask[:4, :4].all()
    assert mask[4, 1:3].all()
    assert not mask[4:, 4:].any()
    assert np.array(made.truth("empty")).tolist() == np.zeros((8, 8)).tolist()
    assert made.truth("boxed") is made.truth("none") is None
    catalog = made.open()
    first = catalog["a"].annotation.digest()
    made.text("labels/a.txt", POLYGON + POLYGON.replace("0 ", "1 ", 1))
    assert made.open()["a"].annotation.digest() != first


def test_the_smaller_of_two_polygons_is_above(made):
    small, large = QUAD.replace("0.5", "0.25"), "1 0 0 1 0 1 1 0.5 1 0 1\n"
    made.text("data.yaml", "train: images\n" + NAMES)
    for name, lines in (("a", small + large), ("b", large + small)):
        made.photo(f"images/{name}.jpg", 8, 8)
        made.text(f"labels/{name}.txt", lines)
    for name in "ab":
        mask = np.array(made.truth(name))
        assert (mask[:2, :2] == 1).all()
        assert (mask == 2).sum() == 60


def test_shares_are_of_the_upright_photo(made):
    made.photo("images/a.jpg", 16, 8, turned=True)
    made.text("labels/a.txt", "0 0 0 0.25 0 0.25 1 0.1 1 0 1\n")
    made.text("data.yaml", "train: images\n" + NAMES)
    mask = np.array(made.truth("a"))
    assert mask.shape == (8, 16)
    assert mask[:, :4].all()
    assert not mask[:, 4:].any()


@pytest.mark.parametrize(
    ("lines", "yaml", "found"),
    [
        (QUAD, "", "all polygons have four corners"),
        ("0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.5 0.5 1\n", "kpt_shape: [2, 3]\n", ""),
        ("0 0.5 0.5 0.2 0.2 0.4 0.4 0.5 0.5\n", "kpt_shape: [2, 2]\n", ""),
        ("0 0.5 0.5 0.2 0.2 0.9\n", "", "these are predictions"),
        ("0 0 0 100 0 100 90 50 120 0 80\n", "", "numbers that are no shares"),
    ],
    ids=["turned boxes", "key points", "key points in pairs", "confidence", "pixels"],
)
def test_what_may_be_no_polygons_is_no_truth(made, lines, yaml, found):
    made.photo("images/a.jpg")
    made.text("labels/a.txt", lines)
    made.text("data.yaml", "train: images\n" + yaml + NAMES)
    assert made.tags() == {"a": {"cat"}}
    assert made.truth("a") is None
    faults, notes = made.check()
    assert faults == []
    assert len(notes) == bool(found)
    assert found in "".join(notes)


def test_the_class_background_is_none(made):
    made.photo("images/a.jpg")
    made.text("labels/a.txt", BOX.format(0) + BOX.format(1))
    made.text("data.yaml", "train: images\nnames: [background, dog]\n")
    assert made.tags() == {"a": {"dog"}}
    assert made.open().classes == ("dog",)


def test_numbers_in_text_files_alone_are_not_yolo(made):
    made.photo("cat/a.jpg")
    made.text("cat/notes.txt", "1 2 3 4 5\n")
    made.photo("dog/b.jpg")
    assert made.tags() == {"cat/a": {"cat"}, "dog/b": {"dog"}}
