"""labelme: images, and beside each a JSON of polygons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from weakseg.apps.formats.image_files import place_image
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.polygons import bridged, mask_polygons
from weakseg.types import IGNORE

_VERSION = "5.4.1"  # of labelme, whose files these are like
_IGNORED = "__ignore__"


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes each image with its `<id>.json`, and `labels.txt`, the classes as labelme wants them.

    Each connected region is one polygon, its points corners of pixels; a hole hangs at the outline
    by a bridge of no width. A region's class has its confidence as description, if it is known.
    Ignored pixels are labelled `__ignore__`, as labelme's own converters do.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        folder: Where to write; is there.
    """
    labels = [_IGNORED, "_background_", *job.classes]
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in labels), encoding="utf-8")
    for image in images:
        place_image(image, folder / image.file)
        height, width = image.size
        record: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": list(_shapes(image, job)),
            "imagePath": PurePosixPath(image.file).name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
        (folder / f"{image.sample.id}.json").write_text(text, encoding="utf-8")


def _shapes(image: Labelled, job: Job) -> Iterator[dict[str, Any]]:
    masks = [(job.classes[index - 1], mask, known) for index, mask, known in image.masks()]
    if image.ignored:
        masks.append((_IGNORED, np.equal(image.labels, IGNORE), None))
    for name, mask, confidence in masks:
        for polygon in mask_polygons(mask):
            yield {
                "label": name,
                "points": bridged(polygon).tolist(),
                "group_id": None,
                "description": "" if confidence is None else f"confidence {confidence}",
                "shape_type": "polygon",
                "flags": {},
            }
