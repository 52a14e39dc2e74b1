import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.runs.contents import catalog_digest
from weakseg.sources import check
from weakseg.sources.check import skip_bad
from weakseg.sources.class_counts import COUNT_KINDS
from weakseg.sources.source import READERS, open_catalog
from weakseg.types import Catalog, DataError


def check_catalog(*arguments, **options):
    """What is found but for the numbers of images, which are small here and tested apart."""
    return check.check_catalog(*arguments, **options).without(*COUNT_KINDS)


TAGS = {
    "a": ("cat",),
    "b": ("cat", "dog"),
    "sub/c": ("dog",),
    "d": (),
}
ONE_TAG = {"cat/a": ("cat",), "cat/b": ("cat",), "dog/sub/c": ("dog",), "dog/d": ("dog",)}


def photos(folder: Path, ids) -> None:
    for seed, sample_id in enumerate(ids):
        pixels = np.random.default_rng(seed).integers(0, 255, (24 + seed, 32, 3))
        path = folder / f"{sample_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def masks(folder: Path, tags) -> None:
    for seed, (sample_id, names) in enumerate(tags.items()):
        indices = np.zeros((24 + seed, 32), dtype=np.uint8)
        for name in names:
            indices[:, {"cat": slice(0, 8), "dog": slice(8, 16)}[name]] = {"cat": 1, "dog": 2}[name]
        indices[:, 30:] = 255
        path = folder / f"{sample_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(indices).save(path)


def splits(folder: Path, tags) -> None:
    sets = folder / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    first, second, *rest = tags
    (sets / "first.txt").write_text(f"{first}\n{second}\n")
    (sets / "rest.txt").write_text("\r\n".join(rest))


def tags_csv(root: Path) -> Path:
    photos(root / "images", TAGS)
    rows = "".join(f"{name}.jpg,{' '.join(tags)}\n" for name, tags in TAGS.items())
    (root / "labels.csv").write_text("image,tags\n" + rows)
    return root


def tags_tsv(root: Path) -> Path:
    photos(root, TAGS)
    rows = "".join(f"{name}\t{'|'.join(tags)}\n" for name, tags in TAGS.items())
    (root / "labels.tsv").write_text("image\ttags\n" + rows)
    return root


def tags_wide(root: Path) -> Path:
    photos(root / "JPEGImages", TAGS)
    rows = "".join(f"{n},{int('dog' in tags)},{int('cat' in tags)}\n" for n, tags in TAGS.items())
    (root / "labels.csv").write_text("image,dog,cat\n" + rows)
    return root


def tags_json_lines(root: Path) -> Path:
    photos(root / "images", TAGS)
    rows = [json.dumps({"image": f"images/{n}.jpg", "tags": list(t)}) for n, t in TAGS.items()]
    (root / "labels.jsonl").write_text("\n".join(rows) + "\n")
    return root


def tags_file_itself(root: Path) -> Path:
    return tags_csv(root) / "labels.csv"


def voc_xml(root: Path) -> Path:
    photos(root / "JPEGImages", TAGS)
    for name, tags in TAGS.items():
        objects = "".join(
            f"<object><name>{tag}</name><part><name>head</name></part></object>"
            for tag in (*tags, *tags)
        )
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation><filename>x</filename>{objects}</annotation>")
    return root


def voc_masks(root: Path) -> Path:
    photos(root / "JPEGImages", TAGS)
    masks(root / "SegmentationClass", TAGS)
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def coco_record(prefix: str = "") -> dict:
    ids = {name: 10 * i for i, name in enumerate(TAGS, start=1)}
    categories = {"cat": 3, "dog": 17}
    return {
        "images": [{"id": ids[n], "file_name": f"{prefix}{n}.jpg"} for n in reversed(TAGS)],
        "categories": [{"id": i, "name": n} for n, i in reversed(categories.items())],
        "annotations": [
            {"id": i, "image_id": ids[n], "category_id": categories[tag], "iscrowd": crowd}
            for i, (n, tag, crowd) in enumerate(
                (n, tag, crowd) for n, tags in TAGS.items() for tag in tags for crowd in (0, 1)
            )
        ],
    }


def coco_folder(root: Path) -> Path:
    photos(root / "train2017", TAGS)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(coco_record()))
    (root / "annotations" / "captions_train2017.json").write_text('{"images": [], "info": 1}')
    return root


def coco_json(root: Path) -> Path:
    photos(root / "images", TAGS)
    (root / "export.json").write_text(json.dumps(coco_record("images/")))
    return root / "export.json"


def index_masks(root: Path) -> Path:
    photos(root / "img_dir", TAGS)
    masks(root / "ann_dir", TAGS)
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def image_folder(root: Path) -> Path:
    photos(root, ONE_TAG)
    return root


def yolo_lines(tags) -> str:
    numbers = {"cat": 0, "dog": 1}
    return "".join(f"{numbers[tag]} 0.5 0.5 0.25 0.25\n" for tag in (*tags, *tags))


def yolo(root: Path) -> Path:
    photos(root / "images", TAGS)
    for name, tags in TAGS.items():
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yolo_lines(tags))
    (root / "data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: cat\n  1: dog\n")
    return root


def yolo_beside(root: Path) -> Path:
    photos(root, TAGS)
    for name, tags in TAGS.items():
        (root / f"{name}.txt").write_text(yolo_lines(tags))
    (root / "obj.names").write_text("cat\ndog\n")
    return root


def labelme_json(name: str, tags, image: str) -> str:
    shapes = [
        {
            "label": tag,
            "points": [[4.0, 4.0], [12.0, 4.0], [12.0, 12.0], [4.0 + 8 * k, 20.0]],
            "group_id": None,
            "shape_type": "polygon",
            "flags": {},
        }
        for k, tag in enumerate(tags)
    ]
    return json.dumps(
        {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image,
            "imageData": None,
            "imageHeight": 24 + list(TAGS).index(name),
            "imageWidth": 32,
        }
    )


def labelme(root: Path) -> Path:
    photos(root, TAGS)
    for name, tags in TAGS.items():
        path = root / f"{name}.json"
        path.write_text(labelme_json(name, tags, f"{path.stem}.jpg"))
    return root


def labelme_apart(root: Path) -> Path:
    photos(root / "images", TAGS)
    for name, tags in TAGS.items():
        path = root / "labels" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        up = "..\\" * (1 + name.count("/"))
        path.write_text(labelme_json(name, tags, f"{up}images\\{name}.jpg".replace("/", "\\")))
    return root


def xml(tags, name: str) -> str:
    objects = "".join(
        f"<object><name>{tag}</name><bndbox><xmin>1</xmin></bndbox></object>" for tag in tags
    )
    return f"<annotation><filename>{name}</filename>{objects}</annotation>"


def xml_beside(root: Path) -> Path:
    photos(root, TAGS)
    for name, tags in TAGS.items():
        (root / f"{name}.xml").write_text(xml(tags, f"{name}.jpg"))
    return root


def xml_apart(root: Path) -> Path:
    photos(root / "images", TAGS)
    for name, tags in TAGS.items():
        path = root / "annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml(tags, "stale.jpg"))
    return root


def cvat(root: Path) -> Path:
    photos(root / "images", TAGS)
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
    images = "".join(
        f'<image id="{k}" name="{name}.jpg" width="32" height="{24 + k}">'
        + "".join(f'<box label="{tag}" xtl="1" ytl="1" xbr="4" ybr="4"/>' for tag in tags)
        + "</image>"
        for k, (name, tags) in enumerate(TAGS.items())
    )
    (root / "annotations.xml").write_text(
        f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version>"
        f"<meta><task><labels>{labels}</labels></task></meta>{images}</annotations>"
    )
    return root


def label_studio_task(number: int, address: str, tags) -> dict:
    value = {"choices": list(tags)}
    result = {"type": "choices", "from_name": "choice", "to_name": "image", "value": value}
    annotation = {
        "id": number + 100,
        "completed_by": 1,
        "result": [result] if tags else [],
        "was_cancelled": False,
        "updated_at": "2024-01-30T02:40:43.893578Z",
        "lead_time": 8.6,
    }
    return {"id": number, "annotations": [annotation], "data": {"image": address}}


def label_studio(root: Path) -> Path:
    photos(root / "images", TAGS)
    addresses = [f"/data/local-files/?d=photos/{name}.jpg" for name in TAGS]
    tasks = [
        label_studio_task(k, address, tags)
        for k, (address, tags) in enumerate(zip(addresses, TAGS.values(), strict=True))
    ]
    (root / "project-1-at-2024-01-30-02-40-1b2c3d4e.json").write_text(json.dumps(tasks))
    return root


def label_studio_csv(root: Path) -> Path:
    photos(root, TAGS)
    path = root / "project-1-at-2024-01-30.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["annotation_id", "annotator", "choice", "created_at", "id", "image"])
        for k, (name, tags) in enumerate(TAGS.items()):
            several = json.dumps({"choices": list(tags)})
            cell = several if len(tags) > 1 else "".join(tags)
            writer.writerow([k, 1, cell, "2024-01-30", k, f"/data/upload/1/0a1b2c3d-{name}.jpg"])
    return path


def via(root: Path) -> Path:
    photos(root, TAGS)
    images = {
        f"{name}.jpg123": {
            "filename": f"{name}.jpg",
            "size": 123,
            "regions": [
                {
                    "shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 4, "height": 4},
                    "region_attributes": {"class": tag},
                }
                for tag in tags
            ],
            "file_attributes": {},
        }
        for name, tags in TAGS.items()
    }
    (root / "via_region_data.json").write_text(json.dumps(images))
    return root


SOURCES: dict[str, tuple[str, Callable[[Path], Path], dict]] = {
    "csv": ("tags", tags_csv, TAGS),
    "tsv": ("tags", tags_tsv, TAGS),
    "wide": ("tags", tags_wide, TAGS),
    "jsonl": ("tags", tags_json_lines, TAGS),
    "file": ("tags", tags_file_itself, TAGS),
    "voc_xml": ("voc", voc_xml, TAGS),
    "voc_masks": ("voc", voc_masks, TAGS),
    "coco_folder": ("coco", coco_folder, TAGS),
    "coco_json": ("coco", coco_json, TAGS),
    "masks": ("masks", index_masks, TAGS),
    "yolo": ("yolo", yolo, TAGS),
    "yolo_beside": ("yolo", yolo_beside, TAGS),
    "labelme": ("labelme", labelme, TAGS),
    "labelme_apart": ("labelme", labelme_apart, TAGS),
    "xml_beside": ("pascal-xml", xml_beside, TAGS),
    "xml_apart": ("pascal-xml", xml_apart, TAGS),
    "cvat": ("cvat", cvat, TAGS),
    "label_studio": ("label-studio", label_studio, TAGS),
    "label_studio_csv": ("label-studio", label_studio_csv, TAGS),
    "via": ("via", via, TAGS),
    "imagefolder": ("imagefolder", image_folder, ONE_TAG),
}


WITH_SUFFIX = ("coco", "label-studio", "labelme", "cvat", "via")
"""Kinds that name an image with its suffix."""


@pytest.fixture(params=SOURCES)
def made(request, tmp_path):
    kind, build, tags = SOURCES[request.param]
    root = tmp_path / "source"
    root.mkdir()
    return build(root), kind, tags, root


def tells_by_masks(root: Path) -> bool:
    return any((root / name).exists() for name in ("SegmentationClass", "ann_dir"))


def names(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    return {s.id: tuple(catalog.classes[i] for i in sorted(s.tags)) for s in catalog}


def test_every_kind_is_covered():
    assert {kind for kind, _, _ in SOURCES.values()} == set(READERS)


def test_ids_tags_and_order(made):
    source, kind, tags, _ = made
    catalog = open_catalog(source)
    assert catalog.classes == ("cat", "dog")
    assert names(catalog) == tags
    assert [sample.id for sample in catalog] == sorted(tags)
    assert all(sample.image.is_file() for sample in catalog)
    assert open_catalog(source, kind=kind) == catalog == open_catalog(str(source))
    assert catalog_digest(catalog) == catalog_digest(open_catalog(source))


def test_nothing_is_decoded(made, monkeypatch):
    source, _, tags, root = made
    catalog = open_catalog(source)
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"")
    assert open_catalog(source) == catalog
    assert len(catalog) == len(tags)


def test_check_finds_no_fault(made):
    source, kind, tags, _ = made
    seen = []
    report = check_catalog(source, progress=lambda done, total: seen.append((done, total)))
    assert report.faults == ()
    assert report.ok
    assert report.kind == kind
    assert seen == [(i, len(tags)) for i in range(1, len(tags) + 1)]
    fingerprint = report.fingerprint
    assert fingerprint.images == fingerprint.readable == len(tags)
    assert fingerprint.counts == {
        name: sum(name in t for t in tags.values()) for name in ("cat", "dog")
    }
    assert fingerprint.untagged == sum(not t for t in tags.values())
    assert fingerprint.modes == {"RGB": len(tags)}
    assert fingerprint.height.smallest == 24
    assert type(report).model_validate_json(report.model_dump_json()) == report
    assert skip_bad(open_catalog(source), report) == (open_catalog(source), [])


def test_splits_of_image_sets(made):
    source, _, tags, root = made
    splits(root, tags)
    first, second, *rest = tags
    assert {s.id for s in open_catalog(source, split="first")} == {first, second}
    assert {s.id for s in open_catalog(source, split="rest")} == set(rest)
    assert open_catalog(source, split="first").classes == ("cat", "dog")
    assert len(open_catalog(source)) == len(tags)
    assert check_catalog(source, split="rest").faults == ()
    with pytest.raises(DataError, match=r"unknown split 'tset'.*first, rest"):
        open_catalog(source, split="tset")
    with pytest.raises(DataError, match="unknown split 'tset'"):
        check_catalog(source, split="tset")


def test_truth_is_what_bears_an_images_name(made):
    source, _, tags, root = made
    some = dict(list(tags.items())[1:])
    if not (root / "SegmentationClass").exists():
        masks(root / "masks", {next(iter(tags)): (), **some})
        (root / "masks" / f"{next(iter(tags))}.png").unlink()
    catalog = open_catalog(source)
    assert names(catalog) == tags
    for sample in catalog:
        if sample.id in some:
            assert sample.mask is not None
            assert sample.mask.is_file()
            assert sample.mask.stem == sample.image.stem
    assert check_catalog(source).fingerprint.masks >= len(some)


def test_a_split_without_images(made):
    source, _, tags, root = made
    splits(root, tags)
    (root / "ImageSets" / "Segmentation" / "none.txt").write_text("nobody\n")
    with pytest.raises(DataError, match="no images found"):
        open_catalog(source, split="none")
    report = check_catalog(source, split="none")
    assert {"split", "image_missing"} <= {fault.kind for fault in report.faults}


def test_broken_images_are_found_and_skipped(made):
    source, _, tags, _ = made
    catalog = open_catalog(source)
    bad, empty, *_ = catalog
    bad.image.write_bytes(bad.image.read_bytes()[:200])
    empty.image.write_bytes(b"")
    report = check_catalog(source)
    kinds = {fault.kind: fault for fault in report.faults}
    assert kinds["image_damaged"].samples == (bad.id,)
    assert kinds["image_damaged"].file == str(bad.image)
    assert kinds["image_empty"].samples == (empty.id,)
    left, skipped = skip_bad(open_catalog(source), report)
    assert skipped == sorted([bad.id, empty.id])
    assert {s.id for s in left} == set(tags) - {bad.id, empty.id}


def test_missing_images_are_left_out(made):
    source, kind, tags, root = made
    if kind == "imagefolder":
        pytest.skip("an ImageFolder names no image that is not there")
    catalog = open_catalog(source)
    gone = catalog.samples[0]
    gone.image.unlink()
    assert {s.id for s in open_catalog(source)} == set(tags) - {gone.id}
    report = check_catalog(source)
    if tells_by_masks(root):
        assert [note.kind for note in report.notes if note.kind == "mask_unused"]
        return
    [fault] = [fault for fault in report.faults if fault.kind == "image_missing"]
    assert fault.samples == (gone.id,)
    left, skipped = skip_bad(open_catalog(source), report)
    assert gone.id in skipped
    assert gone.id not in {s.id for s in left}


def test_class_names_and_order_come_from_classes_txt(made):
    source, _, tags, root = made
    if tells_by_masks(root):
        pytest.skip("masks are told by the order of classes.txt")
    if (root / "obj.names").exists():
        pytest.skip("class numbers are told by the order of classes.txt")
    (root / "classes.txt").write_bytes(b"\xef\xbb\xbfdog\r\ncat\r\n")
    catalog = open_catalog(source)
    assert catalog.classes == ("dog", "cat")
    assert {k: set(v) for k, v in names(catalog).items()} == {k: set(v) for k, v in tags.items()}
    report = check_catalog(source)
    assert report.faults == ()
    assert {note.kind for note in report.notes} - {"annotation", "image_elsewhere"} == {"encoding"}


def test_links_that_leave_are_not_followed(made, tmp_path):
    source, *_ = made
    sample = open_catalog(source).samples[0]
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(sample.image.read_bytes())
    sample.image.unlink()
    try:
        sample.image.symlink_to(outside)
    except OSError:
        pytest.skip("this file system has no links")
    assert sample.id not in {s.id for s in open_catalog(source)}
    faults = [f for f in check_catalog(source).faults if f.kind == "path_leaves"]
    assert [fault.samples for fault in faults] == [(sample.id,)]


def test_two_suffixes_of_one_name(made):
    source, kind, _, root = made
    sample = open_catalog(source).samples[1]
    Image.new("RGB", (32, 25), "red").save(sample.image.with_suffix(".png"))
    with_suffix = kind in WITH_SUFFIX or any(
        "b.jpg" in path.read_text() for path in root.glob("labels.*")
    )
    report = check_catalog(source)
    doubled = [fault.samples for fault in report.faults if fault.kind == "duplicate_name"]
    assert doubled == ([] if with_suffix else [(sample.id,)])
    catalog = open_catalog(source)
    assert len({s.id for s in catalog}) == len(catalog)
    if with_suffix:
        assert catalog[sample.id].image.suffix == ".jpg"
