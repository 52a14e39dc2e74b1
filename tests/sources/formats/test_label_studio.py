"""Label Studio's exports, by its documentation and converter."""

import csv
import json

import numpy as np
import pytest

from weakseg.data.rle import brush_rle
from weakseg.types import DataError

SIZE = {"original_width": 8, "original_height": 8, "image_rotation": 0}
SQUARE = np.zeros((8, 8), bool)
SQUARE[1:4, 2:6] = True
CORNERS = [[25.0, 12.5], [75.0, 12.5], [75.0, 50.0], [25.0, 50.0]]


def region(kind: str, value: dict, *labels: str, number: str = "r", **more) -> dict:
    return {
        "id": number,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "origin": "manual",
        **SIZE,
        "value": {**value, kind: list(labels)},
        **more,
    }


def rectangle(*labels: str) -> dict:
    box = {"x": 25.0, "y": 12.5, "width": 50.0, "height": 37.5, "rotation": 0}
    return region("rectanglelabels", box, *labels)


def polygon(*labels: str, **more) -> dict:
    return region("polygonlabels", {"points": CORNERS, "closed": True, **more}, *labels)


def brush(*labels: str) -> dict:
    return region("brushlabels", {"format": "rle", "rle": list(brush_rle(SQUARE))}, *labels)


def choices(*names: str, control: str = "choice", **more) -> dict:
    value = {"choices": list(names), **more}
    return {"type": "choices", "from_name": control, "to_name": "image", "value": value}


def annotation(*results: dict, **more) -> dict:
    return {
        "id": 22,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-01-30T02:40:43.893565Z",
        "updated_at": "2024-01-30T02:40:43.893578Z",
        "lead_time": 8.65,
        **more,
    }


def task(address: str, *annotations: dict, **data) -> dict:
    return {
        "id": 87,
        "annotations": list(annotations),
        "file_upload": "example.png",
        "drafts": [],
        "predictions": [],
        "data": {"image": address, **data},
        "meta": {},
        "total_annotations": 1,
    }


ADDRESSES = {
    "upload": ("a.jpg", "/data/upload/1/0a1b2c3d-a.jpg", "a"),
    "cleaned": (
        "images/my photo (1).jpg",
        "/data/upload/1/0a1b2c3d-my_photo_1.jpg",
        "my photo (1)",
    ),
    "downloaded": ("images/0a1b2c3d-a.jpg", "/data/upload/1/0a1b2c3d-a.jpg", "0a1b2c3d-a"),
    "local files": ("photos/sub/a.jpg", "/data/local-files/?d=photos/sub/a.jpg", "photos/sub/a"),
    "local files of windows": ("sub/a.jpg", "/data/local-files/?d=photos%5Csub%5Ca.jpg", "sub/a"),
    "bucket": ("images/a.jpg", "s3://bucket/folder/a.jpg", "a"),
    "web": ("a b.jpg", "https://host/x/a%20b.jpg?size=3", "a b"),
    "path": ("images/sub/a.jpg", "sub/a.jpg", "sub/a"),
}


@pytest.mark.parametrize("way", ADDRESSES)
def test_images_are_found_by_their_address(made, way):
    name, address, sample_id = ADDRESSES[way]
    made.photo(name)
    made.text("project-1-at-2024.json", [task(address, annotation(choices("cat", "dog")))])
    assert made.tags() == {sample_id: {"cat", "dog"}}
    faults, notes = made.check()
    assert faults == []
    assert all("is taken for" in note for note in notes)


def test_an_ambiguous_name_is_a_fault(made):
    for folder in "xy":
        made.photo(f"{folder}/a.jpg")
    made.photo("b.jpg")
    made.text(
        "export.json",
        [
            task("/data/upload/1/0a1b2c3d-a.jpg", annotation(choices("cat"))),
            task("/data/upload/1/0a1b2c3d-b.jpg", annotation(choices("cat"))),
            task("/data/upload/1/0a1b2c3d-gone.jpg", annotation(choices("cat"))),
        ],
    )
    assert set(made.tags()) == {"b"}
    faults, _ = made.check()
    assert any("'a.jpg' may be any of 'x/a.jpg', 'y/a.jpg'" in fault for fault in faults)
    assert any("no image '/data/upload/1/0a1b2c3d-gone.jpg'" in fault for fault in faults)


def test_regions_and_choices_are_tags(made):
    made.photo("a.jpg")
    keypoint = region("keypointlabels", {"x": 1.0, "y": 2.0, "width": 0.3}, "nose")
    results = rectangle("cat"), keypoint, choices("day", control="weather")
    made.text("export.json", [task("a.jpg", annotation(*results))])
    assert made.tags() == {"a": {"cat", "nose", "day"}}
    assert made.truth("a") is None
    faults, [note] = made.check()
    assert faults == []
    assert "tags come from several controls (label: 'cat', 'nose'; weather: 'day')" in note
    assert made.tags(tags_column="label") == {"a": {"cat", "nose"}}


@pytest.mark.parametrize("shape", [polygon, brush])
def test_polygons_and_brushes_are_truth(made, shape):
    for name in "abc":
        made.photo(f"{name}.jpg", 8, 8)
    made.text(
        "export.json",
        [
            task("a.jpg", annotation(shape("dog"))),
            task("b.jpg", annotation(shape("dog"), rectangle("cat"))),
            task("c.jpg", annotation()),
        ],
    )
    assert made.truth("a") == (2 * SQUARE).tolist()
    assert made.truth("b") is None
    assert made.truth("c") == np.zeros((8, 8)).tolist()
    assert made.tags()["c"] == set()


def test_ellipses_are_truth(made):
    made.photo("a.jpg", 16, 8, turned=True)
    value = {"x": 50.0, "y": 50.0, "radiusX": 25.0, "radiusY": 12.5, "rotation": 90}
    size = {"original_width": 16, "original_height": 8}
    made.text(
        "export.json", [task("a.jpg", annotation(region("ellipselabels", value, "x", **size)))]
    )
    mask = np.array(made.truth("a"))
    assert mask.shape == (8, 16)
    assert mask.any(axis=0).nonzero()[0].tolist() == [7, 8]
    assert mask.any(axis=1).nonzero()[0].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "result",
    [
        polygon("cat", closed=False),
        {**polygon("cat"), "image_rotation": 90},
        {**polygon("cat"), "original_width": None},
        polygon("cat", "dog"),
        region("vectorlabels", {"vertices": [{"x": 1, "y": 1}]}, "cat"),
    ],
    ids=["open", "rotated", "no size", "two labels", "vector"],
)
def test_what_is_no_truth(made, result):
    made.photo("a.jpg", 8, 8)
    made.text("export.json", [task("a.jpg", annotation(result))])
    assert "cat" in made.tags()["a"]
    assert made.truth("a") is None


def test_labels_apart_from_their_shapes(made):
    made.photo("a.jpg", 8, 8)
    bare = {**polygon(), "type": "polygon", "id": "1"}
    labels = {**polygon(), "type": "labels", "id": "1"}
    labels["value"] = {"points": CORNERS, "closed": True, "labels": ["dog"]}
    bare["value"] = {"points": CORNERS, "closed": True}
    sure = choices("blurred", control="sure", points=CORNERS)
    made.text("export.json", [task("a.jpg", annotation(bare, labels, {**sure, "id": "1"}))])
    assert made.tags() == {"a": {"dog"}}
    assert made.truth("a") == SQUARE.astype(int).tolist()
    faults, [note] = made.check()
    assert faults == []
    assert "not read: choices about single regions (1)" in note


def test_of_several_annotations_the_best_counts(made):
    for name in "abc":
        made.photo(f"{name}.jpg")
    old = annotation(choices("cat"), updated_at="2023-01-01T00:00:00Z")
    new = annotation(choices("dog"))
    sure = annotation(choices("bird"), updated_at="2022-01-01T00:00:00Z", ground_truth=True)
    cancelled = annotation(choices("no"), was_cancelled=True, updated_at="2025-01-01T00:00:00Z")
    tasks = [
        task("a.jpg", new, old, cancelled),
        task("b.jpg", old, sure, new),
        task("c.jpg", cancelled),
    ]
    tasks[2]["predictions"] = [{"result": [choices("no")]}]
    made.text("export.json", tasks)
    assert made.tags() == {"a": {"dog"}, "b": {"bird"}}
    faults, notes = made.check()
    assert faults == []
    assert any("1 tasks are not annotated (or skipped)" in note for note in notes)
    assert any("2 images have annotations with different tags" in note for note in notes)


def test_predictions_alone_are_refused(made):
    made.photo("a.jpg")
    guess = {"data": {"image": "a.jpg"}, "predictions": [{"result": [brush("cat")]}]}
    made.text("tasks.json", [guess])
    with pytest.raises(DataError, match=r"only predictions \(1 tasks\); annotate .* as JSON"):
        made.open()


def test_which_key_names_the_image(made):
    made.photo("a.jpg")
    one = annotation(choices("cat"))
    made.text("export.json", [task("", one, image="https://host/page", pic="a.jpg")])
    assert made.tags() == {"a": {"cat"}}
    made.text("export.json", [task("", one, image="https://host/page", pic="a.jpg", two="b.jpg")])
    with pytest.raises(DataError, match=r"'pic', 'two'; name the key of the image by --image-col"):
        made.open()
    assert made.tags(image_column="pic") == {"a": {"cat"}}


def test_tasks_of_a_target_storage(made):
    for name in "ab":
        made.photo(f"{name}.jpg")
        whole = {**annotation(choices(name)), "task": {"id": 1, "data": {"image": f"{name}.jpg"}}}
        made.text(f"tasks/{name}.json", whole)
    with pytest.raises(DataError):
        made.open()
    for name in "ab":
        (made.root / "tasks" / f"{name}.json").rename(made.root / f"{name}.json")
    assert made.tags() == {"a": {"a"}, "b": {"b"}}


def minimal(address: str, **fields) -> dict:
    return {
        "image": address,
        "title": "a photo",
        "id": 1,
        **fields,
        "annotator": 1,
        "annotation_id": 22,
        "created_at": "2024-01-30T02:40:43Z",
        "updated_at": "2024-01-30T02:40:43Z",
        "lead_time": 8.6,
    }


def test_json_min(made):
    for name in "abcd":
        made.photo(f"{name}.jpg", 8, 8)
    shape = {**polygon("dog")["value"], "original_width": 8, "original_height": 8}
    rows = [
        minimal("/data/upload/1/0a1b2c3d-a.jpg", choice="cat"),
        minimal("/data/upload/1/0a1b2c3d-b.jpg", choice={"choices": ["cat", "dog"]}),
        minimal("/data/upload/1/0a1b2c3d-c.jpg", label=[shape]),
        {**minimal("/data/upload/1/0a1b2c3d-d.jpg"), "annotation_id": None},
    ]
    for number, row in enumerate(rows):
        row["id"] = number
    made.text("export.json", rows)
    assert made.tags() == {"a": {"cat"}, "b": {"cat", "dog"}, "c": {"dog"}}
    assert made.truth("c") == (2 * SQUARE).tolist()
    assert made.truth("a") is None


def table(made, name: str, rows: list[dict], sign: str = ",") -> None:
    with (made.root / name).open("w", newline="") as file:
        columns = sorted({key for row in rows for key in row})
        writer = csv.DictWriter(file, columns, delimiter=sign, quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        for row in rows:
            cells = {k: v if isinstance(v, str | int) else json.dumps(v) for k, v in row.items()}
            writer.writerow(cells)


@pytest.mark.parametrize(("name", "sign"), [("x.csv", ","), ("x.tsv", "\t"), ("labels.csv", ",")])
def test_tables(made, name, sign):
    for letter in "abc":
        made.photo(f"{letter}.jpg")
    rows = [
        minimal("/data/upload/1/0a1b2c3d-a.jpg", choice="traffic light"),
        minimal("/data/upload/1/0a1b2c3d-a.jpg", choice="old"),
        minimal("/data/upload/1/0a1b2c3d-b.jpg", choice={"choices": ["cat", "dog"]}),
        minimal("/data/upload/1/0a1b2c3d-c.jpg", choice=""),
    ]
    for number, row in zip((1, 1, 2, 3), rows, strict=True):
        row["id"] = number
    rows[1]["updated_at"] = "2023-01-01"
    table(made, name, rows, sign)
    assert made.tags() == {"a": {"traffic light"}, "b": {"cat", "dog"}, "c": set()}
    faults, notes = made.check()
    assert faults == []
    assert any("not for tags: 'title'" in note for note in notes)


def test_a_table_of_brushes(made):
    made.photo("a.jpg", 8, 8)
    shape = {**brush("dog")["value"], "original_width": 8, "original_height": 8}
    shape["note"] = "x" * 200_000  # longer than a cell of Python's csv module may be by itself
    table(made, "x.csv", [minimal("/data/upload/1/0a1b2c3d-a.jpg", tag=[shape])])
    assert made.truth("a") == SQUARE.astype(int).tolist()
    assert csv.field_size_limit() == 131072


def test_a_table_whose_tags_are_unsure(made):
    made.photo("a.jpg")
    table(made, "x.csv", [minimal("a.jpg", animal="cat", weather="sun")])
    with pytest.raises(DataError, match="'animal', 'title', 'weather'; name the columns by"):
        made.open()
    assert made.tags(tags_column="animal") == {"a": {"cat"}}
    with pytest.raises(DataError, match="there is no column 'x'"):
        made.open(tags_column="x")


def test_damaged_regions_are_faults(made):
    for name in "abcd":
        made.photo(f"{name}.jpg", 8, 8)
    broken = brush("cat")
    broken["value"]["rle"] = [1, 2, 300]
    short = brush("cat")
    short["value"]["rle"] = short["value"]["rle"][:-3]
    made.text(
        "export.json",
        [
            task("a.jpg", annotation(polygon("cat", points=[[1, "x"]]))),
            task("b.jpg", annotation(broken)),
            task("c.jpg", annotation(rectangle())),
            task("d.jpg", annotation(short)),
        ],
    )
    faults, _ = made.check()
    assert len(faults) == 3
    assert any("points are no pairs of numbers (and 1 more like this)" in fault for fault in faults)
    assert any("a mark without a label in image 'c'" in fault for fault in faults)
    assert any("a region of 'cat' cannot be drawn" in fault for fault in faults)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"annotations": [], "data": ', "not JSON"),
        ([{"annotations": [], "data": {"image": "a.jpg"}}], "holds no annotation"),
        ([task("a.jpg", annotation()), 3], "a task is no object"),
        (
            [{**task("", annotation(choices("a"))), "data": {"text": "a"}}],
            "no key names an image; there are 'text'",
        ),
    ],
)
def test_files_that_cannot_be_read(made, content, found):
    made.photo("a.jpg")
    made.text("export.json", content)
    with pytest.raises(DataError, match=found):
        made.open()


def test_several_exports_are_refused(made):
    made.photo("a.jpg")
    for name in "xy":
        made.text(f"{name}.json", [task("a.jpg", annotation(choices("cat")))])
    with pytest.raises(DataError, match=r"several exports of Label Studio \(x\.json, y\.json\)"):
        made.open()
    assert made.tags("y.json") == {"a": {"cat"}}
