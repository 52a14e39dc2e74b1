"""CVAT: `annotations.xml` (CVAT for images 1.1) with masks, `labels.json` for the task."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from weakseg.apps.formats.labelled import Job, Labelled, xml_text
from weakseg.data.masks import voc_palette
from weakseg.data.rle import cvat_rle

_CONFIDENCE = "confidence"


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes a folder for CVAT.

    `labels.json` goes into the label constructor's raw text when a task is made of the images,
    `annotations.xml` is then uploaded as "CVAT 1.1". CVAT finds an image by its path. Each class
    that has pixels is one mask; its confidence is the attribute `confidence`, which `labels.json`
    declares if confidences are known.

    Args:
        images: What to write; taken one at a time.
        job: The classes, and whether there are confidences.
        folder: Where to write; is there.

    Raises:
        DataError: A name cannot stand in XML.
    """
    labels = _labels(job)
    text = json.dumps(labels, ensure_ascii=False, indent=2) + "\n"
    (folder / "labels.json").write_text(text, encoding="utf-8")
    with (folder / "annotations.xml").open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("<version>1.1</version>\n")
        file.write(_text(_meta(job, labels)))
        for number, image in enumerate(images):
            file.write(_text(_image(number, image, job)))
        file.write("</annotations>\n")


def _labels(job: Job) -> list[dict[str, Any]]:
    """The labels as CVAT's label constructor takes them."""
    colours = voc_palette().tolist()
    attribute = {
        "name": _CONFIDENCE,
        "input_type": "number",
        "mutable": False,
        "values": ["0", "1", "0.0001"],  # least, greatest, step
        "default_value": "0",
    }
    return [
        {
            "name": xml_text(name),
            "type": "mask",
            "color": "#" + bytes(colours[index]).hex(),
            "attributes": [attribute] if job.confident else [],
        }
        for index, name in enumerate(job.classes, start=1)
    ]


def _meta(job: Job, labels: Iterable[dict[str, Any]]) -> ElementTree.Element:
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    for key, value in {"name": "weakseg", "size": str(job.count), "mode": "annotation"}.items():
        ElementTree.SubElement(task, key).text = value
    parent = ElementTree.SubElement(task, "labels")
    for label in labels:
        element = ElementTree.SubElement(parent, "label")
        for key in ("name", "color", "type"):
            ElementTree.SubElement(element, key).text = label[key]
        attributes = ElementTree.SubElement(element, "attributes")
        for declared in label["attributes"]:
            attribute = ElementTree.SubElement(attributes, "attribute")
            texts = {
                "name": declared["name"],
                "mutable": str(declared["mutable"]),
                "input_type": declared["input_type"],
                "default_value": declared["default_value"],
                "values": "\n".join(declared["values"]),
            }
            for key, value in texts.items():
                ElementTree.SubElement(attribute, key).text = value
    return meta


def _image(number: int, image: Labelled, job: Job) -> ElementTree.Element:
    height, width = image.size
    element = ElementTree.Element(
        "image", id=str(number), name=xml_text(image.name), width=str(width), height=str(height)
    )
    for index, mask, confidence in image.masks():
        rle = {key: str(value) for key, value in cvat_rle(mask)._asdict().items()}
        shape = ElementTree.SubElement(
            element,
            "mask",
            {"label": job.classes[index - 1], "source": "auto", "occluded": "0", **rle},
            z_order="0",
        )
        if confidence is not None:
            attribute = ElementTree.SubElement(shape, "attribute", name=_CONFIDENCE)
            attribute.text = str(confidence)
    return element


def _text(element: ElementTree.Element) -> str:
    if element.tag == "image":  # a list of values keeps its line ends, so `meta` stays as it is
        ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode") + "\n"
