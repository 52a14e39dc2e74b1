"""Label Studio: `tasks.json` with brush masks as predictions, `config.xml` for the project."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from weakseg import __version__
from weakseg.apps.formats.labelled import Job, Labelled, xml_file, xml_text
from weakseg.data.masks import voc_palette
from weakseg.data.rle import brush_rle

_LABELS, _IMAGE = "labels", "image"  # the tags of config.xml that the results name


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes a folder for Label Studio: `config.xml` is the labeling interface, `tasks.json` data.

    Each image is a task whose one prediction has a region per class, each with its confidence as
    `score`; the prediction's own score is the lowest, so that sorting by it brings the doubtful
    images first. A task's `data` also has the image's `id` and `tags`.

    Args:
        images: What to write; taken one at a time.
        job: The classes, and what stands before each image's path; by default Label Studio's own
            address of local files whose root is the folder around the image folder.
        folder: Where to write; is there.
    """
    (folder / "config.xml").write_bytes(_config(job.classes))
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        file.write("[")
        for number, image in enumerate(images):
            text = json.dumps(_task(image, job), ensure_ascii=False, separators=(",", ":"))
            file.write(f"{',' if number else ''}\n{text}")
        file.write("\n]\n")


def image_url(image: Labelled, root: str | None) -> str:
    """Where Label Studio finds an image.

    Args:
        image: The image.
        root: What stands before its path; None: `/data/local-files/?d=` and its folder's name.

    Returns:
        The address; only in addresses of the web are characters quoted, a bucket's keys are not.
    """
    name = image.name
    if root is None:
        above = image.sample.image.parts[: -1 - name.count("/")]
        root, name = "/data/local-files/?d=", f"{above[-1]}/{name}"
    joint = "" if root.endswith(("/", "=")) else "/"
    bucket = re.match(r"(?!https?:)[a-z][a-z0-9+.-]*://", root)
    return root + joint + (name if bucket else quote(name))


def _task(image: Labelled, job: Job) -> dict[str, Any]:
    tags = [job.classes[tag] for tag in sorted(image.sample.tags)]
    data = {"image": image_url(image, job.image_root), "id": image.sample.id, "tags": tags}
    height, width = image.size
    regions: list[dict[str, Any]] = []
    scores: list[float] = []
    for index, mask, confidence in image.masks():
        region = {
            "id": f"mask-{index}",
            "type": "brushlabels",
            "from_name": _LABELS,
            "to_name": _IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": list(brush_rle(mask)),
                "brushlabels": [job.classes[index - 1]],
            },
        }
        if confidence is not None:
            region["score"] = confidence
            scores.append(confidence)
        regions.append(region)
    if not regions:
        return {"data": data, "predictions": []}
    prediction: dict[str, Any] = {"model_version": f"weakseg {__version__}", "result": regions}
    if scores:
        prediction["score"] = min(scores)
    return {"data": data, "predictions": [prediction]}


def _config(classes: Iterable[str]) -> bytes:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=_IMAGE, value="$image", zoom="true")
    labels = ElementTree.SubElement(view, "BrushLabels", name=_LABELS, toName=_IMAGE)
    colours = voc_palette().tolist()
    for index, name in enumerate(classes, start=1):
        colour = "#" + bytes(colours[index]).hex()
        ElementTree.SubElement(labels, "Label", value=xml_text(name), background=colour)
    return xml_file(view)
