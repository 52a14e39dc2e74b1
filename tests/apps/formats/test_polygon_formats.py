"""yolo-seg, labelme and GeoJSON: polygons that fill to exactly the masks."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from weakseg.apps.formats import yolo_seg
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.polygons import fill_polygon, mask_polygons
from weakseg.types import Sample


def joined(pairs, size):
    """Index map of (index, rings) pairs."""
    labels = np.zeros(size, np.uint8)
    for index, rings in pairs:
        inside = fill_polygon(rings, *size)
        assert not labels[inside].any()
        labels[inside] = index
    return labels


def test_yolo_seg(finished):
    out = finished.export("yolo-seg").path
    data = yaml.safe_load((out / "data.yaml").read_text("utf-8"))
    assert data["names"] == dict(enumerate(finished.classes))
    assert (out / data["train"]).is_dir()
    assert (out / data["val"]).is_dir()
    assert "path" not in data  # the folder of the file itself, wherever it is moved
    for key in finished.keys:
        labels = finished.labels(key)
        assert (out / "images" / "train" / f"{key}.jpg").is_file()
        pairs = []
        for line in (out / "labels" / "train" / f"{key}.txt").read_text().splitlines():
            index, *shares = line.split(" ")
            points = np.array(shares, float).reshape(-1, 2)
            assert len(points) >= 4
            assert points.min() >= 0
            assert points.max() <= 1
            pairs.append((int(index) + 1, [points * labels.shape[::-1]]))
        np.testing.assert_array_equal(joined(pairs, labels.shape), labels)
        regions = sum(len(mask_polygons(labels == i)) for i in set(labels.ravel().tolist()) - {0})
        assert len(pairs) == regions


def test_yolo_seg_rewrites_images_that_ultralytics_overlooks(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("RGB", (12, 10), "red").save(path)
    image = Labelled(Sample("a", path, frozenset()), np.zeros((10, 12), np.uint8), {})
    out = tmp_path / "out"
    out.mkdir()
    yolo_seg.write([image], Job(("cat",), 1, confident=False), out)
    assert [p.name for p in (out / "images" / "train").iterdir()] == ["a.png"]
    assert (out / "labels" / "train" / "a.txt").read_text() == ""


def test_labelme(finished):
    out = finished.export("labelme").path
    names = (out / "labels.txt").read_text("utf-8").splitlines()
    assert names == ["__ignore__", "_background_", *finished.classes]
    for key in finished.keys:
        labels, known = finished.labels(key), finished.confidences(key)
        path = out / f"{key}.json"
        record = json.loads(path.read_text("utf-8"))
        assert (record["imageHeight"], record["imageWidth"]) == labels.shape
        assert record["imageData"] is None
        with Image.open(path.parent / record["imagePath"]) as image:
            assert image.size == labels.shape[::-1]
        pairs = []
        for shape in record["shapes"]:
            assert shape["shape_type"] == "polygon"
            index = names.index(shape["label"]) - 1
            assert shape["description"] == f"confidence {known[index]}"
            pairs.append((index, [shape["points"]]))
        np.testing.assert_array_equal(joined(pairs, labels.shape), labels)


def test_labelme_tells_ignored_pixels(finished, ignoring):
    out = finished.export("labelme", masks=ignoring).path
    shapes = json.loads((out / "a.json").read_text("utf-8"))["shapes"]
    (row,) = [shape["points"] for shape in shapes if shape["label"] == "__ignore__"]
    assert row == [[0, 0], [90, 0], [90, 1], [0, 1]]
    assert all(shape["description"] == "" for shape in shapes)


def test_geojson(finished):
    out = finished.export("geojson").path
    for key in finished.keys:
        labels, known = finished.labels(key), finished.confidences(key)
        record = json.loads((out / f"{key}.geojson").read_text("utf-8"))
        assert record["type"] == "FeatureCollection"
        about = record["weakseg"]
        assert "y down" in about["coordinates"]
        assert about["image"] == finished.file(key).relative_to(finished.photos).as_posix()
        assert (about["height"], about["width"]) == labels.shape
        pairs, found = [], {}
        for feature in record["features"]:
            assert feature["geometry"]["type"] == "MultiPolygon"
            properties = feature["properties"]
            index = properties["index"]
            found[index] = properties["confidence"]
            name = properties["classification"]["name"]
            assert (properties["objectType"], name) == ("annotation", finished.classes[index - 1])
            for rings in feature["geometry"]["coordinates"]:
                assert all(ring[0] == ring[-1] and len(ring) >= 5 for ring in rings)
                areas = [area(ring) for ring in rings]
                assert areas[0] > 0  # RFC 7946: outer rings anticlockwise by their numbers
                assert all(value < 0 for value in areas[1:])
                pairs.append((index, [ring[:-1] for ring in rings]))
        assert found == known
        np.testing.assert_array_equal(joined(pairs, labels.shape), labels)


def area(ring):
    (x, y), (u, v) = np.array(ring[:-1]).T, np.array(ring[1:]).T
    return (x * v - u * y).sum() / 2


@pytest.mark.parametrize("to", ["yolo-seg", "geojson", "coco", "cvat", "label-studio"])
def test_ignored_pixels_that_cannot_be_told_are_noted(finished, ignoring, to):
    summary = finished.export(to, "o.json" if to == "coco" else "out", masks=ignoring)
    assert "4 masks have ignored pixels (255): they count as background here" in summary.notes
