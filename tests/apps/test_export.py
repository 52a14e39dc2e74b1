import gc
import json
import shutil
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import weakseg
from weakseg import open_catalog
from weakseg.api import check, export
from weakseg.apps.export import FORMATS
from weakseg.apps.formats import (
    coco,
    cvat,
    geojson,
    hf_datasets,
    label_studio,
    labelme,
    png,
    voc,
    yolo_seg,
)
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.apps.review.photo_desk import Patch, PhotoDesk
from weakseg.cli import main
from weakseg.config.run_config import load_config
from weakseg.data.images import read_mask
from weakseg.data.masks import write_mask
from weakseg.data.rle import CvatRLE, from_brush_rle, from_coco_rle, from_cvat_rle
from weakseg.data.truth import true_mask
from weakseg.runs.confidence import mask_confidences
from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, DataError, RunError, Sample

CLASSES = ("big dog", "Kätzchen 🐈", 'it\'s <"b"> & co', "none of them")
NAMES = {"a": "a.png", "d.1": "d.1.webp", "flat": "flat.tif", "sub dir/b&'ü": "sub dir/b&'ü.JPG"}
TAGS = {"a": {0, 1}, "d.1": {2}, "flat": set(), "sub dir/b&'ü": {1, 2}}
LEFT_OUT = "sub dir/b&'ü", 2  # a tag without pixels


def labels_of(key: str, height: int, width: int) -> torch.Tensor:
    labels = torch.zeros(height, width, dtype=torch.uint8)
    for place, tag in enumerate(sorted(TAGS[key])):
        if (key, tag) != LEFT_OUT:
            labels[3 : 9 + place, 4 + 8 * place : 11 + 8 * place] = tag + 1
            labels[-2:, 4 + 8 * place] = tag + 1  # a second region
    return labels


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run of four images, one of them turned by its EXIF orientation."""
    rng = np.random.default_rng(0)
    samples, path = [], tmp_path / "run"
    folder = RunDir(path)
    (path / "cams" / "sub dir").mkdir(parents=True)
    for key, name in NAMES.items():
        image = tmp_path / "photos" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(rng.integers(0, 255, (24, 40, 3), dtype=np.uint8))
        size = (24, 40)
        if name.endswith("JPG"):
            exif = Image.Exif()
            exif[0x0112] = 6
            pixels.save(image, exif=exif)
            size = (40, 24)
        else:
            pixels.save(image)
        samples.append(Sample(key, image, frozenset(TAGS[key])))
        write_mask(path / "masks" / f"{key}.png", labels_of(key, *size), CLASSES)
        maps = rng.random((2, len(TAGS[key]), 6, 10)).astype(np.float16)
        known = {"classes": np.array(sorted(TAGS[key]), np.int64), "size": np.array(size)}
        for stage, kinds in (
            ("cams", {"spotlight": maps[0]}),
            ("weigh", {"compensation": maps[1], "weighted": maps[1]}),
        ):
            file = path / stage / f"{key}.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, **known, **kinds)
    folder.save_catalog(Catalog(CLASSES, tuple(samples)), source=tmp_path / "photos")
    bare = ["spread.prototypes=false", "spread.spreading=false", "evidence.images=0"]
    bare.append("refine.kind=none")
    folder.save_config(load_config(overrides=bare).to_yaml())
    for name in ("cams", "weigh", "masks"):
        (path / name / "fingerprint.json").write_text("{}")
        folder.open_stage(name, {}).finish({})
    return path


def mask_of(run: Path, key: str) -> np.ndarray:
    return read_mask(run / "masks" / f"{key}.png").numpy()


def confidences(run: Path, key: str) -> dict[int, float]:
    labels = read_mask(run / "masks" / f"{key}.png")
    known = mask_confidences(StageContext.reading(RunDir(run)), key, labels)
    assert len(known) == len(set(labels.unique().tolist()) - {0})
    return {index: round(value, 4) for index, value in known.items()}


KEY_OF = {name: key for key, name in NAMES.items()}


def test_coco_is_read_back_by_pycocotools(run, tmp_path):
    cocotools = pytest.importorskip("pycocotools.coco")
    out = tmp_path / "photos" / "instances.json"
    summary = export(run, "coco", out)
    assert (summary.path, summary.images, summary.masks) == (out, 4, 4)
    found = cocotools.COCO(str(out))
    assert [c["name"] for c in found.loadCats(found.getCatIds())] == list(CLASSES)
    assert {image["file_name"] for image in found.imgs.values()} == set(NAMES.values())
    for image in found.imgs.values():
        key = KEY_OF[image["file_name"]]
        labels, known = mask_of(run, key), confidences(run, key)
        assert (image["height"], image["width"]) == labels.shape
        annotations = found.loadAnns(found.getAnnIds(image["id"]))
        assert sorted(a["category_id"] for a in annotations) == sorted(known)
        for annotation in annotations:
            mask = labels == annotation["category_id"]
            assert np.array_equal(found.annToMask(annotation), mask)
            assert np.array_equal(from_coco_rle(annotation["segmentation"]), mask)
            assert annotation["area"] == mask.sum()
            assert annotation["score"] == known[annotation["category_id"]]
            assert annotation["iscrowd"] == 0
            left, top, width, height = annotation["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
            assert mask[top].any()
            assert mask[:, left + width - 1].any()


def test_coco_is_a_source(run, tmp_path):
    out = tmp_path / "photos" / "instances.json"
    export(run, "coco", out)
    catalog = open_catalog(out)
    assert catalog.classes == CLASSES[:-1]  # no image has the last
    assert {s.id: set(s.tags) for s in catalog} == {**TAGS, LEFT_OUT[0]: {1}}
    assert check(out).faults == ()
    for sample in catalog:
        truth = true_mask(sample, catalog.classes)
        assert np.array_equal(
            np.where(truth == 255, 0, truth),
            np.where((own := mask_of(run, sample.id)) == 255, 0, own),
        )


def test_label_studio(run, tmp_path):
    export(run, "label-studio", tmp_path / "out")
    config = ElementTree.parse(tmp_path / "out" / "config.xml").getroot()
    picture, control = config.find("Image"), config.find("BrushLabels")
    assert [label.get("value") for label in control.findall("Label")] == list(CLASSES)
    assert control.get("toName") == picture.get("name")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["id"] for task in tasks] == sorted(TAGS)
    for task in tasks:
        key = task["data"]["id"]
        assert f"${next(iter(task['data']))}" == picture.get("value")
        assert {CLASSES.index(tag) for tag in task["data"]["tags"]} == TAGS[key]
        labels, known = mask_of(run, key), confidences(run, key)
        if not known:
            assert task["predictions"] == []
            continue
        (prediction,) = task["predictions"]
        assert prediction["score"] == min(known.values())
        assert len({region["id"] for region in prediction["result"]}) == len(known)
        for region in prediction["result"]:
            assert (region["from_name"], region["to_name"]) == (
                control.get("name"),
                picture.get("name"),
            )
            assert (region["type"], region["value"]["format"]) == ("brushlabels", "rle")
            assert (region["original_height"], region["original_width"]) == labels.shape
            (name,) = region["value"]["brushlabels"]
            index = CLASSES.index(name) + 1
            mask = from_brush_rle(region["value"]["rle"], *labels.shape)
            assert np.array_equal(mask, labels == index)
            assert region["score"] == known[index]


@pytest.mark.parametrize(
    ("root", "url"),
    [
        (None, "/data/local-files/?d=photos/sub%20dir/b%26%27%C3%BC.JPG"),
        ("https://host/x", "https://host/x/sub%20dir/b%26%27%C3%BC.JPG"),
        ("/data/local-files/?d=", "/data/local-files/?d=sub%20dir/b%26%27%C3%BC.JPG"),
        ("s3://bucket/of mine/", "s3://bucket/of mine/sub dir/b&'ü.JPG"),
    ],
)
def test_label_studios_addresses(run, tmp_path, root, url):
    export(run, "label-studio", tmp_path / "out", image_root=root)
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
    assert tasks[3]["data"]["image"] == url


def test_cvat(run, tmp_path):
    export(run, "cvat", tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
    labels = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/size") == "4"
    declared = root.findall("meta/task/labels/label")
    assert [label.findtext("name") for label in declared] == list(CLASSES)
    assert [label["name"] for label in labels] == list(CLASSES)
    for label, element in zip(labels, declared, strict=True):
        (attribute,) = label["attributes"]
        assert attribute["values"] == element.findtext("attributes/attribute/values").split("\n")
        assert attribute["name"] == element.findtext("attributes/attribute/name") == "confidence"
    assert [image.get("id") for image in root.findall("image")] == ["0", "1", "2", "3"]
    for image in root.findall("image"):
        key = KEY_OF[image.get("name")]
        truth, known = mask_of(run, key), confidences(run, key)
        assert (int(image.get("height")), int(image.get("width"))) == truth.shape
        found = {}
        for shape in image.findall("mask"):
            index = CLASSES.index(shape.get("label")) + 1
            box = [int(shape.get(side)) for side in ("left", "top", "width", "height")]
            mask = from_cvat_rle(CvatRLE(shape.get("rle"), *box), *truth.shape)
            assert np.array_equal(mask, truth == index)
            (attribute,) = shape.findall("attribute")
            assert attribute.get("name") == "confidence"
            found[index] = float(attribute.text)
        assert found == known


def test_voc_is_read_back_to_the_same_catalog_and_masks(run, tmp_path):
    out = tmp_path / "VOCdevkit" / "VOC2012"
    export(run, "voc", out)
    catalog = open_catalog(out, split="train")
    assert catalog.classes == CLASSES
    assert {s.id: set(s.tags) for s in catalog} == TAGS
    for sample in catalog:
        if not sample.image.name.endswith("JPG"):  # that one is turned: see formats/
            original = tmp_path / "photos" / NAMES[sample.id]
            assert sample.image.read_bytes() == original.read_bytes()
        assert not sample.image.is_symlink()
        assert np.array_equal(read_mask(sample.mask).numpy(), mask_of(run, sample.id))
    report = check(out)
    assert report.kind == "voc"
    assert {note.kind for note in report.notes} == {"few_images", "mask_tags"}  # of four images
    assert [fault.kind for fault in report.faults] == ["class_unused"]  # as in the run itself
    box = ElementTree.parse(out / "Annotations" / "a.xml").find("object/bndbox")
    assert [side.text for side in box] == ["5", "4", "11", "24"]


def test_voc_as_torchvision_reads_it(run, tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    picture = tmp_path / "photos" / "a.png"
    Image.open(picture).save(picture.with_suffix(".jpg"))
    record = json.loads((run / "catalog.json").read_text(encoding="utf-8"))
    record["samples"] = record["samples"][:1]
    record["samples"][0]["image"] = str(picture.with_suffix(".jpg"))
    (run / "catalog.json").write_text(json.dumps(record), encoding="utf-8")
    export(run, "voc", tmp_path / "VOCdevkit" / "VOC2012")
    ((_, mask),) = datasets.VOCSegmentation(str(tmp_path), year="2012", image_set="train")
    assert np.array_equal(np.asarray(mask), mask_of(run, "a"))


@pytest.fixture
def other(run, tmp_path) -> Path:
    """Other masks of the run's images: plain gray PNGs with ignored pixels."""
    folder = tmp_path / "others"
    for key in NAMES:
        path = folder / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = np.where(mask_of(run, key) > 0, 4, 0).astype(np.uint8)
        labels[0] = 255
        Image.fromarray(labels).save(path)
    return folder


def test_other_masks_have_no_confidences(run, other, tmp_path):
    for to in ("label-studio", "cvat", "voc"):
        export(run, to, tmp_path / to, masks=other)
    summary = export(run, "coco", tmp_path / "coco.json", masks=other)
    assert summary.masks == 3
    annotations = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["annotations"]
    assert [a["category_id"] for a in annotations] == [4, 4, 4]
    assert all("score" not in a for a in annotations)
    tasks = json.loads((tmp_path / "label-studio/tasks.json").read_text(encoding="utf-8"))
    predictions = [p for task in tasks for p in task["predictions"]]
    assert len(predictions) == 3
    assert all("score" not in p and "score" not in p["result"][0] for p in predictions)
    text = (tmp_path / "cvat/annotations.xml").read_text(encoding="utf-8")
    assert text.count("<mask ") == 3
    assert "confidence" not in text + (tmp_path / "cvat/labels.json").read_text(encoding="utf-8")
    for sample in open_catalog(tmp_path / "voc"):
        assert sample.tags == TAGS[sample.id] | ({3} if TAGS[sample.id] else set())
        assert torch.equal(read_mask(sample.mask), read_mask(other / f"{sample.id}.png"))


OUTS = {name: "out.json" if name == "coco" else "out" for name in FORMATS if name != "onnx"}


@pytest.mark.parametrize("to", OUTS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_export_leaves_nothing(run, tmp_path, monkeypatch, to, error):
    real, calls = mask_confidences, []

    def interrupted(*arguments, **settings):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return real(*arguments, **settings)

    monkeypatch.setattr("weakseg.apps.export.mask_confidences", interrupted)
    before = sorted(tmp_path.rglob("*"))
    expected = RunError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space" if isinstance(error, OSError) else None):
        export(run, to, tmp_path / OUTS[to])
    assert len(calls) == 3
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("to", OUTS)
def test_what_is_there_is_kept(run, tmp_path, to):
    out = tmp_path / OUTS[to]
    if to != "coco":
        out.mkdir()
        export(run, to, out)
    else:
        out.write_text("{}")
    files = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="is there already; remove it"):
        export(run, to, out)
    assert {p: p.read_bytes() for p in out.parent.rglob("*") if p.is_file()} == files


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    for out in ("file/x.json", "file/x/y.json"):
        with pytest.raises(RunError, match=r"cannot write .*json: "):
            export(run, "coco", tmp_path / out)


def spoil_missing(folder):
    (folder / "a.png").unlink()


def spoil_size(folder):
    Image.fromarray(np.zeros((40, 24), np.uint8)).save(folder / "a.png")


def spoil_index(folder):
    Image.fromarray(np.full((24, 40), 5, np.uint8)).save(folder / "a.png")


def spoil_classes(folder):
    write_mask(folder / "a.png", torch.zeros(24, 40, dtype=torch.uint8), ("cat",))


@pytest.mark.parametrize(
    ("spoil", "about"),
    [
        (spoil_missing, r"lacks masks of 1 of 4 images \(a\); give --masks a folder"),
        (spoil_size, r"a\.png is 24×40 pixels, but its image .*a\.png is 40×24"),
        (spoil_index, r"a\.png has index 5, but the run has 4 classes"),
        (spoil_classes, r"a\.png has the classes cat, but the run has big dog"),
    ],
)
def test_masks_that_do_not_fit_are_refused(run, other, tmp_path, spoil, about):
    spoil(other)
    with pytest.raises(DataError, match=about):
        export(run, "coco", tmp_path / "out.json", masks=other)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("to", "out", "options", "about"),
    [
        ("yolo", "out", {}, "unknown format 'yolo'; known formats: onnx, coco, label-studio, cvat"),
        ("png", "out", {"layout": "x"}, "unknown layout 'x'; known layouts: flat, nnunet, mmseg"),
        (
            "yolo-seg",
            "out",
            {"layout": "flat"},
            "--layout is for png only, not for yolo-seg; leave",
        ),
        ("coco", "out", {}, r"end --out by \.json"),
        ("voc", "out", {"image_root": "x"}, "--image-root is for label-studio only, not for voc"),
        ("onnx", "out.onnx", {"masks": "x"}, "--masks is for formats that hold masks"),
    ],
)
def test_wrong_requests_are_refused(run, tmp_path, to, out, options, about):
    with pytest.raises(RunError, match=about):
        export(run, to, tmp_path / out, **options)


def test_an_unfinished_run_is_refused(run, tmp_path):
    (run / "masks" / "done.json").unlink()
    with pytest.raises(RunError, match="stage 'masks' is not finished"):
        export(run, "coco", tmp_path / "out.json")
    with pytest.raises(RunError, match="is no run of weakseg"):
        export(tmp_path / "photos", "coco", tmp_path / "out.json")


def test_names_that_xml_cannot_hold_are_refused(tmp_path):
    job = Job(("a\x07b",), 0, confident=False)
    for write in (cvat.write, voc.write, label_studio.write):
        with pytest.raises(DataError, match=r"'a\\x07b' has the character '\\x07'"):
            write([], job, tmp_path)


@pytest.mark.parametrize("name", ["a:b", "#a"])
def test_names_that_a_label_map_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"cannot stand in labelmap\.txt"):
        voc.write([], Job((name,), 0, confident=False), tmp_path)


MODULES = [coco, label_studio, cvat, voc, png, yolo_seg, labelme, geojson, hf_datasets]


@pytest.mark.parametrize("module", MODULES)
def test_one_mask_is_held_at_a_time(run, tmp_path, module):
    catalog, given = RunDir(run).load_catalog(), []

    def images():
        for sample in catalog:
            gc.collect()
            assert sum(image() is not None for image in given) <= 1
            image = Labelled(sample, mask_of(run, sample.id), {})
            given.append(weakref.ref(image))
            yield image
            del image

    out = tmp_path / "out"
    out.mkdir()
    job = Job(catalog.classes, len(catalog), confident=False)
    module.write(images(), job, out / "x.json" if module is coco else out)
    assert len(given) == 4


def reviewed(run):
    """`a` drawn anew, the tag of `d.1` taken away, `flat` rejected: before the next run."""
    desk = PhotoDesk(run, "ann")
    drawn = np.full((4, 5), 3, np.uint8)
    desk.draw(desk.sample("a"), None, Patch(2, 1, drawn), "brush")
    desk.tag(desk.sample("d.1"), None, [])
    desk.judge(desk.sample("flat"), None, "rejected")
    return desk


def test_corrections_go_out_before_the_next_run(run, tmp_path, capsys):
    desk, made = reviewed(run), mask_of(run, "a")
    assert main(["export", str(run), "--to", "png", "--out", str(tmp_path / "png")]) == 0
    told = capsys.readouterr().err
    assert "1 true masks and 2 images' tags are as people accepted or corrected them" in told
    assert "1 masks that people rejected" in told
    drawn = read_mask(tmp_path / "png" / "a.png").numpy()
    assert (drawn[1:5, 2:7] == 3).all()
    assert (drawn[12:] == made[12:]).all()
    assert mask_of(run, "d.1").any()
    assert not read_mask(tmp_path / "png" / "d.1.png").numpy().any()

    export(run, "label-studio", tmp_path / "studio")
    tasks = json.loads((tmp_path / "studio" / "tasks.json").read_text(encoding="utf-8"))
    by_id = {task["data"]["id"]: task for task in tasks}
    assert by_id["a"]["data"]["tags"] == [*CLASSES[:2], CLASSES[2]]
    assert by_id["d.1"]["data"]["tags"] == []
    assert {r["score"] for r in by_id["a"]["predictions"][0]["result"]} == {1.0}

    desk.undo(desk.sample("a"), 1)
    desk.undo(desk.sample("d.1"), 1)
    desk.undo(desk.sample("flat"), 1)
    assert not any("people" in note for note in export(run, "png", tmp_path / "again").notes)
    assert np.array_equal(read_mask(tmp_path / "again" / "a.png").numpy(), made)


def test_scores_of_a_runs_masks_say_that_they_were_corrected_since(run, tmp_path, capsys):
    truth = tmp_path / "truth"
    shutil.copytree(run / "masks", truth)
    assert weakseg.evaluate(run / "masks", truth).warnings == ()
    reviewed(run)
    assert main(["evaluate", str(run / "masks"), "--truth", str(truth)]) == 0
    assert "people corrected 1 masks and 2 images' tags since" in capsys.readouterr().err


def test_no_images_are_still_a_file(tmp_path):
    job = Job(("cat",), 0, confident=True)
    coco.write([], job, tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert (content["images"], content["annotations"]) == ([], [])
    label_studio.write([], job, tmp_path)
    assert json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8")) == []


def test_progress_is_shown(run, tmp_path):
    console = Console(record=True, width=80, force_terminal=False, quiet=False, file=None)
    with console.capture() as shown:
        export(run, "coco", tmp_path / "out.json", console=console)
    assert "export  4/4" in shown.get()


def test_the_command(run, tmp_path, capsys):
    out = tmp_path / "x.json"
    assert main(["export", str(run), "--to", "coco", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 4 images, 4 masks\n"
    assert main(["export", str(run), "--to", "coco", "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    folder = str(tmp_path / "studio")
    more = ["--masks", str(run / "masks"), "--image-root", "https://h/"]
    assert main(["export", str(run), "--to", "label-studio", "--out", folder, *more]) == 0
    text = (tmp_path / "studio" / "tasks.json").read_text(encoding="utf-8")
    assert "https://h/a.png" in text
    assert '"score"' not in text


def test_help_names_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in FORMATS)


def test_a_traceback_goes_into_the_runs_folder(run, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise AssertionError("oh")

    monkeypatch.setattr("weakseg.apps.export.mask_confidences", broken)
    assert main(["export", str(run), "--to", "cvat", "--out", str(tmp_path / "out")]) == 70
    assert "this is a bug in weakseg" in capsys.readouterr().err
    assert "AssertionError: oh" in (run / "traceback.txt").read_text(encoding="utf-8")


def test_a_model_goes_to_its_own_module(run, tmp_path, monkeypatch):
    calls = []
    module = SimpleNamespace(export_onnx=lambda *arguments: calls.append(arguments))
    monkeypatch.setitem(sys.modules, "weakseg.apps.onnx", module)
    console = Console(quiet=True)
    summary = export(run, "onnx", tmp_path / "model.onnx", console=console)
    assert calls == [(run, tmp_path / "model.onnx", console)]
    assert (summary.path, summary.images, summary.masks) == (tmp_path / "model.onnx", None, None)


def test_export_is_public():
    assert weakseg.export is export
