"""A VOC devkit: images, palette masks, tags in XML, one list of all images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import torch

from weakseg.apps.formats.image_files import place_image
from weakseg.apps.formats.labelled import Job, Labelled, xml_file, xml_text
from weakseg.data.masks import voc_palette, write_mask
from weakseg.data.rle import box_of
from weakseg.sources.class_names import CLASSES_FILE
from weakseg.types import DataError


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes a devkit that `open_catalog` reads back to the same classes, tags and masks.

    `JPEGImages` has hard links to the images, or copies where a link cannot be made, and upright
    copies of those that EXIF turns; their suffixes stay. `Annotations/<id>.xml` has an object with
    its box for each class that has pixels, and a `tag` (weakseg's own) for each tag that has none:
    readers of boxes take no object without one. `ImageSets` lists all images as `train`, for masks
    (`Segmentation`) and boxes (`Main`). `classes.txt` names mask indices 1, 2, … for weakseg,
    `labelmap.txt` gives their colours for CVAT and Datumaro.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        folder: Where to write; is there.

    Raises:
        DataError: A name cannot stand in XML or in `labelmap.txt`.
    """
    names = [xml_text(name) for name in job.classes]
    (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (folder / "labelmap.txt").write_text(_label_map(names), encoding="utf-8")
    keys: list[str] = []
    for image in images:
        key = image.sample.id
        place_image(image, folder / "JPEGImages" / image.file)
        mask = folder / "SegmentationClass" / f"{key}.png"
        write_mask(mask, torch.from_numpy(image.labels), names)
        annotation = folder / "Annotations" / f"{key}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_bytes(_annotation(image, names))
        keys.append(key)
    for task in ("Segmentation", "Main"):
        split = folder / "ImageSets" / task / "train.txt"
        split.parent.mkdir(parents=True)
        split.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")


def _label_map(names: list[str]) -> str:
    bad = [name for name in names if ":" in name or name.startswith("#")]
    if bad:
        raise DataError(
            f"the class {bad[0]!r} cannot stand in labelmap.txt, for `:` ends a name there and `#` "
            "begins a remark; rename it, or export to coco or png"
        )
    colours = voc_palette().tolist()
    lines = [
        f"{name}:{','.join(map(str, colours[index]))}::"
        for index, name in enumerate(["background", *names])
    ]
    return "\n".join(["# label:color_rgb:parts:actions", *lines, ""])


def _annotation(image: Labelled, names: list[str]) -> bytes:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "folder").text = "JPEGImages"
    ElementTree.SubElement(root, "filename").text = xml_text(image.file)
    size = ElementTree.SubElement(root, "size")
    height, width = image.size
    for key, value in {"width": width, "height": height, "depth": 3}.items():
        ElementTree.SubElement(size, key).text = str(value)
    ElementTree.SubElement(root, "segmented").text = "1"
    for index, mask, _ in image.masks():
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = names[index - 1]
        ElementTree.SubElement(element, "difficult").text = "0"
        left, top, width, height = box_of(mask)
        box = ElementTree.SubElement(element, "bndbox")
        # Pixels are counted from 1, and both ends are inside.
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width}
        for key, value in {**corners, "ymax": top + height}.items():
            ElementTree.SubElement(box, key).text = str(value)
    for tag in sorted(image.sample.tags - {index - 1 for index in image.indices}):
        ElementTree.SubElement(root, "tag").text = names[tag]
    return xml_file(root)
