"""labelme: one JSON a photo, with polygons, other shapes and flags."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from weakseg.sources.annotation_files import (
    Tally,
    beside,
    best_listing,
    ends,
    files_below,
    folder_splits,
    images_of,
    load_json,
)
from weakseg.sources.marks import IGNORE_NAME, Mark, Marked, add_entries, numbers, side
from weakseg.sources.reading import Reading, Request

_LOOKED_AT = 5
_ANEW = "save the image's annotation anew in labelme"
_POINTS = {"rectangle": 2, "circle": 2, "mask": 2}
_RECTANGLE = "rectangle"


@dataclass
class _File:
    """What a labelme JSON says."""

    path: Path
    image: str = ""
    size: tuple[int, int] | None = None
    marks: list[Mark] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    has_pixels: bool = False
    problems: list[str] = field(default_factory=list)
    broken: bool = False


def is_labelme(source: Path) -> bool:
    """Whether a file is a labelme JSON, or a folder has some."""
    files = [source] if source.is_file() else islice(files_below(source, ".json"), _LOOKED_AT)
    return any(_looks_right(file) for file in files)


def read_labelme(request: Request) -> Reading:
    """Reads labelme's JSONs, beside the photos or in a folder of their own.

    Tags are the labels of all shapes and the flags of the image that are true. Polygons, circles
    and masks are true pixels, later shapes over earlier ones; rectangles, too (labelme's own
    conversion fills them), unless the whole source has no other shapes with pixels: then they are
    boxes. Points and lines show a class without its pixels. `__ignore__` are pixels not to look at
    (as a flag: an image to leave out), `_background_` is none of the classes. Sizes are those of
    the upright photo: labelme turns it by its EXIF orientation.

    Args:
        request: What is wanted.

    Returns:
        One entry per JSON.
    """
    source = request.path
    folder = source if source.is_dir() else source.parent
    paths = [source] if source.is_file() else list(files_below(source, ".json"))
    tally = Tally()
    files: list[_File] = []
    strangers: list[Path] = []
    for path in paths:
        content, found = load_json(path)
        if found and (_looks_right(path) or source.is_file()):
            files.append(_File(path, problems=[found], broken=True))
        elif isinstance(content, dict) and isinstance(content.get("shapes"), list):
            files.append(_parse(path, content))
        else:
            strangers.append(path)
    names = [_image_names(file, folder) for file in files]
    listing = best_listing(folder, names)
    reading = Reading(folder, listing)
    boxes_only = not any(file.kinds - {_RECTANGLE} for file in files)
    add_entries(reading, _marked(reading, files, names, boxes_only, tally), tally)
    _note_rectangles(files, boxes_only, tally)
    if strangers:
        tally.add(
            "annotation",
            strangers[0],
            f"{len(strangers)} JSON files are not labelme's, so not read",
            "nothing has to be done if they are something else",
            severity="note",
        )
    reading.faults += tally.faults()
    reading.splits = folder_splits(entry.id for entry in reading.entries)
    reading.add_link_faults()
    if source.is_dir():
        reading.note_unnamed(folder)
    return reading


def _looks_right(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    text = ends(path)
    if not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    marks = (b'"shapes"', b'"imagePath"', b'"imageData"', b'"imageHeight"')
    return sum(mark in text for mark in marks) >= 2


def _image_names(file: _File, folder: Path) -> list[str]:
    """Where the image of a JSON may be: as it says itself, seen from its place; by its own name."""
    names = []
    if file.image:
        parts = [*file.path.parent.relative_to(folder).parts]
        for part in PurePosixPath(file.image).parts:
            if part == ".." and parts:
                parts.pop()
            elif part not in (".", ".."):
                parts.append(part)
        names.append("/".join(parts))
        name = PurePosixPath(file.image)
        if name.name not in ("", ".."):
            stems = beside(file.path.with_name(name.name), folder)
            names += [stem + name.suffix for stem in stems]
    return [*names, *beside(file.path, folder)]


def _marked(
    reading: Reading, files: list[_File], names: list[list[str]], boxes_only: bool, tally: Tally
) -> Iterator[Marked]:
    for file, each in zip(files, names, strict=True):
        sample_id, images, missing = images_of(reading.listing, each, file.image)
        if missing is not None:
            remedy = missing.remedy
            if file.has_pixels:
                remedy = (
                    "write the photos out of the JSONs (labelme_export_json) and name them so; "
                    "the copies inside of the JSONs are not used"
                )
            tally.add(missing.kind, file.path, missing.found, remedy, sample_id)
        for problem in file.problems:
            tally.add("annotation", file.path, problem, _ANEW, sample_id)
        if IGNORE_NAME in file.flags:
            tally.add(
                "image_unnamed",
                file.path,
                f"image {sample_id!r} has the flag {IGNORE_NAME}, so it is left out",
                "take the flag away if it is wanted",
                sample_id,
                severity="note",
            )
            continue
        marks = file.marks
        if boxes_only:
            marks = [Mark(mark.name) for mark in marks]
        usable = not file.broken
        yield Marked(file.path, sample_id, images, marks, file.flags, file.size, usable=usable)


def _note_rectangles(files: list[_File], boxes_only: bool, tally: Tally) -> None:
    with_rectangles = [file for file in files if _RECTANGLE in file.kinds]
    if not with_rectangles:
        return
    count = f"{len(with_rectangles)} of {len(files)} images have rectangles"
    tally.add(
        "annotation",
        with_rectangles[0].path,
        f"{count} and none has a polygon: read as boxes, for tags only"
        if boxes_only
        else f"{count}: their whole area counts as the class, as in labelme's own conversion",
        "draw polygons where true pixels are wanted",
        severity="note",
    )


def _parse(path: Path, content: dict[str, Any]) -> _File:
    file = _File(path)
    name = content.get("imagePath")
    file.image = name.replace("\\", "/").strip() if isinstance(name, str) else ""
    file.has_pixels = bool(content.get("imageData"))
    sides = content.get("imageHeight"), content.get("imageWidth")
    if all(map(side, sides)):
        file.size = sides  # type: ignore[assignment]
    flags = content.get("flags")
    if isinstance(flags, dict):
        file.flags = [name for name, is_set in flags.items() if is_set is True]
    for shape in content["shapes"]:
        mark, found = _mark(shape)
        if found:
            file.problems.append(found)
        if mark is not None:
            file.marks.append(mark)
            if mark.form is not None:
                file.kinds.add(_kind(shape))
    return file


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon")


def _mark(shape: Any) -> tuple[Mark | None, str]:
    """A shape as a mark; what is wrong with it (empty: nothing)."""
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str):
        return None, "a shape without a label"
    try:
        return Mark(label, *_pixels(shape)), ""
    except ValueError as error:
        return Mark(label), str(error)


def _pixels(shape: dict[str, Any]) -> tuple[()] | tuple[str, Any]:
    """Form and shape of what a shape encloses; nothing of points and lines.

    Raises:
        ValueError: The shape is damaged.
    """
    kind = _kind(shape)
    if kind not in ("polygon", *_POINTS):
        return ()
    points = numbers(shape.get("points"), 2 * _POINTS[kind] if kind in _POINTS else None)
    if points is None or len(points) % 2:
        raise ValueError(f"a {kind} whose points are no pairs of numbers")
    if kind == "polygon":
        return ("polygons", [points]) if len(points) >= 6 else ()
    left, top, right, bottom = points
    if kind == _RECTANGLE:
        corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        return _RECTANGLE, corners
    if kind == "circle":
        radius = math.hypot(right - left, bottom - top)
        return "ellipse", (left, top, radius, radius, 0.0)
    mask = shape.get("mask")
    if not isinstance(mask, str):
        raise ValueError("a mask without its picture")
    return "png", (mask, round(left), round(top))
