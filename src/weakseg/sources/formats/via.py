"""VGG Image Annotator: annotations and projects as JSON, annotations as CSV."""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.faults import listed
from weakseg.sources.annotation_files import (
    Tally,
    best_listing,
    ends,
    few_files,
    images_of,
    load_json,
    long_cells,
)
from weakseg.sources.image_index import Listing, find_folder
from weakseg.sources.marks import Mark, Marked, add_entries, numbers
from weakseg.sources.name_index import plain_name
from weakseg.sources.reading import Reading, Request
from weakseg.types import DataError

_ANEW = "save the annotations anew in VIA"
_SUFFIXES = (".json", ".csv")
_COLUMNS = ("filename", "region_count", "region_shape_attributes", "region_attributes")
_USUAL = ("class", "label", "name", "category", "type", "object", "tag")


@dataclass
class _Image:
    """What VIA says of one image.

    Attributes:
        name: The file's name.
        about: The attributes of the image itself.
        regions: Shape and attributes of each region.
        line: The line of the file, or None.
    """

    name: str
    about: dict[str, Any]
    regions: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    line: int | None = None


def via_files(source: Path) -> list[Path]:
    """VIA's files: the source, or those in the folder or its `annotations`."""
    if source.is_file():
        return [source] if _looks_right(source) else []
    for folder in (source, find_folder(source, "annotations")):
        found = [path for path in few_files(folder, *_SUFFIXES) if _looks_right(path)]
        if found:
            return found
    return []


def read_via(request: Request) -> Reading:
    """Reads annotations of VIA, version 1 or 2.

    Tags are the values of one attribute of the regions: the only one, or the one that is called
    `class`, `label`, `name` …; without regions, of the images. An attribute of several boxes to
    tick gives all that are ticked. Polygons, circles and ellipses are true pixels; an image with
    other regions (rectangles, points, lines) has tags only.

    Args:
        request: What is wanted. `table.tags_column` names the attribute where it cannot be told.

    Returns:
        One entry per image of the file.

    Raises:
        DataError: There is no such file, or there are several.
    """
    files = via_files(request.path)
    if len(files) != 1:
        several = ", ".join(path.name for path in files)
        raise DataError(
            f"{request.path}: holds several files of VIA ({several}); name one of them"
            if files
            else f"{request.path}: there are no annotations of VIA"
        )
    path = files[0]
    folder = request.path if request.path.is_dir() else path.parent
    images, problem, remedy = *_load(path), _ANEW
    tally = Tally()
    attribute = ""
    if not problem:
        attribute, problem = _attribute(images, request.table.tags_column, path, tally)
        remedy = "name the attribute that is the class by --tags-column"
    if problem:
        reading = Reading(folder, Listing(folder))
        reading.fault("annotation", path, problem, remedy)
        reading.fatal.append(reading.faults.pop())
        return reading
    names = [[plain_name(image.name).lstrip("/")] for image in images]
    reading = Reading(folder, best_listing(folder, names))
    with_regions = any(image.regions for image in images)
    marked = []
    for image, each in zip(images, names, strict=True):
        sample_id, paths, missing = images_of(reading.listing, each, image.name)
        if missing is not None:
            tally.add(missing.kind, path, missing.found, missing.remedy, sample_id, line=image.line)
        item = Marked(path, sample_id, paths, line=image.line)
        if not with_regions:
            item.tags = _values(image.about.get(attribute))
        for shape, about in image.regions:
            labels = _values(about.get(attribute))
            try:
                pixels = _pixels(shape) if len(labels) == 1 else ()
            except ValueError as error:
                pixels = ()
                tally.add("annotation", path, str(error), _ANEW, sample_id, line=image.line)
            item.marks += [Mark(label, *pixels) for label in labels or [""]]
        marked.append(item)
    add_entries(reading, marked, tally)
    reading.faults += tally.faults()
    reading.add_link_faults()
    reading.note_unnamed(path)
    return reading


def _looks_right(path: Path) -> bool:
    if path.suffix.lower() == ".csv":
        first = ends(path).removeprefix(b"\xef\xbb\xbf").lstrip(b"#").split(b"\n", 1)[0]
        return all(column.encode() in first for column in _COLUMNS)
    if path.suffix.lower() != ".json":
        return False
    text = ends(path)
    if b'"_via_img_metadata"' in text or b'"_via_settings"' in text:
        return True
    return b'"filename"' in text and b'"regions"' in text and b'"file_attributes"' in text


def _load(path: Path) -> tuple[list[_Image], str]:
    """The images of a file, and what is wrong with it (empty: nothing)."""
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    content, problem = load_json(path)
    if problem:
        return [], problem
    if isinstance(content, dict) and isinstance(content.get("_via_img_metadata"), dict):
        content = content["_via_img_metadata"]
    if not isinstance(content, dict):
        return [], "not annotations of VIA: the outermost value is no object"
    try:
        return [_image(record) for record in content.values()], ""
    except ValueError as error:
        return [], str(error)


def _image(record: Any) -> _Image:
    """An image's record.

    Raises:
        ValueError: It is none.
    """
    name = record.get("filename") if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise ValueError("an image without a file name")
    image = _Image(name, _object(record.get("file_attributes")))
    regions = record.get("regions") or []
    every = list(regions.values()) if isinstance(regions, dict) else regions  # in version 1
    if not isinstance(every, list) or not all(isinstance(region, dict) for region in every):
        raise ValueError(f"the regions of {name!r} are no list of objects")
    for region in every:
        shape, about = region.get("shape_attributes"), region.get("region_attributes")
        image.regions.append((_object(shape), _object(about)))
    return image


def _from_csv(path: Path) -> tuple[list[_Image], str]:
    images: dict[str, _Image] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, long_cells():
            if file.read(1) != "#":
                file.seek(0)
            reader = csv.DictReader(file)
            for row in reader:
                name = row.get("filename") or ""
                cells = [
                    _object(json.loads(row.get(column) or "{}"))
                    for column in (
                        "file_attributes",
                        "region_shape_attributes",
                        "region_attributes",
                    )
                ]
                image = images.setdefault(name, _Image(name, cells[0], line=reader.line_num))
                if cells[1]:
                    image.regions.append((cells[1], cells[2]))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        return [], f"cannot be read ({error})"
    except (ValueError, RecursionError) as error:
        return [], f"a cell on line {reader.line_num} is not JSON ({error})"
    return list(images.values()), ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _attribute(
    images: Sequence[_Image], wanted: str | None, path: Path, tally: Tally
) -> tuple[str, str]:
    """The attribute that is the class, and why there is none (empty: there is one)."""
    regions = [about for image in images for _, about in image.regions]
    told = regions or [image.about for image in images]
    keys = list(dict.fromkeys(key for about in told for key in about if _values(about[key])))
    if wanted is not None:
        return wanted, "" if wanted in keys else f"no {wanted!r}; there are {listed(keys)}"
    if not keys:
        what = "regions" if regions else "images"
        return "", f"the {what} have no attribute that tells their class"
    folded = {key.strip().casefold(): key for key in keys}
    usual = next((folded[name] for name in _USUAL if name in folded), None)
    if usual is None and len(keys) > 1:
        return "", f"several attributes may be the class: {listed(keys)}"
    if len(keys) > 1:
        tally.add(
            "annotation",
            path,
            f"the attribute {usual!r} is taken for the class; there are also "
            f"{listed([key for key in keys if key != usual])}",
            "name another one by --tags-column if that is not right",
            severity="note",
        )
    return usual or keys[0], ""


def _values(value: Any) -> list[str]:
    """The value of an attribute: a text, or the boxes that are ticked."""
    if isinstance(value, dict):
        return [str(key) for key, is_set in value.items() if is_set is True]
    return [value] if isinstance(value, str) and value.strip() else []


def _pixels(shape: dict[str, Any]) -> tuple[()] | tuple[str, Any]:
    """Form and shape of what a region encloses; nothing of rectangles, points and lines.

    Raises:
        ValueError: The region is damaged.
    """
    kind = shape.get("name")
    if kind == "polygon":
        x, y = numbers(shape.get("all_points_x")), numbers(shape.get("all_points_y"))
        if x is None or y is None or len(x) != len(y):
            raise ValueError("a polygon whose points are no pairs of numbers")
        return ("polygons", [array("d", _paired(x, y))]) if len(x) >= 3 else ()
    if kind not in ("circle", "ellipse"):
        return ()
    along = shape.get("rx", shape.get("r"))
    across = shape.get("ry", shape.get("r"))
    found = numbers([shape.get("cx"), shape.get("cy"), along, across, shape.get("theta") or 0], 5)
    if found is None:
        raise ValueError(f"a {kind} whose centre and radii are no numbers")
    *ellipse, turned = found
    return "ellipse", (*ellipse, math.degrees(turned))


def _paired(x: array[float], y: array[float]) -> Iterator[float]:
    for pair in zip(x, y, strict=True):
        yield from pair
