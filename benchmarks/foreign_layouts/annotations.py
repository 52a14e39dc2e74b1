"""Exports of annotation tools and public data sets: COCO, VOC, YOLO, labelme, CVAT and others."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from foreign_layouts.parts import (
    HEIGHT,
    TAGS,
    WIDTH,
    Layout,
    box,
    corners,
    mask,
    masks,
    photo,
    photos,
    write_json,
)

COLOURS = {"cat": (250, 50, 83), "dog": (51, 221, 255)}
PARTED = {"train/a": TAGS["a"], "train/b": TAGS["b"], "valid/c": TAGS["c"], "valid/d": TAGS["d"]}


def part_of(name: str, second: str = "valid") -> str:
    return "train" if name in "ab" else second


def coco(
    names: Sequence[str] = tuple(TAGS),
    *,
    key: Callable[[Any], Any] = int,
    prefix: str = "",
    shape: str = "polygon",
    categories: Sequence[tuple[int, str]] = ((1, "cat"), (2, "dog")),
    suffix: str = ".jpg",
) -> dict[str, Any]:
    """A COCO record."""
    number = {name: k for k, name in categories}
    annotations = []
    for name in names:
        for tag in TAGS[name]:
            left, top, right, bottom = box(tag)
            record: dict[str, Any] = {
                "id": len(annotations), "image_id": key(ord(name)), "iscrowd": 0,
                "category_id": key(number[tag]), "area": (right - left) * (bottom - top),
                "bbox": [left, top, right - left, bottom - top],
            }  # fmt: skip
            if shape == "polygon":
                record["segmentation"] = [[float(v) for point in corners(tag) for v in point]]
            elif shape == "runs":
                inside = (mask([tag]) > 0).ravel(order="F")
                edges = np.flatnonzero(np.diff(inside)) + 1
                counts = np.diff([0, *edges, inside.size]).tolist()
                record |= {
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
                    "iscrowd": 1,
                }
            annotations.append(record)
    return {
        "images": [
            {
                "id": key(ord(n)),
                "file_name": f"{prefix}{n}{suffix}",
                "height": HEIGHT,
                "width": WIDTH,
            }
            for n in names
        ],
        "annotations": annotations,
        "categories": [{"id": key(k), "name": name} for k, name in categories],
    }


def coco_in(place: str = "annotations/instances_default.json", **options: Any) -> Callable:
    def build(folder: Path) -> None:
        photos(folder / "images")
        write_json(folder / place, coco(**options))

    return build


def roboflow_coco(folder: Path) -> None:
    for part, names in (("train", "ab"), ("valid", "cd")):
        photos(folder / part, names)
        record = coco(names, categories=((0, "pets-xyz"), (1, "cat"), (2, "dog")))
        write_json(folder / part / "_annotations.coco.json", record)


def coco_2017(folder: Path) -> None:
    for part, names in (("train2017", "ab"), ("val2017", "cd")):
        photos(folder / part, names)
        write_json(folder / "annotations" / f"instances_{part}.json", coco(names))
        write_json(
            folder / "annotations" / f"captions_{part}.json", {"images": [], "annotations": []}
        )


def cvat_coco(folder: Path) -> None:
    photos(folder / "images" / "default")
    write_json(folder / "annotations" / "instances_default.json", coco())


def xml(name: str, tags: Sequence[str], suffix: str = ".jpg") -> str:
    objects = ""
    for tag in tags:
        left, top, right, bottom = box(tag)
        objects += (
            f"<object><name>{escape(tag)}</name><pose>Unspecified</pose><difficult>0</difficult>"
            f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
        )
    return (
        f"<annotation><folder>x</folder><filename>{name}{suffix}</filename><size><width>{WIDTH}"
        f"</width><height>{HEIGHT}</height><depth>3</depth></size>{objects}</annotation>"
    )


def voc(folder: Path, *, truth: bool = True) -> None:
    photos(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name, tags in TAGS.items():
        (folder / "Annotations" / f"{name}.xml").write_text(xml(name, tags))
    if truth:
        masks(folder / "SegmentationClass")
        (folder / "classes.txt").write_text("cat\ndog\n")


def voc_empty(folder: Path) -> None:
    photos(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name in TAGS:
        (folder / "Annotations" / f"{name}.xml").write_text(xml(name, ()))


def labelme2voc(masks_folder: str = "SegmentationClass") -> Callable:
    def build(folder: Path) -> None:
        photos(folder / "JPEGImages")
        photos(folder / "SegmentationClassVisualization")
        masks(folder / masks_folder)
        (folder / "class_names.txt").write_text("__ignore__\n_background_\ncat\ndog\n")

    return build


def cvat_masks(*, palette: bool) -> Callable:
    def build(folder: Path) -> None:
        photos(folder / "JPEGImages")
        (folder / "SegmentationClass").mkdir()
        for name, tags in TAGS.items():
            indices = mask(tags)
            colours = np.zeros((256, 3), np.uint8)
            colours[1], colours[2] = COLOURS["cat"], COLOURS["dog"]
            image = Image.fromarray(colours[indices])
            if palette:
                image = image.quantize(4)
            image.save(folder / "SegmentationClass" / f"{name}.png")
        lines = [f"{n}:{','.join(map(str, c))}::" for n, c in COLOURS.items()]
        text = "\n".join(["# label:color_rgb:parts:actions", "background:0,0,0::", *lines, ""])
        (folder / "labelmap.txt").write_text(text)
        (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
        (folder / "ImageSets" / "Segmentation" / "default.txt").write_text("a\nb\nc\nd\n")

    return build


def masks_without_names(folder: Path) -> None:
    photos(folder / "JPEGImages")
    masks(folder / "SegmentationClass")


def mmseg(suffix: str = "") -> Callable:
    def build(folder: Path) -> None:
        for name, tags in TAGS.items():
            photo(folder / "img_dir" / part_of(name) / f"{name}.jpg")
            target = folder / "ann_dir" / part_of(name) / f"{name}{suffix}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask(tags)).save(target)
        (folder / "classes.txt").write_text("cat\ndog\n")

    return build


def mmseg_without_names(folder: Path) -> None:
    mmseg()(folder)
    (folder / "classes.txt").unlink()


def images_and_masks(folder: Path) -> None:
    photos(folder / "images")
    masks(folder / "masks")
    (folder / "classes.txt").write_text("cat\ndog\n")


def nnunet(folder: Path) -> None:
    for name, tags in TAGS.items():
        photo(folder / "imagesTr" / f"{name}_0000.png")
        (folder / "labelsTr").mkdir(exist_ok=True)
        Image.fromarray(mask(tags)).save(folder / "labelsTr" / f"{name}.png")
    labels = {"background": 0, "cat": 1, "dog": 2}
    write_json(folder / "dataset.json", {"labels": labels, "file_ending": ".png"})


def binary_masks(folder: Path) -> None:
    photos(folder / "images")
    masks(folder / "masks", index={"cat": 255, "dog": 255})
    (folder / "classes.txt").write_text("cat\n")


def yolo_lines(tags: Sequence[str], *, polygons: bool) -> str:
    lines = []
    for tag in tags:
        left, top, right, bottom = box(tag)
        k = ("cat", "dog").index(tag)
        if polygons:  # five points: four would be an oriented box
            points = [*corners(tag), (left, (top + bottom) / 2)]
            numbers = [v for x, y in points for v in (x / WIDTH, y / HEIGHT)]
        else:
            numbers = [(left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT,
                       (right - left) / WIDTH, (bottom - top) / HEIGHT]  # fmt: skip
        lines.append(" ".join([str(k), *(f"{v:.6f}" for v in numbers)]))
    return "\n".join(lines) + ("\n" if lines else "")


def yolo(*, inner: str, polygons: bool = False, names: str = "names: [cat, dog]\n") -> Callable:
    """`images/train` and `labels/train`, or `train/images` and `train/labels`."""

    def build(folder: Path) -> None:
        for name, tags in TAGS.items():
            part = part_of(name)
            images, labels = (
                (f"images/{part}", f"labels/{part}")
                if inner == "part"
                else (f"{part}/images", f"{part}/labels")
            )
            photo(folder / images / f"{name}.jpg")
            path = folder / labels / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yolo_lines(tags, polygons=polygons))
        train, val = (
            ("images/train", "images/valid")
            if inner == "part"
            else ("../train/images", "../valid/images")
        )
        (folder / "data.yaml").write_text(f"train: {train}\nval: {val}\nnc: 2\n{names}")

    return build


def yolo_flat(folder: Path) -> None:
    photos(folder / "images")
    (folder / "labels").mkdir()
    for name, tags in TAGS.items():
        (folder / "labels" / f"{name}.txt").write_text(yolo_lines(tags, polygons=False))
    (folder / "classes.txt").write_text("cat\ndog\n")


def labelme(*, apart: bool = False, embedded: bool = False) -> Callable:
    def build(folder: Path) -> None:
        photos(folder / "images" if apart else folder)
        for name, tags in TAGS.items():
            data = None
            if embedded:
                buffer = io.BytesIO()
                Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "JPEG")
                data = base64.b64encode(buffer.getvalue()).decode()
            shapes = [
                {"label": tag, "points": [list(map(float, p)) for p in corners(tag)],
                 "group_id": None, "shape_type": "polygon", "flags": {}}
                for tag in tags
            ]  # fmt: skip
            path = f"..\\images\\{name}.jpg" if apart else f"{name}.jpg"
            write_json(
                folder / ("annotations" if apart else ".") / f"{name}.json",
                {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": path,
                 "imageData": data, "imageHeight": HEIGHT, "imageWidth": WIDTH},
            )  # fmt: skip

    return build


def xml_beside(folder: Path) -> None:
    photos(folder)
    for name, tags in TAGS.items():
        (folder / f"{name}.xml").write_text(xml(name, tags))


def xml_apart(folder: Path) -> None:
    photos(folder / "images")
    (folder / "annotations").mkdir()
    for name, tags in TAGS.items():
        (folder / "annotations" / f"{name}.xml").write_text(xml(name, tags))


def roboflow_voc(folder: Path) -> None:
    for name, tags in TAGS.items():
        photo(folder / part_of(name) / f"{name}.jpg")
        (folder / part_of(name) / f"{name}.xml").write_text(xml(name, tags))


def label_studio(*, brush: bool = False, choices: bool = False) -> list[dict[str, Any]]:
    tasks = []
    for number, (name, tags) in enumerate(TAGS.items(), start=1):
        results: list[dict[str, Any]] = []
        for tag in tags:
            value: dict[str, Any] = {
                "closed": True, "polygonlabels": [tag],
                "points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(tag)],
            }  # fmt: skip
            if not choices:
                results.append(
                    {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
                     "value": value, "id": f"r{tag}", "from_name": "label", "to_name": "image",
                     "type": "polygonlabels", "origin": "manual"}
                )  # fmt: skip
        if choices and tags:
            results.append(
                {"value": {"choices": list(tags)}, "id": "c", "from_name": "choice",
                 "to_name": "image", "type": "choices", "origin": "manual"}
            )  # fmt: skip
        tasks.append(
            {"id": number, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.jpg"},
             "annotations": [{"id": number, "result": results, "was_cancelled": False}],
             "predictions": []}
        )  # fmt: skip
    return tasks


def label_studio_json(*, choices: bool = False) -> Callable:
    def build(folder: Path) -> Path:
        photos(folder / "images")
        return write_json(folder / "project-1.json", label_studio(choices=choices)).parent

    return build


def label_studio_min(folder: Path) -> None:
    photos(folder / "images")
    rows = []
    for number, (name, tags) in enumerate(TAGS.items(), start=1):
        choice = {"choices": list(tags)} if len(tags) > 1 else (tags or ("",))[0]
        row = {
            "image": f"/data/upload/1/0a1b2c3d-{name}.jpg", "id": number, "choice": choice,
            "annotator": 1, "annotation_id": number, "created_at": "2024-01-01T10:00:00Z",
            "updated_at": "2024-01-01T10:00:00Z", "lead_time": 3.2,
        }  # fmt: skip
        rows.append(row)
    write_json(folder / "project-1-min.json", rows)


def label_studio_csv(folder: Path) -> None:
    photos(folder / "images")
    lines = ["annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at"]
    for k, (name, tags) in enumerate(TAGS.items(), start=1):
        cell = (
            "" if not tags else tags[0] if len(tags) == 1 else json.dumps({"choices": list(tags)})
        )
        quoted = '"' + cell.replace('"', '""') + '"' if cell.startswith("{") else cell
        lines.append(
            f"{k},1,{quoted},2024-01-01,{k},/data/upload/1/0a1b2c3d-{name}.jpg,1.5,2024-01-01"
        )
    (folder / "project-1.csv").write_text("\n".join(lines) + "\n")


def cvat_xml(folder: Path) -> None:
    photos(folder / "images")
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
    images = ""
    for k, (name, tags) in enumerate(TAGS.items()):
        shapes = "".join(
            f'<polygon label="{tag}" source="manual" occluded="0" z_order="0" '
            f'points="{";".join(f"{x}.00,{y}.00" for x, y in corners(tag))}"></polygon>'
            for tag in tags
        )
        images += (
            f'<image id="{k}" name="{name}.jpg" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
        )
    (folder / "annotations.xml").write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version><meta><task><labels>{labels}'
        f"</labels></task></meta>{images}</annotations>"
    )


def via(folder: Path) -> None:
    photos(folder)
    record = {}
    for name, tags in TAGS.items():
        regions = [
            {"shape_attributes": {"name": "polygon", "all_points_x": [x for x, _ in corners(t)],
                                  "all_points_y": [y for _, y in corners(t)]},
             "region_attributes": {"label": t}}
            for t in tags
        ]  # fmt: skip
        size = (folder / f"{name}.jpg").stat().st_size
        record[f"{name}.jpg{size}"] = {
            "filename": f"{name}.jpg", "size": size, "regions": regions, "file_attributes": {},
        }  # fmt: skip
    write_json(folder / "via_region_data.json", record)


def image_folder(*, parts: bool = False) -> Callable:
    def build(folder: Path) -> None:
        for name, tag in (("a", "cat"), ("b", "cat"), ("c", "dog"), ("d", "dog")):
            place = folder / ("train" if name in "ac" else "test") if parts else folder
            photo(place / tag / f"{name}.jpg")

    return build


def parts_alone(folder: Path) -> None:
    for name in TAGS:
        photo(folder / part_of(name) / f"{name}.jpg")


def unknown_format(folder: Path) -> None:
    photos(folder / "images")
    write_json(folder / "annotations" / "a.json", {"strange": 1})


def surrogates(folder: Path) -> None:
    photos(folder)
    text = '{"image": "a.jpg", "tags": ["cat\\ud800"]}\n{"image": "b.jpg", "tags": ["dog"]}\n'
    (folder / "labels.jsonl").write_text(text)


def latin_name(folder: Path) -> None:
    photos(folder)
    (folder / "labels.csv").write_text(
        "image,tags\n" + "".join(f"{name}.jpg,{' '.join(tags)}\n" for name, tags in TAGS.items())
    )
    data = (folder / "a.jpg").read_bytes()
    import os  # noqa: PLC0415

    with open(os.path.join(os.fsencode(folder), b"caf\xe9.jpg"), "wb") as file:  # noqa: PTH118, PTH123
        file.write(data[:-2] + b"\0" + data[-2:])


FOUR = {"cat/a": ("cat",), "cat/b": ("cat",), "dog/c": ("dog",), "dog/d": ("dog",)}
FOUR_PARTED = {"train/cat/a": ("cat",), "test/cat/b": ("cat",), "train/dog/c": ("dog",),
               "test/dog/d": ("dog",)}  # fmt: skip
MANY = tuple((k, f"thing {k}") for k in range(3, 81))
AS_PARTS = {f"{key.split('/')[0]}/images/{key.split('/')[1]}": tags for key, tags in PARTED.items()}

LAYOUTS = (
    Layout("COCO, polygons", coco_in(), truth=True),
    Layout("COCO, run lengths", coco_in(shape="runs"), truth=True),
    Layout("COCO, boxes alone", coco_in(shape="box")),
    Layout("COCO, ids as text", coco_in(key=str), truth=True),
    Layout("COCO, 80 categories, 2 used", coco_in(categories=((1, "cat"), (2, "dog"), *MANY)),
           truth=True, notes=("78 of 80 categories",)),
    Layout("COCO, paths of another machine", coco_in(prefix="/data/x/"), truth=True,
           notes=("another place",)),
    Layout("COCO, URLs", coco_in(prefix="http://host/x/"), truth=True, notes=("another place",)),
    Layout("COCO, Windows paths", coco_in(prefix="C:\\x\\"), truth=True, notes=("another place",)),
    Layout("COCO beside the images", coco_in("result.json"), truth=True),
    Layout("COCO 2017, two splits", coco_2017, {"train2017/a": TAGS["a"], "train2017/b": TAGS["b"],
           "val2017/c": TAGS["c"], "val2017/d": TAGS["d"]}, truth=True),
    Layout("COCO 2017, one split", coco_2017, {"val2017/c": TAGS["c"], "val2017/d": TAGS["d"]},
           truth=True, options={"split": "val2017"}, classes=("cat", "dog")),
    Layout("CVAT COCO", cvat_coco, truth=True),
    Layout("Roboflow COCO", roboflow_coco, PARTED, truth=True, notes=("pets-xyz",)),
    Layout("Roboflow COCO, one split", roboflow_coco, {"train/a": TAGS["a"], "train/b": TAGS["b"]},
           truth=True, options={"split": "train"}),
    Layout("VOC devkit", voc, truth=True),
    Layout("VOC devkit, boxes alone", lambda f: voc(f, truth=False)),
    Layout("VOC, XML without objects", voc_empty, None, refused="name for each image"),
    Layout("labelme2voc", labelme2voc(), truth=True),
    Layout("labelme2voc, older", labelme2voc("SegmentationClassPNG"), truth=True),
    Layout("CVAT masks, colours", cvat_masks(palette=False), truth=True),
    Layout("CVAT masks, palette", cvat_masks(palette=True), truth=True),
    Layout("masks without names of classes", masks_without_names, None, refused="classes.txt"),
    Layout("mmsegmentation", mmseg(), PARTED, truth=True),
    Layout("mmsegmentation, _labelTrainIds", mmseg("_labelTrainIds"), PARTED, truth=True,
           notes=("another ending",)),
    Layout("mmsegmentation without names", mmseg_without_names, None, refused="classes.txt"),
    Layout("images/ and masks/", images_and_masks, truth=True),
    Layout("masks of 0 and 255", binary_masks, None, refused="those of the first 1"),
    Layout("nnU-Net", nnunet, truth=True),
    Layout("YOLO boxes, images/train", yolo(inner="part"), PARTED),
    Layout("YOLO boxes, train/images (Roboflow)", yolo(inner="images"), AS_PARTS),
    Layout("YOLO polygons", yolo(inner="part", polygons=True), PARTED, truth=True),
    Layout("YOLO, names as mapping", yolo(inner="part", names="names:\n  0: cat\n  1: dog\n"), PARTED),
    Layout("YOLO, one split", yolo(inner="part"),
           {k: t for k, t in PARTED.items() if "train" in k}, options={"split": "train"}),
    Layout("YOLO without data.yaml", yolo_flat),
    Layout("labelme beside the images", labelme(), truth=True),
    Layout("labelme, imageData inside", labelme(embedded=True), truth=True),
    Layout("labelme, a folder of its own", labelme(apart=True), truth=True),
    Layout("LabelImg, XML beside images", xml_beside),
    Layout("LabelImg, annotations/", xml_apart),
    Layout("Roboflow VOC", roboflow_voc, PARTED),
    Layout("Label Studio JSON, polygons", label_studio_json(), truth=True),
    Layout("Label Studio JSON, choices", label_studio_json(choices=True)),
    Layout("Label Studio JSON-MIN", label_studio_min),
    Layout("Label Studio CSV", label_studio_csv),
    Layout("CVAT for images 1.1", cvat_xml, truth=True),
    Layout("VGG VIA", via, truth=True),
    Layout("ImageFolder", image_folder(), FOUR),
    Layout("ImageFolder, train and test", image_folder(parts=True), FOUR_PARTED),
    Layout("train/ and valid/ of images alone", parts_alone, None, refused="labels.csv"),
    Layout("annotations/ nobody reads", unknown_format, None, refused="annotations/a.json"),
    Layout("JSON, lone surrogate", surrogates, None, refused="control characters"),
    Layout("file name that is no UTF-8", latin_name, None, refused="rename the file"),
)  # fmt: skip
