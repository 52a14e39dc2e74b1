"""The presets of the published experiment, through all stages on tiny data sets of the real layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from weakseg import api
from weakseg.data.images import image_size, read_mask
from weakseg.predict import Labeler
from weakseg.sources.check import check_catalog
from weakseg.sources.class_names import VOC_CLASSES
from weakseg.sources.source import open_catalog
from weakseg.types import DataError, RunError

SIDE = 64
SMALL = (
    "backbone.weights=none",
    "segment.backbone.weights=none",
    "device=cpu",
    "precision=fp32",
    "augment.crop=64",
    "augment.long_side=[48, 80]",
    "cams.long_side=64",
    "relate.augment.crop=64",
    "relate.augment.long_side=[48, 80]",
    "segment.augment.crop=65",
    "segment.augment.long_side=[48, 80]",
    "segment.long_side=64",
    *(f"{fit}.workers=0" for fit in ("fit", "recalibrate.fit", "relate.fit", "segment.fit")),
    *(f"{fit}.batch_size=2" for fit in ("fit", "recalibrate.fit", "relate.fit", "segment.fit")),
)
"""Sizes for pictures of 64 pixels; all else is the presets'."""

# fmt: off
COCO_IDS = [n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
# fmt: on


def picture(path, boxes, seed):
    """Noise with a coloured box for each class."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(90, 140, (48, SIDE, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    for index, box in boxes:
        draw.rectangle(box, fill=(index * 37 % 256, index * 91 % 256, index * 151 % 256))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def xml(name, boxes):
    objects = "".join(
        f"<object><name>{VOC_CLASSES[k - 1]}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1 + 1}</xmax><ymax>{y1 + 1}</ymax></bndbox></object>"
        for k, (x0, y0, x1, y1) in boxes
    )
    return (
        f"<annotation><folder>VOC2012</folder><filename>{name}.jpg</filename><source><database>"
        f"The VOC2008 Database</database></source><size><width>{SIDE}</width><height>48</height>"
        f"<depth>3</depth></size><segmented>1</segmented>{objects}</annotation>"
    )


def mask_of(boxes, palette):
    mask = Image.new("P" if palette else "L", (SIDE, 48))
    if palette:
        mask.putpalette([0, 0, 0, 128, 0, 0] + [0] * 762)
    draw = ImageDraw.Draw(mask)
    for index, (x0, y0, x1, y1) in boxes:
        draw.rectangle((x0, y0, x1, y1), fill=255)
        draw.rectangle((x0 + 1, y0 + 1, x1 - 1, y1 - 1), fill=index)
    return mask


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    """VOCdevkit/VOC2012 with the lists of train, val and, beside SBD's images, train_aug."""
    root = tmp_path_factory.mktemp("published") / "VOCdevkit" / "VOC2012"
    lists = {
        "train": [f"2007_00{n:04d}" for n in range(32, 36)],
        "val": [f"2007_00{n:04d}" for n in range(61, 65)],
        "sbd": [f"2008_00{n:04d}" for n in range(2, 6)],
    }
    for folder in (
        "Annotations",
        "SegmentationClass",
        "SegmentationObject",
        "SegmentationClassAug",
    ):
        (root / folder).mkdir(parents=True)
    seed = 0
    for part, names in lists.items():
        for name in names:
            seed += 1
            first, second = 1 + seed * 7 % 20, 1 + seed * 11 % 20
            boxes = [(first, (4, 6, 30, 34)), (second, (34, 10, 60, 44))]
            picture(root / "JPEGImages" / f"{name}.jpg", boxes, seed)
            (root / "Annotations" / f"{name}.xml").write_text(xml(name, boxes))
            mask_of(boxes, palette=False).save(root / "SegmentationClassAug" / f"{name}.png")
            if part != "sbd":
                for folder in ("SegmentationClass", "SegmentationObject"):
                    mask_of(boxes, palette=True).save(root / folder / f"{name}.png")
    lists["trainval"] = lists["train"] + lists["val"]
    lists["train_aug"] = sorted(lists["train"] + lists.pop("sbd"))
    for folder in ("Segmentation", "Main", "Layout", "Action"):
        (root / "ImageSets" / folder).mkdir(parents=True)
        for name, ids in lists.items():
            if folder == "Segmentation" or name != "train_aug":
                (root / "ImageSets" / folder / f"{name}.txt").write_text("\n".join(ids) + "\n")
    return root


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """COCO2014 with its 80 categories, polygons, a crowd, and the other annotation files."""
    root = tmp_path_factory.mktemp("published") / "COCO2014"
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": n, "name": f"thing {n}", "supercategory": "thing"} for n in COCO_IDS]
    for part, count in (("train2014", 10), ("val2014", 3)):
        images, annotations = [], []
        for number in range(count):
            key = 9 + 16 * number + (part == "val2014")
            name = f"COCO_{part}_{key:012d}.jpg"
            boxes = []
            for place, category in enumerate(COCO_IDS[8 * number : 8 * number + 8]):
                x, y = 2 + 15 * (place % 4), 3 + 22 * (place // 4)
                boxes.append((category, (x, y, x + 12, y + 18)))
            picture(root / part / name, boxes, key)
            images.append({"id": key, "file_name": name, "width": SIDE, "height": 48})
            for category, (x0, y0, x1, y1) in boxes:
                polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": key,
                        "category_id": category,
                        "iscrowd": 0,
                        "area": (x1 - x0) * (y1 - y0),
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "segmentation": [polygon],
                    }
                )
        crowd = {"size": [48, SIDE], "counts": [0, 48 * 4, 48 * (SIDE - 4)]}
        annotations[-1] |= {"iscrowd": 1, "segmentation": crowd}
        for kind in ("instances", "captions", "person_keypoints"):
            content = {"images": images, "annotations": annotations, "categories": categories}
            if kind == "captions":
                content = {
                    "images": images,
                    "annotations": [{"id": 1, "image_id": images[0]["id"], "caption": "a thing"}],
                }
            path = root / "annotations" / f"{kind}_{part}.json"
            path.write_text(json.dumps({"info": {}, "licenses": [], **content}))
    return root


def check_run(out, train, val, classes):
    """What every finished dry run has: masks of all images, scores, a network, and marks."""
    samples = json.loads((out / "catalog.json").read_text())["samples"]
    names = json.loads((out / "catalog.json").read_text())["classes"]
    assert (len(samples), len(names)) == (train, classes)
    for sample in samples:
        mask = read_mask(out / "masks" / f"{sample['id']}.png")
        assert tuple(mask.shape) == image_size(Path(sample["image"]))
        own = {names.index(tag) + 1 for tag in sample["tags"]}
        assert set(mask.unique().tolist()) <= {0, *own}
    tried = json.loads((out / "catalog_val.json").read_text())["samples"]
    assert len(tried) == val
    assert all((out / "validate" / f"{sample['id']}.png").is_file() for sample in tried)
    scores = json.loads((out / "validate" / "metrics.json").read_text())
    assert scores["images"] == val
    assert 0 <= scores["mean_iou"] <= 1
    assert len(scores["iou"]) == classes + 1
    assert Labeler.from_run(out, "cpu").class_names == tuple(names)
    for stage in ("classify", "recalibrate", "relate", "segment", "masks", "validate"):
        done = json.loads((out / stage / "done.json").read_text())["summary"]
        assert done["dry_run"] == 2, stage
        assert done.get("steps", 2) == 2, stage
    assert "dry_run: 2 " in (out / "config.yaml").read_text()
    assert "Dry run." in (out / "report.html").read_text()


def test_paper_voc_takes_train_aug_and_is_tried_on_val(devkit, tmp_path, weak):
    out = tmp_path / "voc"
    sizes = [word for text in SMALL for word in ("--set", text)]
    code, printed, _ = weak(
        "run", devkit, "--preset", "paper-voc", "--steps", 2, "--out", out, *sizes
    )
    assert code == 0
    check_run(out, train=8, val=4, classes=20)
    assert "preset paper-voc: split train_aug, tried on val" in printed
    assert printed.count("DRY RUN") == 2
    assert tuple(json.loads((out / "catalog.json").read_text())["classes"]) == VOC_CLASSES
    # Only the images of train have truth beside their tags: those of SBD score nothing.
    assert json.loads((out / "evaluate" / "metrics.json").read_text())["images"] == 4
    assert not (out / "spread").exists()


def test_paper_coco_takes_train2014_and_is_tried_on_val2014(coco, tmp_path, capsys):
    out = tmp_path / "coco"
    api.run(coco, out, preset="paper-coco", overrides=(*SMALL, "dry_run=2"))
    check_run(out, train=10, val=3, classes=80)
    assert "preset paper-coco: split train2014, tried on val2014" in capsys.readouterr().out
    names = [sample["id"] for sample in json.loads((out / "catalog.json").read_text())["samples"]]
    assert names[0] == "train2014/COCO_train2014_000000000009"


def test_an_image_of_train_aug_without_xml_is_a_fault_with_its_line(devkit, tmp_path):
    (devkit / "Annotations" / "2008_000003.xml").rename(tmp_path / "kept.xml")
    try:
        with pytest.raises(DataError, match=r"train_aug\.txt:6: image '2008_000003' is not named"):
            api.run(devkit, tmp_path / "run", preset="paper-voc", overrides=SMALL)
    finally:
        (tmp_path / "kept.xml").rename(devkit / "Annotations" / "2008_000003.xml")


def test_lists_of_few_images_of_paths_and_masks_of_sbd(devkit, coco, tmp_path):
    """What docs/paper.md says of the data sets, where nothing has to be trained."""
    lists = devkit / "ImageSets" / "Segmentation"
    (lists / "few.txt").write_text("2007_000032\n2008_000002\n")
    paths = ("/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png\n").format("2008_000004")
    (lists / "paths.txt").write_text(paths)
    (coco / "ImageSets").mkdir()
    (coco / "ImageSets" / "few.txt").write_text("train2014/COCO_train2014_000000000009\n")
    (devkit / "SegmentationClassAug").rename(devkit / "masks")
    try:
        few = open_catalog(devkit, split="few")
        assert [(sample.id, sample.has_truth) for sample in few] == [
            ("2007_000032", True),
            ("2008_000002", True),
        ]
        assert few["2007_000032"].mask.parent.name == "SegmentationClass"
        assert [sample.id for sample in open_catalog(devkit, split="paths")] == ["2008_000004"]
        some = open_catalog(coco, split="few")
        assert (len(some), len(some.classes)) == (1, 80)
        assert check_catalog(devkit, split="few").ok
    finally:
        (devkit / "masks").rename(devkit / "SegmentationClassAug")
        for path in (lists / "few.txt", lists / "paths.txt", coco / "ImageSets" / "few.txt"):
            path.unlink()
        (coco / "ImageSets").rmdir()


def test_other_splits_than_the_presets(devkit, tmp_path):
    options = {"preset": "paper-voc", "until": "classify"}
    small = ("backbone.name=resnet18", *SMALL, "dry_run=1")
    api.run(devkit, tmp_path / "one", split="train", val="", overrides=small, **options)
    assert json.loads((tmp_path / "one" / "catalog.json").read_text())["split"] == "train"
    assert not (tmp_path / "one" / "catalog_val.json").exists()
    api.run(devkit, tmp_path / "all", split="", val="", overrides=small, **options)
    samples = json.loads((tmp_path / "all" / "catalog.json").read_text())["samples"]
    assert len(samples) == 12


def test_a_dry_run_is_no_beginning_of_a_real_one(devkit, tmp_path):
    options = {"preset": "paper-voc", "until": "classify"}
    small = ("backbone.name=resnet18", *SMALL)
    pieces = ("fit.batch_size=4", "fit.accumulate=2", "dry_run=2")
    run = api.run(devkit, tmp_path / "run", overrides=(*small, *pieces), **options)
    assert run["classify"].summary["steps"] == 2
    with pytest.raises(RunError, match=r"dry_run: 2 → \(absent\)"):
        api.run(devkit, tmp_path / "run", overrides=small, **options)
