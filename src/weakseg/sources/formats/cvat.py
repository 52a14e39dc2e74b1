"""CVAT for images 1.1: one XML for all images."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from weakseg.data.rle import CvatRLE
from weakseg.sources.annotation_files import (
    Tally,
    best_listing,
    ends,
    few_files,
    images_of,
    xml_root,
)
from weakseg.sources.image_index import Listing, find_folder
from weakseg.sources.marks import Mark, Marked, add_entries, declare
from weakseg.sources.reading import Reading, Request
from weakseg.types import DataError

_ROOT = "annotations"
_EXPORT = "export the task anew as 'CVAT for images 1.1'"
_WITHOUT_PIXELS = ("box", "polyline", "points", "cuboid", "skeleton")


def cvat_files(source: Path) -> list[Path]:
    """CVAT's XML files: the source, or those in the folder or its `annotations`."""
    if source.is_file():
        return [source] if source.suffix.lower() == ".xml" and _looks_right(source) else []
    for folder in (source, find_folder(source, "annotations")):
        found = [file for file in few_files(folder, ".xml") if _looks_right(file)]
        if found:
            return found
    return []


def read_cvat(request: Request) -> Reading:
    """Reads CVAT's export of images.

    Tags are the labels of all shapes and of the images themselves (`tag`). Polygons, masks and
    ellipses are true pixels, drawn by their `z_order`; an image with other shapes (boxes, lines,
    points …) has tags only. Classes are the task's labels in their order. Sizes are those of the
    upright photo, as CVAT shows it.

    Args:
        request: What is wanted.

    Returns:
        One entry per image of the file.

    Raises:
        DataError: There is no such file, or there are several.
    """
    files = cvat_files(request.path)
    if len(files) != 1:
        several = ", ".join(file.name for file in files)
        raise DataError(
            f"{request.path}: holds several files of CVAT ({several}); name one of them"
            if files
            else f"{request.path}: there is no XML of 'CVAT for images 1.1'"
        )
    path = files[0]
    folder = path.parent.parent if path.parent.name.casefold() == _ROOT else path.parent
    folder = request.path if request.path.is_dir() else folder
    found = _parse(path)
    if found.refused:
        reading = Reading(folder, Listing(folder))
        reading.fault("annotation", path, found.refused, found.remedy)
        reading.fatal.append(reading.faults.pop())
        return reading
    names = [_image_names(image) for image in found.images]
    reading = Reading(folder, best_listing(folder, names))
    tally = Tally()
    marked: list[Marked] = []
    subsets: dict[str, set[str]] = {}
    for image, each in zip(found.images, names, strict=True):
        sample_id, paths, missing = images_of(reading.listing, each)
        if missing is not None:
            tally.add(missing.kind, path, missing.found, missing.remedy, sample_id)
        for problem in image.problems:
            tally.add("annotation", path, f"image {image.name!r}: {problem}", _EXPORT, sample_id)
        marked.append(Marked(path, sample_id, paths, image.marks, image.tags, image.size))
        if image.subset:
            subsets.setdefault(image.subset, set()).add(sample_id)
    add_entries(reading, marked, tally)
    declare(reading, found.labels, path, tally)
    reading.splits = {name: frozenset(ids) for name, ids in subsets.items()}
    reading.faults += tally.faults()
    reading.add_link_faults()
    reading.note_unnamed(path)
    return reading


@dataclass
class _Image:
    """What the XML says of one image."""

    name: str
    subset: str
    size: tuple[int, int] | None
    marks: list[Mark] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """What the XML says."""

    labels: list[str] = field(default_factory=list)
    images: list[_Image] = field(default_factory=list)
    refused: str = ""
    remedy: str = _EXPORT


def _looks_right(path: Path) -> bool:
    root, broken = xml_root(path)
    head = ends(path)
    if broken:
        return b"<annotations" in head  # read, so that it is reported
    return root == _ROOT and any(
        mark in head for mark in (b"<image", b"<track", b"<meta", b"<version")
    )


def _image_names(image: _Image) -> list[str]:
    """Where an image may be: by its name, and in the folders that an export has."""
    name = image.name.replace("\\", "/").removeprefix("./")
    below = [name, f"{image.subset}/{name}"] if image.subset else [name]
    return [*below, *(f"images/{each}" for each in below)]


def _parse(path: Path) -> _Found:
    """Reads the XML image by image, so that a large one does not have to fit into memory."""
    found = _Found()
    _, found.refused = xml_root(path)
    if found.refused:
        return found
    try:
        depth, root = 0, None
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            if event == "start":
                root = element if root is None else root
                depth += 1
                continue
            depth -= 1
            if depth != 1 or root is None:
                continue
            if element.tag == "track":
                found.refused = "has tracks of a video, not images"
                return found
            if element.tag == "meta":
                found.labels += _labels(element)
            elif element.tag == "image":
                found.images.append(_image(element))
            root.clear()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        found.refused = f"not XML that can be read ({error})"
    except OSError as error:
        found.refused = f"cannot be read ({error.strerror or error})"
    if not found.refused and not found.images:
        found.refused = "has no images"
    return found


def _labels(meta: ElementTree.Element) -> Iterator[str]:
    """The labels of the task, but for the parts of skeletons."""
    for label in meta.iter("label"):
        name = (label.findtext("name") or "").strip()
        if name and not label.findtext("parent"):
            yield name


def _image(element: ElementTree.Element) -> _Image:
    sides = element.get("height", ""), element.get("width", "")
    known = all(side.isascii() and side.isdigit() and 0 < int(side) < 1 << 20 for side in sides)
    size = (int(sides[0]), int(sides[1])) if known else None
    image = _Image(element.get("name", ""), element.get("subset", ""), size)
    layers: list[tuple[float, Mark]] = []
    for shape in element:
        label = shape.get("label", "")
        if shape.tag == "tag":
            image.tags.append(label)
        elif shape.tag in _WITHOUT_PIXELS:
            layers.append((0, Mark(label)))
        elif shape.tag in _SHAPES:
            try:
                layer = float(shape.get("z_order") or 0)
                layers.append((layer, Mark(label, *_SHAPES[shape.tag](shape))))
            except (KeyError, ValueError):
                layers.append((0, Mark(label)))
                image.problems.append(f"a {shape.tag} of {label!r} that cannot be read")
        else:
            image.problems.append(f"a {shape.tag} is not known")
    image.marks = [mark for _, mark in sorted(layers, key=lambda pair: pair[0])]
    return image


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _polygon(shape: ElementTree.Element) -> tuple[str, Any]:
    pairs = shape.attrib["points"].split(";")
    if any(pair.count(",") != 1 for pair in pairs):
        raise ValueError(pairs)
    points = array("d", map(float, ",".join(pairs).split(",")))
    if not math.isfinite(sum(points)):
        raise ValueError(pairs)
    return "polygons", [points]


def _ellipse(shape: ElementTree.Element) -> tuple[str, Any]:
    values = [_finite(shape.attrib[key]) for key in ("cx", "cy", "rx", "ry")]
    return "ellipse", (*values, _finite(shape.get("rotation", "0")))


def _mask(shape: ElementTree.Element) -> tuple[str, Any]:
    box = [int(shape.attrib[key]) for key in ("left", "top", "width", "height")]
    return "cvat_rle", CvatRLE(shape.attrib["rle"], *box)


_SHAPES: dict[str, Callable[[ElementTree.Element], tuple[str, Any]]] = {
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
}
