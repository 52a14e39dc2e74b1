"""COCO instance annotations: an image's tags are the categories annotated in it."""

from __future__ import annotations

import codecs
import json
import mmap
import re
from collections import Counter
from pathlib import Path
from typing import Any

from weakseg.data.truth import Region, RegionMask
from weakseg.faults import FileError, listed
from weakseg.sources.annotation_files import few_files
from weakseg.sources.image_index import (
    PARTS,
    Listing,
    Missing,
    find_folder,
    image_roots,
    scan,
    subfolders,
)
from weakseg.sources.reading import Entry, Reading, Request
from weakseg.types import DataError

_PREFIX = "instances_"
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_PEEK = 1 << 16
_EXPORT = "write the file anew from the annotation tool"
_PARSED = 64 * 2**20  # bytes of another part's file that is read as a whole for its classes


def annotation_files(source: Path) -> dict[str, Path]:
    """The instance JSONs of a source by the name of their split.

    Args:
        source: A JSON file, or a folder that has JSONs in `annotations/`, itself, or one in each of
            its parts `train/`, `valid/` … (Roboflow).

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
                files = _jsons(folder)
        if not files:
            parts = [child for child in subfolders(source) if child.name.casefold() in PARTS]
            found = {child.name: _jsons(child) for child in parts}
            return {name: jsons[0] for name, jsons in found.items() if len(jsons) == 1}
        files = [path for path in files if path.name.startswith(_PREFIX)] or files
    return {path.stem.removeprefix(_PREFIX): path for path in files}


def read_coco(request: Request) -> Reading:
    """Reads COCO instance annotations.

    Classes are the categories that any annotation of the source has, in the order of their ids.
    Crowds (`iscrowd: 1`) count: what they show is in the image. Images without annotations have no
    tags. Where all of an image's annotations have a segmentation, they are its truth: crowds lie
    below, of the others smaller ones over larger ones.

    Args:
        request: What is wanted; without a part, all splits are read together.

    Returns:
        One entry per image of the file. Ids are paths below the folder of the images, and, where
        there are several splits, below the source.

    Raises:
        DataError: There is no such file.
    """
    files = annotation_files(request.path)
    if not files:
        raise DataError(
            f"{request.path}: there is no COCO instances JSON; put it into annotations/ or name it"
        )
    wanted = [request.part] if request.part else list(files.values())
    folder = _folder_of(request.path, wanted[0])
    contents: dict[Path, dict[str, list[Any]]] = {}
    broken = Reading(folder, Listing(folder))
    for path in wanted:
        content, found = _load(path)
        if content is None:
            broken.fault("annotation", path, found, _EXPORT)
            broken.fatal.append(broken.faults.pop())
        else:
            contents[path] = content
    if broken.fatal:
        return broken
    several = len(files) > 1
    common = scan(folder, folder) if several else None
    reading = Reading(folder, common or Listing(folder))
    names = _class_names(reading, files, contents)
    reading.names, reading.declared = tuple(names), True
    for path, content in contents.items():
        listing = _best_root(path, folder, [_file_name(i) for i in content["images"]])
        if not several:
            reading.listing = listing
        _read_part(reading, path, content, listing, common)
    if common is not None and request.part is not None:
        reading.wanted = frozenset(entry.id for entry in reading.entries)
        reading.partial = True
    reading.add_link_faults()
    if request.part is None:
        reading.note_unnamed(wanted[0])
    return reading


def _read_part(
    reading: Reading,
    path: Path,
    content: dict[str, list[Any]],
    listing: Listing,
    common: Listing | None,
) -> None:
    """Adds the entries of one file."""
    records = [image for image in content["images"] if _file_name(image)]
    nameless = len(content["images"]) - len(records)
    if nameless:
        reading.fault("annotation", path, f"{nameless} images without a file_name or id", _EXPORT)
    categories = _categories(path, content["categories"])
    annotations = _annotations(reading, path, content, categories)
    drawn = any(_drawable(a) for found in annotations.values() for a in found)
    order = {name: index for index, name in enumerate(reading.names)}
    boxes = 0
    for image in records:
        sample_id, target = listing.resolve(_file_name(image))
        missing = isinstance(target, Missing)
        if isinstance(target, Missing):
            reading.fault(target.kind, path, target.found, target.remedy, sample_id)
        elif common is not None:
            sample_id = common.id_of(target)
        found = annotations.get(str(image["id"]), [])
        tags = {categories[str(a["category_id"])] for a in found}
        truth = None
        if drawn and not isinstance(target, Missing):
            if all(map(_drawable, found)):
                truth = _truth(path, image, target, found, categories)
            else:
                boxes += 1
        reading.entries.append(
            Entry(
                sample_id,
                None if isinstance(target, Missing) else target,
                tuple(sorted(tags, key=lambda name: (order.get(name, len(order)), name))),
                path,
                usable=not missing,
                truth=truth,
            )
        )
    if common is not None:
        for name, found_at in listing.elsewhere.items():
            reading.listing.elsewhere.setdefault(name, found_at)
    if boxes:
        reading.note(
            "annotation",
            path,
            f"{boxes} images have annotations without segmentation: they have tags, but no truth",
            "nothing has to be done; truth only serves scores",
        )


def _drawable(annotation: dict[str, Any]) -> bool:
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        return "counts" in shape and "size" in shape
    return isinstance(shape, list) and bool(shape) and all(isinstance(p, list) for p in shape)


def _truth(
    path: Path,
    image: dict[str, Any],
    target: Path,
    found: list[dict[str, Any]],
    categories: dict[str, str],
) -> RegionMask:
    """The truth of an image; nothing is drawn yet."""
    height, width = image.get("height"), image.get("width")
    known = isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0

    def below(annotation: dict[str, Any]) -> tuple[bool, float]:
        area = annotation.get("area")
        crowd = annotation.get("iscrowd") in (1, True, "1")
        return not crowd, -float(area) if isinstance(area, int | float) else 0.0

    regions = tuple(
        Region(
            categories[str(a["category_id"])],
            "coco_rle" if isinstance(a["segmentation"], dict) else "polygons",
            a["segmentation"],
        )
        for a in sorted(found, key=below)
    )
    return RegionMask(path, (height, width) if known else target, regions)  # type: ignore[arg-type]


def _class_names(
    reading: Reading, files: dict[str, Path], contents: dict[Path, dict[str, list[Any]]]
) -> list[str]:
    """The categories that are used anywhere in the source, in the order of their ids."""
    known: dict[str, str] = {}
    used: set[str] = set()
    for path, content in contents.items():
        mine = _categories(path, content["categories"], reading)
        for key, name in mine.items():
            if known.setdefault(key, name) != name:
                reading.fault(
                    "annotation",
                    path,
                    f"category {key} is {name!r} here and {known[key]!r} in another split",
                    _EXPORT,
                )
        used |= {str(a.get("category_id")) for a in content["annotations"] if isinstance(a, dict)}
    for path in files.values():
        if path not in contents:
            used |= _used_in(path)
    unused = [name for key, name in known.items() if key not in used]
    if unused and len(unused) < len(known):
        reading.note(
            "class_unused",
            next(iter(contents)),
            f"{len(unused)} of {len(known)} categories have no annotation and are left out: "
            f"{listed(unused)}",
            "nothing has to be done; name all classes in classes.txt to keep them",
        )
        return list(dict.fromkeys(name for key, name in known.items() if key in used))
    return list(dict.fromkeys(known.values()))


def _used_in(path: Path) -> set[str]:
    """The category ids of another split's annotations, without reading all of a large file."""
    try:
        if path.stat().st_size <= _PARSED:
            content, _ = _load(path)
            found = content["annotations"] if content else []
            return {str(a.get("category_id")) for a in found if isinstance(a, dict)}
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            ids = re.finditer(rb'"category_id"\s*:\s*"?(\w+)', data)
            return {match[1].decode() for match in ids}
    except OSError:
        return set()


def _folder_of(source: Path, path: Path) -> Path:
    """The folder below which images, truth and class lists are looked for."""
    if source.is_dir():
        return source
    return path.parent.parent if path.parent.name.casefold() == "annotations" else path.parent


def _jsons(folder: Path) -> list[Path]:
    return [path for path in few_files(folder, ".json") if _looks_like_coco(path)]


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


def _categories(path: Path, records: list[Any], reading: Reading | None = None) -> dict[str, str]:
    """Category names by id as text, in the order of the ids; faults go to the reading."""
    pairs: list[tuple[int | str, str]] = []
    for record in records:
        name = record.get("name") if isinstance(record, dict) else None
        number = record.get("id") if isinstance(record, dict) else None
        if isinstance(number, str) and number.strip().lstrip("-").isdecimal():
            number = int(number)
        if not isinstance(name, str) or not name.strip() or not isinstance(number, int | str):
            if reading is not None:
                found = f"a category without name or id: {record!r}"[:200]
                reading.fault("annotation", path, found, _EXPORT)
            continue
        if name != name.strip() and reading is not None:
            reading.note(
                "tag_blanks",
                path,
                f"spaces around the category {name!r}",
                "nothing has to be done: they are left out",
            )
        pairs.append((number, name.strip()))
    if reading is not None:
        ids, names = [str(n) for n, _ in pairs], [name for _, name in pairs]
        for kind, values in (("id", ids), ("name", names)):
            doubled = sorted({value for value, n in Counter(values).items() if n > 1})
            if doubled:
                found = f"categories with the same {kind}: {listed(doubled)}"
                reading.fault("annotation", path, found, _EXPORT)
    ordered = sorted(pairs, key=lambda pair: (isinstance(pair[0], str), pair))
    found_names: dict[str, str] = {}
    for number, name in ordered:
        found_names.setdefault(str(number), name)
    return found_names


def _annotations(
    reading: Reading, path: Path, content: dict[str, list[Any]], categories: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """The usable annotations per image id."""
    images = {str(image["id"]) for image in content["images"] if _file_name(image)}
    found: dict[str, list[dict[str, Any]]] = {}
    strays, unknown = 0, set()
    for annotation in content["annotations"]:
        image = str(annotation.get("image_id")) if isinstance(annotation, dict) else ""
        category = str(annotation.get("category_id")) if isinstance(annotation, dict) else ""
        if image not in images:
            strays += 1
        elif category not in categories:
            unknown.add(category)
        else:
            found.setdefault(image, []).append(annotation)
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
    return found


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
    found = sum(key in head for key in _KEYS)
    whole = len(head) < _PEEK  # then all keys would be there
    is_object = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"
    return is_object and found >= (2 if whole else 1)
