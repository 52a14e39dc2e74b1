"""COCO instance annotations: an image's tags are the categories annotated in it."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from weakseg.faults import FileError, listed
from weakseg.sources.image_index import Listing, Missing, find_folder, image_roots, scan
from weakseg.sources.reading import Entry, Reading, Request
from weakseg.types import DataError

_PREFIX = "instances_"
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_PEEK = 1 << 16
_EXPORT = "write the file anew from the annotation tool"


def annotation_files(source: Path) -> dict[str, Path]:
    """The instance JSONs of a source by the name of their split.

    Args:
        source: A JSON file, or a folder that has JSONs in `annotations/` or itself.

    Returns:
        `{"train2017": …/annotations/instances_train2017.json, …}`; empty if there are none. Where
        files are named `instances_…`, others are passed over.
    """
    if source.is_file():
        files = [source] if source.suffix.lower() == ".json" else []
    else:
        files = []
        for folder in (find_folder(source, "annotations"), source):
            if folder is not None and not files:
                files = sorted(
                    path
                    for path in folder.iterdir()
                    if path.suffix.lower() == ".json" and path.is_file() and _looks_like_coco(path)
                )
        files = [path for path in files if path.name.startswith(_PREFIX)] or files
    return {path.stem.removeprefix(_PREFIX): path for path in files}


def read_coco(request: Request) -> Reading:
    """Reads COCO instance annotations.

    Classes are the categories in the order of their ids. Crowds (`iscrowd: 1`) count: what they
    show is in the image. Images without annotations have no tags.

    Args:
        request: What is wanted.

    Returns:
        One entry per image of the file.

    Raises:
        DataError: There is no such file, or there are several and `part` is None.
    """
    files = annotation_files(request.path)
    if request.part is None and len(files) != 1:
        if not files:
            raise DataError(
                f"{request.path}: there is no COCO instances JSON; put it into annotations/ "
                "or name it"
            )
        raise DataError(
            f"{request.path}: has annotations of several splits; choose one by --split "
            f"({', '.join(files)})"
        )
    path = request.part or next(iter(files.values()))
    folder = path.parent.parent if path.parent.name.casefold() == "annotations" else path.parent
    content, found = _load(path)
    if content is None:
        reading = Reading(folder, Listing(folder))
        reading.fault("annotation", path, found, _EXPORT)
        reading.fatal.append(reading.faults.pop())
        return reading
    records = [image for image in content["images"] if _file_name(image)]
    listing = _best_root(path, folder, [_file_name(image) for image in records])
    reading = Reading(folder, listing, partial=len(files) > 1)
    categories = _categories(reading, path, content["categories"])
    reading.names, reading.declared = tuple(dict.fromkeys(categories.values())), True
    tags = _tags(reading, path, content, categories)
    nameless = len(content["images"]) - len(records)
    if nameless:
        reading.fault("annotation", path, f"{nameless} images without a file_name or id", _EXPORT)
    order = {name: index for index, name in enumerate(reading.names)}
    for image in records:
        sample_id, target = listing.resolve(_file_name(image))
        if isinstance(target, Missing):
            reading.fault(target.kind, path, target.found, target.remedy, sample_id)
        names = tuple(sorted(tags.get(image["id"], ()), key=order.__getitem__))
        usable = not isinstance(target, Missing)
        file = None if isinstance(target, Missing) else target
        reading.entries.append(Entry(sample_id, file, names, path, usable=usable))
    reading.add_link_faults()
    reading.note_unnamed(path)
    return reading


def _load(path: Path) -> tuple[dict[str, list[Any]] | None, str]:
    """The parsed file, or None and what is wrong with it."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return None, f"cannot be read ({error.strerror or error})"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        return None, f"not JSON that can be read ({type(error).__name__})"
    if not isinstance(content, dict):
        return None, "not a COCO file: the outermost value is no object"
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            return None, f"not COCO instances: there is no list {key!r}"
    return content, ""


def _categories(reading: Reading, path: Path, records: list[Any]) -> dict[Hashable, str]:
    """Category names by id, in the order of the ids."""
    pairs: list[tuple[int, str]] = []
    for record in records:
        name = record.get("name") if isinstance(record, dict) else None
        number = record.get("id") if isinstance(record, dict) else None
        if not isinstance(name, str) or not name.strip() or not isinstance(number, int):
            reading.fault("annotation", path, f"a category without name or id: {record!r}", _EXPORT)
            continue
        if name != name.strip():
            reading.note(
                "tag_blanks",
                path,
                f"blanks around the category {name!r}",
                "nothing has to be done: they are left out",
            )
        pairs.append((number, name.strip()))
    for kind, values in (("id", [str(n) for n, _ in pairs]), ("name", [name for _, name in pairs])):
        doubled = sorted({value for value in values if values.count(value) > 1})
        if doubled:
            reading.fault(
                "annotation", path, f"categories with the same {kind}: {listed(doubled)}", _EXPORT
            )
    names: dict[Hashable, str] = {}
    for number, name in sorted(pairs):
        names.setdefault(number, name)
    return names


def _tags(
    reading: Reading, path: Path, content: dict[str, list[Any]], categories: dict[Hashable, str]
) -> dict[Hashable, set[str]]:
    """The category names per image id."""
    images = {image["id"] for image in content["images"] if _file_name(image)}
    tags: dict[Hashable, set[str]] = {}
    strays, unknown = 0, set()
    for annotation in content["annotations"]:
        image = annotation.get("image_id") if isinstance(annotation, dict) else None
        category = annotation.get("category_id") if isinstance(annotation, dict) else None
        if not isinstance(image, Hashable) or image not in images:
            strays += 1
        elif not isinstance(category, Hashable) or category not in categories:
            unknown.add(str(category))
        else:
            tags.setdefault(image, set()).add(categories[category])
    if strays:
        reading.fault(
            "annotation", path, f"{strays} annotations of images that are not listed", _EXPORT
        )
    if unknown:
        reading.fault(
            "annotation",
            path,
            f"annotations of unknown categories: {listed(sorted(unknown))}",
            _EXPORT,
        )
    return tags


def _file_name(image: Any) -> str:
    """The file name of an image record, empty if the record cannot be used."""
    if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
        return ""
    name = image.get("file_name")
    return name if isinstance(name, str) else ""


def _best_root(path: Path, folder: Path, names: list[str]) -> Listing:
    """The usual folder where most of the named images are."""
    split = path.stem.removeprefix(_PREFIX)
    usual = image_roots(folder)
    below = [found for root in (folder, *usual[:-1]) if (found := find_folder(root, split))]
    best: tuple[int, Listing] | None = None
    for root in dict.fromkeys([*below, *usual[:-1], path.parent, folder]):
        try:
            listing = scan(root, folder)
        except FileError:
            continue
        hits = sum(map(listing.has, names))
        if best is None or hits > best[0]:
            best = (hits, listing)
    return best[1] if best else Listing(folder)


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_PEEK)
    return any(key in head for key in _KEYS)
