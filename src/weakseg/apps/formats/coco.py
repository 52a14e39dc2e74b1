"""COCO: one JSON file of images, annotations with compressed run lengths, and categories."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weakseg import __version__
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.rle import box_of, coco_rle


def write(images: Iterable[Labelled], job: Job, path: Path) -> None:
    """Writes a COCO JSON, annotation by annotation.

    An image has one annotation of each class that has pixels, with `iscrowd` 0: masks made from
    tags have no instances, and taking connected regions for them would make two of an animal
    behind a post. Category k is mask index k. Ignored pixels are in no annotation.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        path: The file.
    """
    records: list[dict[str, Any]] = []
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": ' + _line({"description": f"weakseg {__version__}"}))
        file.write(',\n"categories": ' + _line(_categories(job.classes)))
        file.write(',\n"annotations": [')
        number = 0
        for image in images:
            height, width = image.size
            key = len(records) + 1
            records.append({"id": key, "file_name": image.name, "width": width, "height": height})
            for annotation in _annotations(image):
                number += 1
                file.write(",\n" if number > 1 else "\n")
                file.write(_line({"id": number, "image_id": key, **annotation}))
        file.write('\n],\n"images": [\n' + ",\n".join(map(_line, records)) + "\n]}\n")


def _categories(classes: Iterable[str]) -> list[dict[str, Any]]:
    return [{"id": k, "name": name} for k, name in enumerate(classes, start=1)]


def _annotations(image: Labelled) -> Iterable[dict[str, Any]]:
    for index, mask, confidence in image.masks():
        yield {
            "category_id": index,
            "segmentation": coco_rle(mask),
            "area": int(mask.sum()),
            "bbox": list(box_of(mask)),
            "iscrowd": 0,
            **({} if confidence is None else {"score": confidence}),
        }


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
