"""Masks of other tools: lists of classes, colours, folders, endings."""

import json

import numpy as np
import pytest
from PIL import Image

from weakseg.data.truth import true_mask
from weakseg.sources.check import check_catalog
from weakseg.sources.class_counts import COUNT_KINDS
from weakseg.sources.source import open_catalog
from weakseg.types import DataError

# Image name, classes in it; the k-th of CAT, DOG has rows 4·k … of its mask.
TAGS = {"a": ["cat"], "b": ["dog"], "c": ["cat", "dog"], "d": []}
CLASSES = ("cat", "dog")
COLOURS = {"cat": (250, 50, 83), "dog": (51, 221, 255)}


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def truth_of(name):
    mask = np.zeros((16, 20), np.uint8)
    for tag in TAGS[name]:
        index = CLASSES.index(tag) + 1
        mask[4 * index : 4 * index + 4, 2:9] = index
    return mask


def save(path, mask, how):
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "rgb":
        table = np.zeros((256, 3), np.uint8)
        for index, name in enumerate(CLASSES, start=1):
            table[index] = COLOURS[name]
        Image.fromarray(table[mask]).save(path)
    elif how == "permuted palette":  # index 7 is cat, 3 is dog: only the colours tell
        values = np.zeros(256, np.uint8)
        values[1], values[2] = 7, 3
        image = Image.fromarray(values[mask])
        palette = np.zeros((256, 3), np.uint8)
        palette[7], palette[3] = COLOURS["cat"], COLOURS["dog"]
        image.putpalette(palette.flatten().tolist())
        image.save(path)
    else:
        Image.fromarray(mask).save(path)


def devkit(root, masks="SegmentationClass", how="gray", suffix=""):
    for seed, name in enumerate(TAGS):
        photo(root / "JPEGImages" / f"{name}.jpg", seed)
        save(root / masks / f"{name}{suffix}.png", truth_of(name), how)
    return root


def assert_right(source, prefix="", classes=CLASSES, **options):
    catalog = open_catalog(source, **options)
    assert catalog.classes == classes
    assert {s.id: sorted(catalog.classes[t] for t in s.tags) for s in catalog} == {
        f"{prefix}{name}": tags for name, tags in TAGS.items()
    }
    for sample in catalog:
        found = true_mask(sample, classes)
        expected = truth_of(sample.id.removeprefix(prefix))
        named = np.array([0, *(classes.index(c) + 1 for c in CLASSES)], np.uint8)
        np.testing.assert_array_equal(found, named[expected])
    report = check_catalog(source).without(*COUNT_KINDS)
    assert [f for f in report.faults if f.kind != "tag_once"] == []
    return report


LABELME = "__ignore__\n_background_\ncat\ndog\n"
LABEL_MAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog:51,221,255::\n"
)


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationClassPNG"])
def test_labelme2voc(tmp_path, folder):
    devkit(tmp_path, folder)
    photo(tmp_path / "SegmentationClassVisualization" / "a.jpg", 9)
    (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
    np.save(tmp_path / "SegmentationClass" / "a.npy", truth_of("a"))
    (tmp_path / "class_names.txt").write_text(LABELME)
    assert_right(tmp_path)


@pytest.mark.parametrize("how", ["rgb", "permuted palette", "gray"])
@pytest.mark.parametrize("turned", [False, True])
def test_cvat_label_map(tmp_path, how, turned):
    devkit(tmp_path, how=how)
    lines = LABEL_MAP.splitlines()
    if turned and how != "gray":  # of gray masks the order of the lines is all there is
        lines = [lines[0], *reversed(lines[1:])]
    (tmp_path / "labelmap.txt").write_text("\n".join(lines) + "\n")
    assert_right(tmp_path, classes=("dog", "cat") if turned and how != "gray" else CLASSES)


def test_a_colour_nobody_named_is_a_fault(tmp_path):
    devkit(tmp_path, how="rgb")
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP.replace("51,221,255", "1,2,3"))
    report = check_catalog(tmp_path)
    assert any("colour (51, 221, 255) stands for no class" in f.found for f in report.faults)
    (tmp_path / "labelmap.txt").write_text("cat:1,2\n")
    assert any("has no colour" in fault.found for fault in check_catalog(tmp_path).faults)


def test_vocs_names_are_not_taken_without_a_word(tmp_path):
    report = check_catalog(devkit(tmp_path))
    fault = next(fault for fault in report.faults if fault.kind == "tags_file")
    assert "VOC's twenty classes" in fault.found
    assert "classes.txt" in fault.remedy
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert_right(tmp_path)


def mmseg(root, suffix=""):
    for seed, name in enumerate(TAGS):
        part = "val" if name == "d" else "train"
        photo(root / "img_dir" / part / f"{name}.jpg", seed)
        save(root / "ann_dir" / part / f"{name}{suffix}.png", truth_of(name), "gray")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


@pytest.mark.parametrize("suffix", ["", "_labelTrainIds"])
def test_mmsegmentation(tmp_path, suffix):
    catalog = open_catalog(mmseg(tmp_path, suffix))
    assert [sample.id for sample in catalog] == ["train/a", "train/b", "train/c", "val/d"]
    assert [sample.id for sample in open_catalog(tmp_path, split="val")] == ["val/d"]
    for sample in catalog:
        expected = truth_of(sample.id.split("/")[1])
        np.testing.assert_array_equal(true_mask(sample, CLASSES), expected)
        assert sorted(catalog.classes[t] for t in sample.tags) == TAGS[sample.id.split("/")[1]]


@pytest.mark.parametrize(
    ("masks", "suffix"),
    [
        ("masks", ""),
        ("masks", "_mask"),
        ("labels", "-seg"),
        ("annotations", ".jpg"),
        ("masks", "_gt"),
    ],
)
def test_images_beside_masks(tmp_path, masks, suffix):
    for seed, name in enumerate(TAGS):
        photo(tmp_path / "images" / f"{name}.jpg", seed)
        save(tmp_path / masks / f"{name}{suffix}.png", truth_of(name), "gray")
    with pytest.raises(DataError, match=r"masks without a list of classes \(indices 0, 1, 2\)"):
        open_catalog(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert_right(tmp_path)


def test_nnunet(tmp_path):
    for seed, name in enumerate(TAGS):
        photo(tmp_path / "imagesTr" / f"{name}_0000.png", seed)
        photo(tmp_path / "imagesTr" / f"{name}_0001.png", seed + 10)
        save(tmp_path / "labelsTr" / f"{name}.png", truth_of(name), "gray")
    labels = {"background": 0, "cat": 1, "dog": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
    assert_right(tmp_path)
    labels = {"background": 0, "dog": 2, "ignore": 1}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    catalog = open_catalog(tmp_path)
    assert catalog.classes == ("dog",)
    assert set(np.unique(true_mask(catalog["c"], catalog.classes)).tolist()) == {0, 1, 255}


def test_masks_of_0_and_255_are_refused(tmp_path):
    for seed, name in enumerate(TAGS):
        photo(tmp_path / "images" / f"{name}.jpg", seed)
        save(
            tmp_path / "masks" / f"{name}.png",
            np.where(truth_of(name), 255, 0).astype(np.uint8),
            "gray",
        )
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match="hold only 0 and 255"):
        open_catalog(tmp_path)


@pytest.mark.parametrize("suffix", ["_mask", ".jpg", "_seg"])
def test_truth_with_an_ending_is_found_with_a_note(tmp_path, suffix):
    rows = ["image,tags"]
    for seed, (name, tags) in enumerate(TAGS.items()):
        photo(tmp_path / "images" / f"{name}.jpg", seed)
        save(tmp_path / "masks" / f"{name}{suffix}.png", truth_of(name), "gray")
        rows.append(f"{name}.jpg,{' '.join(tags)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    report = assert_right(tmp_path)
    assert any("another ending" in note.found for note in report.notes)
