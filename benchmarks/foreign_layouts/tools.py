"""Further exports of annotation tools: other variants, and what is to be refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foreign_layouts.parts import (
    HEIGHT,
    TAGS,
    WIDTH,
    Layout,
    corners,
    mask,
    photo,
    photos,
    write_json,
)
from weakseg.data.rle import brush_rle, cvat_rle

_NUMBERS = {"cat": 0, "dog": 1}
_ONE = {"cat": 1, "dog": 1}


def yolo(
    place: str = "{kind}/{name}.{suffix}",
    files: Mapping[str, str] | None = None,
    *,
    polygons: bool = False,
    unknown: bool = False,
) -> Callable[[Path], None]:
    """Images and label files, and what tells their classes."""

    def build(folder: Path) -> None:
        for name, tags in TAGS.items():
            photo(folder / place.format(kind="images", name=name, suffix="jpg"))
            path = folder / place.format(kind="labels", name=name, suffix="txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = []
            for tag in tags:
                number = 7 if unknown else _NUMBERS[tag]
                shares = [(x / WIDTH, y / HEIGHT) for x, y in corners(tag)]
                values = [v for pair in shares for v in pair] if polygons else [0.5, 0.5, 0.2, 0.2]
                lines.append(" ".join(map(str, [number, *values])) + "\n")
            path.write_text("".join(lines))
        for name, text in (files or {}).items():
            (folder / name).write_text(text)

    return build


def labelme(*, with_yolo: bool = False, flags: bool = False) -> Callable[[Path], None]:
    """Labelme's JSONs beside the images."""

    def build(folder: Path) -> None:
        photos(folder)
        for name, tags in TAGS.items():
            shapes = [
                {"label": tag, "points": corners(tag), "shape_type": "polygon", "flags": {}}
                for tag in tags
            ]
            record = {
                "version": "5.5.0",
                "flags": {tag: tag in tags for tag in _NUMBERS} if flags else {},
                "shapes": [] if flags else shapes,
                "imagePath": f"{name}.jpg",
                "imageData": None,
                "imageHeight": HEIGHT,
                "imageWidth": WIDTH,
            }
            write_json(folder / f"{name}.json", record)
            if with_yolo:
                rows = "".join(f"{_NUMBERS[tag]} 0.5 0.5 0.2 0.2\n" for tag in tags)
                (folder / f"{name}.txt").write_text(rows)
        if with_yolo:
            (folder / "classes.txt").write_text("cat\ndog\n")

    return build


def _region(kind: str, tag: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": tag,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**value, kind: [tag]},
    }


def _brushes(tags: Sequence[str]) -> list[dict[str, Any]]:
    return [
        _region(
            "brushlabels", tag, {"format": "rle", "rle": list(brush_rle(mask([tag], _ONE) > 0))}
        )
        for tag in tags
    ]


def label_studio_brushes(folder: Path) -> None:
    """Brushes by two annotators: an older one, and a cancelled one, saw birds."""
    photos(folder)
    bird = _region("rectanglelabels", "bird", {"x": 1, "y": 1, "width": 9, "height": 9})
    tasks = []
    for number, (name, tags) in enumerate(TAGS.items()):
        annotations = [
            {
                "result": _brushes(tags),
                "was_cancelled": False,
                "updated_at": "2024-02-02T00:00:00Z",
            },
            {"result": [bird], "was_cancelled": False, "updated_at": "2024-01-01T00:00:00Z"},
            {"result": [bird], "was_cancelled": True, "updated_at": "2024-03-03T00:00:00Z"},
        ]
        data = {"image": f"s3://bucket/some/{name}.jpg"}
        tasks.append({"id": number, "data": data, "annotations": annotations})
    write_json(folder / "project-1.json", tasks)


def label_studio_predictions(folder: Path) -> None:
    """What weakseg itself exports for Label Studio."""
    photos(folder)
    tasks = [
        {"data": {"image": f"{name}.jpg"}, "predictions": [{"result": _brushes(tags)}]}
        for name, tags in TAGS.items()
    ]
    write_json(folder / "tasks.json", tasks)


def cvat(*, subsets: bool = False, track: bool = False) -> Callable[[Path], None]:
    """CVAT's XML with masks."""

    def build(folder: Path) -> None:
        images = ""
        for name, tags in TAGS.items():
            part = ("train" if name in "ab" else "val") if subsets else ""
            photo(folder / "images" / part / f"{name}.jpg")
            shapes = ""
            for tag in tags:
                rle = cvat_rle(mask([tag], _ONE) > 0)._asdict()
                inner = " ".join(f'{key}="{value}"' for key, value in rle.items())
                shapes += f'<mask label="{tag}" source="manual" {inner} z_order="0"></mask>'
            subset = f' subset="{part}"' if part else ""
            images += (
                f'<image id="0" name="{name}.jpg"{subset} width="{WIDTH}" height="{HEIGHT}">'
                f"{shapes}</image>"
            )
        labels = "".join(f"<label><name>{name}</name></label>" for name in _NUMBERS)
        if track:
            images = '<track id="0" label="cat"><box frame="0" outside="0" xtl="1"/></track>'
        (folder / "annotations.xml").write_text(
            f"<annotations><version>1.1</version><meta><project><labels>{labels}</labels>"
            f"</project></meta>{images}</annotations>"
        )

    return build


def via_csv(folder: Path) -> None:
    """VIA's CSV: a row a region."""
    photos(folder)
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
    with (folder / "via.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "region_shape_attributes", "region_attributes"])
        for name, tags in TAGS.items():
            for number, tag in enumerate(tags or ("",)):
                x, y = zip(*corners(tag or "cat"), strict=True)
                shape = {"name": "polygon", "all_points_x": x, "all_points_y": y} if tag else {}
                about = {"class": tag} if tag else {}
                cells = [f"{name}.jpg", 9, "{}", len(tags), number]
                writer.writerow([*cells, json.dumps(shape), json.dumps(about)])


_NOTES = '{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {}}'
_DARKNET = {
    "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
    "obj.names": "cat\ndog\n",
    "train.txt": "".join(f"data/obj_train_data/{name}.jpg\n" for name in TAGS),
}
_LISTS = {
    "data.yaml": "path: /data/me/pets\ntrain: train.txt\nval: val.txt\nnames: [cat, dog]\n",
    "train.txt": "/data/me/pets/images/a.jpg\n/data/me/pets/images/b.jpg\n",
    "val.txt": "/data/me/pets/images/c.jpg\n/data/me/pets/images/d.jpg\n",
}
_HASHED = {f"0a1b2c3d-{name}": tags for name, tags in TAGS.items()}
_SUBSETS = {f"{'train' if name in 'ab' else 'val'}/{name}": tags for name, tags in TAGS.items()}

LAYOUTS = (
    Layout("YOLO of Label Studio", yolo("{kind}/0a1b2c3d-{name}.{suffix}",
           {"classes.txt": "cat\ndog\n", "notes.json": _NOTES}), _HASHED),
    Layout("YOLO of CVAT (darknet)", yolo("obj_train_data/{name}.{suffix}", _DARKNET),
           {f"obj_train_data/{name}": tags for name, tags in TAGS.items()}),
    Layout("YOLO, lists of another machine", yolo(files=_LISTS)),
    Layout("YOLO, lists of another machine, one split", yolo(files=_LISTS),
           {"c": TAGS["c"], "d": TAGS["d"]}, options={"split": "val"}, classes=("cat", "dog")),
    Layout("YOLO, turned boxes", yolo(files={"data.yaml": "train: images\nnames: [cat, dog]\n"},
           polygons=True), notes=("four corners",)),
    Layout("YOLO without names", yolo(), None, refused="classes.txt"),
    Layout("YOLO, a class number beyond the names",
           yolo(files={"classes.txt": "cat\ndog\n"}, unknown=True), None, refused="name all"),
    Layout("labelme, flags", labelme(flags=True)),
    Layout("labelme and YOLO beside each other", labelme(with_yolo=True), truth=True,
           notes=("annotations of yolo",)),
    Layout("Label Studio, brushes of several annotators", label_studio_brushes, truth=True,
           notes=("the newest", "another place")),
    Layout("Label Studio, predictions alone", label_studio_predictions, None,
           refused="export the annotations"),
    Layout("CVAT, masks and subsets", cvat(subsets=True), _SUBSETS, truth=True),
    Layout("CVAT, tracks of a video", cvat(track=True), None, refused="CVAT for images 1.1"),
    Layout("VGG VIA, CSV", via_csv, truth=True),
)  # fmt: skip
