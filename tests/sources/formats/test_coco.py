"""COCO as its many exporters write it: splits, ids, categories, paths, truth."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_masks

from weakseg.data.polygons import fill_polygons
from weakseg.data.rle import coco_rle
from weakseg.data.truth import true_mask
from weakseg.sources.check import check_catalog
from weakseg.sources.class_counts import COUNT_KINDS
from weakseg.sources.source import open_catalog

SIZE = (24, 32)
SQUARE = np.zeros(SIZE, bool)
SQUARE[4:12, 6:20] = True
POLYGON = [6, 4, 20, 4, 20, 12, 6, 12]


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write(path, images, annotations, categories=((1, "cat"), (2, "dog"))):
    """A COCO file of `images` {id: name} and `annotations` (image, category, segmentation)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "images": [
            {"id": key, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for key, name in images.items()
        ],
        "annotations": [
            {"id": k, "image_id": image, "category_id": category, "iscrowd": 0, **shape}
            for k, (image, category, shape) in enumerate(annotations)
        ],
        "categories": [{"id": key, "name": name} for key, name in categories],
    }
    path.write_text(json.dumps(record))
    return path


def names(catalog):
    return {s.id: sorted(catalog.classes[t] for t in s.tags) for s in catalog}


def told(source, **options):
    report = check_catalog(source, **options).without(*COUNT_KINDS, "image_unnamed")
    return [f.kind for f in report.faults], [(f.kind, f.found) for f in report.notes]


def test_roboflow(tmp_path):
    root_and_two = ((0, "pets-abc"), (1, "cat"), (2, "dog"))
    for seed, part in enumerate(("train", "valid", "test")):
        photo(tmp_path / part / "a.jpg", seed)
        photo(tmp_path / part / "b.jpg", seed + 10)
        found = [(0, 1, {"segmentation": []}), (1, 2, {"segmentation": []})]
        write(
            tmp_path / part / "_annotations.coco.json",
            {0: "a.jpg", 1: "b.jpg"},
            found[: 1 + (part != "test")],
            root_and_two,
        )
    catalog = open_catalog(tmp_path)
    assert catalog.classes == ("cat", "dog")
    assert names(catalog) == {
        "train/a": ["cat"], "train/b": ["dog"], "valid/a": ["cat"], "valid/b": ["dog"],
        "test/a": ["cat"], "test/b": [],
    }  # fmt: skip
    assert names(open_catalog(tmp_path, split="test")) == {"test/a": ["cat"], "test/b": []}
    assert open_catalog(tmp_path, split="test").classes == ("cat", "dog")
    faults, notes = told(tmp_path)
    assert faults == []
    assert notes == [
        ("class_unused", "1 of 3 categories have no annotation and are left out: 'pets-abc'")
    ]


@pytest.mark.parametrize("key", [str, int])
def test_ids_as_text_and_unused_categories(tmp_path, key):
    photo(tmp_path / "a.jpg", 0)
    photo(tmp_path / "b.jpg", 1)
    categories = [(key(k), f"thing {k}") for k in range(1, 81)]
    images = {key(7): "a.jpg", key(8): "b.jpg"}
    write(tmp_path / "x.json", images, [(key(7), key(44), {}), (key(8), key(5), {})], categories)
    catalog = open_catalog(tmp_path)
    assert catalog.classes == ("thing 5", "thing 44")
    assert names(catalog) == {"a": ["thing 44"], "b": ["thing 5"]}
    faults, notes = told(tmp_path)
    assert faults == ["tag_once", "tag_once"] or faults == []
    assert [kind for kind, _ in notes] == ["class_unused"]


@pytest.mark.parametrize(
    "prefix", ["/data/someone/pets/", "https://host/pets/", "C:\\pets\\", "pets/images/"]
)
def test_paths_of_another_place_are_one_note(tmp_path, prefix):
    photo(tmp_path / "images" / "a.jpg", 0)
    photo(tmp_path / "images" / "b.jpg", 1)
    images = {1: f"{prefix}a.jpg", 2: f"{prefix}b.jpg"}
    write(tmp_path / "x.json", images, [(1, 1, {}), (2, 2, {})])
    assert names(open_catalog(tmp_path)) == {"a": ["cat"], "b": ["dog"]}
    faults, notes = told(tmp_path)
    assert faults == []
    assert [kind for kind, _ in notes] == ["image_elsewhere"]


def test_standard_layout_reads_all_splits_together(tmp_path):
    for seed, part in enumerate(("train2017", "val2017")):
        photo(tmp_path / part / "1.jpg", seed)
        write(
            tmp_path / "annotations" / f"instances_{part}.json", {1: "1.jpg"}, [(1, 1 + seed, {})]
        )
        (tmp_path / "annotations" / f"captions_{part}.json").write_text(
            '{"images": [], "annotations": []}'
        )
    assert names(open_catalog(tmp_path)) == {"train2017/1": ["cat"], "val2017/1": ["dog"]}
    assert names(open_catalog(tmp_path, split="val2017")) == {"val2017/1": ["dog"]}
    assert open_catalog(tmp_path, split="val2017").classes == ("cat", "dog")


UNCOMPRESSED = {"size": list(SIZE), "counts": [4, 8, 16, 8, 16, 8, 708]}


@pytest.mark.parametrize(
    ("segmentation", "crowd"),
    [([POLYGON], 0), (coco_rle(SQUARE), 0), (coco_rle(SQUARE), 1), ([POLYGON[:], POLYGON[:]], 0)],
)
def test_truth_of_every_form(tmp_path, segmentation, crowd):
    photo(tmp_path / "a.jpg", 0)
    photo(tmp_path / "b.jpg", 1)
    shape = {"segmentation": segmentation, "iscrowd": crowd}
    write(tmp_path / "x.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 2, shape)])
    catalog = open_catalog(tmp_path)
    assert catalog.classes == ("dog",)
    np.testing.assert_array_equal(true_mask(catalog["a"], catalog.classes), SQUARE)
    assert not true_mask(catalog["b"], catalog.classes).any()
    assert check_catalog(tmp_path).fingerprint.masks == 2


def test_truth_by_numbers_as_pycocotools_reads_it(tmp_path):
    photo(tmp_path / "a.jpg", 0)
    write(tmp_path / "x.json", {1: "a.jpg"}, [(1, 1, {"segmentation": UNCOMPRESSED})])
    catalog = open_catalog(tmp_path)
    whole = coco_masks.decode(coco_masks.frPyObjects(UNCOMPRESSED, *SIZE))
    np.testing.assert_array_equal(true_mask(catalog["a"], catalog.classes), whole)


def test_crowds_lie_below_and_small_things_above(tmp_path):
    photo(tmp_path / "a.jpg", 0)
    everything = coco_rle(np.ones(SIZE, bool))
    found = [
        (1, 2, {"segmentation": [POLYGON], "area": 112}),
        (1, 1, {"segmentation": everything, "area": 768, "iscrowd": 0}),
        (1, 2, {"segmentation": everything, "area": 1, "iscrowd": 1}),
    ]
    write(tmp_path / "x.json", {1: "a.jpg"}, found)
    catalog = open_catalog(tmp_path)
    np.testing.assert_array_equal(true_mask(catalog["a"], catalog.classes), 1 + SQUARE)


def test_boxes_alone_are_no_truth(tmp_path):
    photo(tmp_path / "a.jpg", 0)
    photo(tmp_path / "b.jpg", 1)
    box = {"bbox": [1, 1, 3, 3]}
    write(tmp_path / "x.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 1, box), (2, 2, box)])
    assert not any(sample.has_truth for sample in open_catalog(tmp_path))
    shape = {"segmentation": [POLYGON]}
    write(
        tmp_path / "x.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 1, box), (1, 1, shape), (2, 2, shape)]
    )
    assert [sample.has_truth for sample in open_catalog(tmp_path)] == [False, True]
    assert told(tmp_path)[1][0][1].startswith("1 images have annotations without segmentation")


points = st.lists(st.integers(0, 60), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(points, min_size=1, max_size=3))
def test_polygons_differ_from_pycocotools_at_borders_alone(polygons):

    polygons = [[float(v) / 2 for v in p] for p in polygons]
    ours = fill_polygons([np.reshape(p, (-1, 2)) for p in polygons], *SIZE)
    theirs = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, *SIZE))) > 0
    border = np.zeros(SIZE, bool)
    for mask in (ours, theirs):
        padded = np.pad(mask, 1)
        around = [
            padded[1 + dy : SIZE[0] + 1 + dy, 1 + dx : SIZE[1] + 1 + dx]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        border |= ~np.all(np.equal(around, mask), axis=0)
    assert not (ours ^ theirs)[~border].any()


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": 3, "annotations": [], "categories": []}'])
def test_a_damaged_part_is_a_fault(tmp_path, text):
    for part in ("train", "valid"):
        photo(tmp_path / part / "a.jpg", 0)
        write(tmp_path / part / "_annotations.coco.json", {1: "a.jpg"}, [(1, 1, {})])
    damaged = text if "images" in text else '{"images": [], "annotations": ['
    (tmp_path / "valid" / "_annotations.coco.json").write_text(damaged)
    report = check_catalog(tmp_path)
    assert "annotation" in {fault.kind for fault in report.faults}
    assert open_catalog(tmp_path, split="train").classes == ("cat",)
