"""VIA's annotations, by the files of versions 1 and 2."""

import csv
import json

import numpy as np
import pytest

from weakseg.types import DataError

SQUARE = {"name": "polygon", "all_points_x": [2, 6, 6, 2], "all_points_y": [1, 1, 4, 4]}
RECT = {"name": "rect", "x": 1, "y": 1, "width": 2, "height": 2}


def region(shape: dict, **about) -> dict:
    return {"shape_attributes": shape, "region_attributes": about}


def image(name: str, *regions: dict, **about) -> dict:
    return {"filename": name, "size": 123, "regions": list(regions), "file_attributes": about}


def images(*records: dict) -> dict:
    return {f"{record['filename']}{record['size']}": record for record in records}


def first_version(records: dict) -> dict:
    """Regions by their number, and a picture that nobody is to decode."""
    return {
        key: {
            **record,
            "fileref": "",
            "base64_img_data": "",
            "regions": {str(k): r for k, r in enumerate(record["regions"])},
        }
        for key, record in records.items()
    }


def project(records: dict) -> dict:
    return {"_via_settings": {}, "_via_img_metadata": records, "_via_attributes": {}}


@pytest.mark.parametrize("form", [dict, first_version, project])
def test_json(made, form):
    for name in "abc":
        made.photo(f"{name}.jpg", 8, 8)
    records = images(
        image("a.jpg", region(SQUARE, **{"class": "dog"})),
        image("b.jpg", region(SQUARE, **{"class": "cat"}), region(RECT, **{"class": "dog"})),
        image("c.jpg"),
    )
    made.text("via.json", form(records))
    assert made.tags() == {"a": {"dog"}, "b": {"cat", "dog"}, "c": set()}
    mask = np.zeros((8, 8), int)
    mask[1:4, 2:6] = 2
    assert made.truth("a") == mask.tolist()
    assert made.truth("b") is None
    assert made.truth("c") == np.zeros((8, 8)).tolist()


@pytest.mark.parametrize("mark", ["", "#"])
def test_csv(made, mark):
    made.photo("a.jpg", 8, 8)
    made.photo("b.jpg", 8, 8)
    header = "filename,file_size,file_attributes,region_count,region_id"
    with (made.root / "via.csv").open("w", newline="") as file:
        file.write(f"{mark}{header},region_shape_attributes,region_attributes\n")
        writer = csv.writer(file)
        for k, name in enumerate(("cat", "dog")):
            about = json.dumps({"label": name})
            writer.writerow(["a.jpg", 9, "{}", 2, k, json.dumps(SQUARE), about])
        writer.writerow(["b.jpg", 9, "{}", 0, 0, "{}", "{}"])
    assert made.tags() == {"a": {"cat", "dog"}, "b": set()}
    assert np.unique(made.truth("a")).tolist() == [0, 2]


def test_circles_and_ellipses(made):
    made.photo("a.jpg", 8, 8)
    turned = {"name": "ellipse", "cx": 4, "cy": 4, "rx": 1, "ry": 4, "theta": np.pi / 2}
    circle = {"name": "circle", "cx": 1, "cy": 1, "r": 1}
    made.text("via.json", images(image("a.jpg", region(turned, x="a"), region(circle, x="b"))))
    mask = np.array(made.truth("a"))
    assert np.argwhere(mask[3:5] == 1)[:, 1].tolist() == 2 * [1, 2, 3, 4, 5, 6]
    assert (mask[:2, :2] == 2).all()


def test_boxes_to_tick_and_the_attribute(made):
    made.photo("a.jpg")
    ticks = {"cat": True, "dog": True, "cow": False}
    made.text("via.json", images(image("a.jpg", region(RECT, kind=ticks, quality="good"))))
    with pytest.raises(DataError, match="may be the class: 'kind', 'quality'; name the attribute"):
        made.open()
    assert made.tags(tags_column="kind") == {"a": {"cat", "dog"}}
    made.text("via.json", images(image("a.jpg", region(RECT, Name="cat", quality="good"))))
    assert made.tags() == {"a": {"cat"}}
    faults, [note] = made.check()
    assert faults == []
    assert "'Name' is taken for the class; there are also 'quality'" in note


def test_without_regions_the_images_attributes_count(made):
    for name in "ab":
        made.photo(f"{name}.jpg")
    made.text("via.json", images(image("a.jpg", label="cat"), image("b.jpg", label="")))
    assert made.tags() == {"a": {"cat"}, "b": set()}


def test_faults(made):
    made.photo("a.jpg", 8, 8)
    bad = {"name": "polygon", "all_points_x": [2, 6], "all_points_y": [1]}
    records = images(
        image("a.jpg", region(bad, name="cat"), region(RECT)),
        image("gone.jpg", region(RECT, name="cat")),
    )
    made.text("via.json", records)
    faults, _ = made.check()
    assert len(faults) == 3
    assert any("points are no pairs of numbers" in fault for fault in faults)
    assert any("a mark without a label" in fault for fault in faults)
    assert any("no image 'gone.jpg'" in fault for fault in faults)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (images(image("a.jpg", region(SQUARE))), "the regions have no attribute that tells"),
        ({"x": {"regions": [], "file_attributes": {}, "filename": 3}}, "without a file name"),
        ({"x": {"regions": 1, "file_attributes": {}, "filename": "a.jpg"}}, "no list of objects"),
        ('{"filename": "regions", "file_attributes": ["regions"', "not JSON"),
    ],
)
def test_files_that_cannot_be_read(made, content, found):
    made.photo("a.jpg")
    made.text("via.json", content)
    with pytest.raises(DataError, match=found):
        made.open(kind="via")
