"""Ultralytics' YOLO for segmentation: images, polygons as text, `data.yaml`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from weakseg.apps.formats.image_files import COMMON, place_image, png_file
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.polygons import bridged, mask_polygons


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes `images/train`, `labels/train` and `data.yaml`.

    A line of a label file is a class, counted from 0, and one polygon, its x and y as shares of
    width and height. Each connected region of a class is one: YOLO takes it for an instance. Points
    are corners of pixels; a hole hangs at its outline by a bridge of no width, as Ultralytics joins
    parts. Images that Ultralytics may not read become PNG. `val` names the same images: part them
    before training.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        folder: Where to write; is there.
    """
    for place in ("images", "labels"):
        (folder / place / "train").mkdir(parents=True)
    for image in images:
        key, suffix = image.sample.id, image.sample.image.suffix
        if suffix.lower() in COMMON:
            place_image(image, folder / "images" / "train" / image.file)
        else:
            path = folder / "images" / "train" / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_file(image))
        label = folder / "labels" / "train" / f"{key}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("".join(f"{line}\n" for line in _lines(image)), encoding="utf-8")
    record = {
        "train": "images/train",  # beside this file, for want of a `path`
        "val": "images/train",
        "names": dict(enumerate(job.classes)),
    }
    text = yaml.safe_dump(record, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _lines(image: Labelled) -> Iterator[str]:
    height, width = image.size
    for index, mask, _ in image.masks():
        for polygon in mask_polygons(mask):
            shares = bridged(polygon) / (width, height)
            yield " ".join([str(index - 1), *(f"{share:.6g}" for share in shares.ravel().tolist())])
