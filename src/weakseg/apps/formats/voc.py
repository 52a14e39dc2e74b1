"""A VOC devkit: images, palette masks, tags in XML, one list of all images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import torch

from weakseg.apps.formats.labelled import Job, Labelled, xml_file, xml_text
from weakseg.data.masks import voc_palette, write_mask
from weakseg.data.rle import box_of
from weakseg.sources.class_names import CLASSES_FILE


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes a devkit that `open_catalog` reads back to the same classes, tags and masks.

    `JPEGImages` has hard links to the images, or copies where a link cannot be made; their suffixes
    stay. `Annotations/<id>.xml` has an object for each tag and each class that has pixels, with
    the box around its pixels if it has any. `classes.txt` names mask indices 1, 2, … for weakseg,
    `labelmap.txt` gives their colours for CVAT and Datumaro.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        folder: Where to write; is there.

    Raises:
        DataError: A name cannot stand in XML.
    """
    names = [xml_text(name) for name in job.classes]
    (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (folder / "labelmap.txt").write_text(_label_map(names), encoding="utf-8")
    split = folder / "ImageSets" / "Segmentation" / "train.txt"
    split.parent.mkdir(parents=True)
    with split.open("w", encoding="utf-8") as file:
        for image in images:
            key = image.sample.id
            picture = key + image.sample.image.suffix
            _place(image.sample.image, folder / "JPEGImages" / picture)
            mask = folder / "SegmentationClass" / f"{key}.png"
            write_mask(mask, torch.from_numpy(image.labels), names)
            annotation = folder / "Annotations" / f"{key}.xml"
            annotation.parent.mkdir(parents=True, exist_ok=True)
            annotation.write_bytes(_annotation(image, picture, names))
            file.write(f"{key}\n")


def _label_map(names: list[str]) -> str:
    colours = voc_palette().tolist()
    lines = [
        f"{name}:{','.join(map(str, colours[index]))}::"
        for index, name in enumerate(["background", *names])
    ]
    return "\n".join(["# label:color_rgb:parts:actions", *lines, ""])


def _place(image: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    image = image.resolve()  # a link to a link would lead out of the devkit
    try:
        os.link(image, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(image, target)


def _annotation(image: Labelled, picture: str, names: list[str]) -> bytes:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "folder").text = "JPEGImages"
    ElementTree.SubElement(root, "filename").text = xml_text(PurePosixPath(picture).name)
    size = ElementTree.SubElement(root, "size")
    height, width = image.size
    for key, value in {"width": width, "height": height, "depth": 3}.items():
        ElementTree.SubElement(size, key).text = str(value)
    ElementTree.SubElement(root, "segmented").text = "1"
    boxes = {index: box_of(mask) for index, mask, _ in image.masks()}
    for index in sorted(boxes.keys() | {tag + 1 for tag in image.sample.tags}):
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = names[index - 1]
        ElementTree.SubElement(element, "difficult").text = "0"
        if index in boxes:
            left, top, width, height = boxes[index]
            box = ElementTree.SubElement(element, "bndbox")
            # Pixels are counted from 1, and both ends are inside.
            corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width}
            for key, value in {**corners, "ymax": top + height}.items():
                ElementTree.SubElement(box, key).text = str(value)
    return xml_file(root)
