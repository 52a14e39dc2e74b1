"""Other tools' annotation files: finding and opening them, telling their faults together."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from xml.etree import ElementTree
from xml.parsers import expat

from weakseg.data.decode import SUFFIXES
from weakseg.faults import Fault, FaultKind
from weakseg.sources.image_index import IMAGE_FOLDERS, PARTS, Listing, Missing, image_roots, scan
from weakseg.sources.name_index import without_suffix

ANNOTATION_FOLDERS = (
    *("annotations", "annotation", "anns", "ann", "labels", "label", "labelme"),
    *("json", "jsons", "xml", "xmls"),
)
"""Folders that usually hold annotations, in lower case."""

_PASSED = ("__macosx", "imagesets")
_HEAD, _TAIL = 1 << 16, 1 << 12
_PIECE = 1 << 16
_FEW, _MOST = 100, 1000  # files that may tell of all images


def files_below(folder: Path, *suffixes: str) -> Iterator[Path]:
    """Files below a folder by their suffix, those of a folder before those of its sub-folders.

    Hidden files and folders, and links to folders, are passed over.

    Args:
        folder: Where to look.
        suffixes: In lower case, with their dot.

    Yields:
        The files, sorted within each folder.
    """
    below: list[Path] = []
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.casefold() not in _PASSED:
                        below.append(Path(entry.path))
                elif entry.name.lower().endswith(suffixes) and _is_file(entry):
                    found.append(Path(entry.path))
    except OSError:
        return
    yield from sorted(found)
    for child in sorted(below):
        yield from files_below(child, *suffixes)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def few_files(folder: Path | None, *suffixes: str) -> list[Path]:
    """The files of a folder that may each tell of all images, sorted.

    Where there are hundreds of files, one that bears an image's name is of that image alone.

    Args:
        folder: Where to look (not below); None: nowhere.
        suffixes: In lower case, with their dot.
    """
    if folder is None:
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    found = sorted(name for name in names if name.lower().endswith(suffixes))
    if len(found) > _FEW:
        images = {without_suffix(name) for name in names if without_suffix(name) != name}
        found = [name for name in found if PurePosixPath(name).stem not in images]
    return [folder / name for name in found[:_MOST] if (folder / name).is_file()]


def ends(path: Path) -> bytes:
    """The first 64 KiB and the last 4 KiB of a file; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - _TAIL))
            return head + file.read()
    except OSError:
        return b""


def load_json(path: Path) -> tuple[Any, str]:
    """A JSON file's content, and what is wrong with it (empty: nothing)."""
    try:
        return json.loads(path.read_bytes()), ""
    except OSError as error:
        return None, f"cannot be read ({error.strerror or error})"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        return None, f"not JSON that can be read ({type(error).__name__})"


def load_xml(path: Path) -> tuple[ElementTree.Element | None, str]:
    """The outermost element of an XML file, and what is wrong with it (empty: nothing)."""
    _, found = xml_root(path)
    if found:
        return None, found
    try:
        return ElementTree.parse(path).getroot(), ""
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return None, f"not XML that can be read ({error})"
    except OSError as error:
        return None, f"cannot be read ({error.strerror or error})"


def xml_root(path: Path) -> tuple[str, str]:
    """The name of the outermost element, and what is wrong with what stands before it.

    A document type declaration is refused: no annotation tool writes one, and what it declares may
    grow without bound.
    """
    names: list[str] = []
    doctype: list[str] = []
    parser = expat.ParserCreate()

    def begin(name: str, _: object) -> None:
        names.append(name)
        raise _SeenError

    def declared(name: str, *_: object) -> None:
        doctype.append(name)
        raise _SeenError

    parser.StartElementHandler = begin
    parser.StartDoctypeDeclHandler = declared
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                parser.Parse(piece)
            parser.Parse(b"", True)
    except _SeenError:
        if doctype:
            return "", "has a document type declaration (DOCTYPE), which is not read"
        return names[0], ""
    except OSError as error:
        return "", f"cannot be read ({error.strerror or error})"
    except (expat.ExpatError, ValueError, LookupError) as error:
        return "", f"not XML that can be read ({error})"
    return "", "not XML that can be read (no element)"


@contextmanager
def long_cells() -> Iterator[None]:
    """Lets the cells of CSV files be as long as masks and polygons are."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _SeenError(Exception):
    """Enough of a file has been seen."""


@dataclass
class Tally:
    """Faults and notes of many files, each kind told once with its number and its first place."""

    _groups: dict[tuple[FaultKind, str, str], list[_Place]] = field(default_factory=dict)

    def add(
        self,
        kind: FaultKind,
        file: Path,
        found: str,
        remedy: str,
        *samples: str,
        line: int | None = None,
        severity: Literal["fault", "note"] = "fault",
    ) -> None:
        """Adds one; those with the same kind, remedy and severity are told together."""
        group = self._groups.setdefault((kind, remedy, severity), [])
        group.append(_Place(file, line, found, samples))

    def faults(self) -> list[Fault]:
        """One fault for each group, its samples those of all."""
        faults = []
        for (kind, remedy, severity), places in self._groups.items():
            first = places[0]
            more = f" (and {len(places) - 1} more like this)" if len(places) > 1 else ""
            fault = {
                "kind": kind,
                "file": str(first.file),
                "line": first.line,
                "found": first.found + more,
                "remedy": remedy,
                "samples": tuple(dict.fromkeys(s for place in places for s in place.samples)),
                "severity": severity,
            }
            faults.append(Fault.model_validate(fault))
        return faults


@dataclass(frozen=True)
class _Place:
    file: Path
    line: int | None
    found: str
    samples: tuple[str, ...]


def beside(file: Path, folder: Path) -> list[str]:
    """Paths of the image (without suffix) that an annotation file may be of, the likeliest first.

    Args:
        file: The annotation file.
        folder: The source's folder; the paths are below it.

    Returns:
        The file's own path, and those where a folder of annotations is replaced by one of images
        or left out.

    Example:
        >>> beside(Path("s/train/labels/a.xml"), Path("s"))[:3]
        ['train/labels/a', 'train/images/a', 'train/JPEGImages/a']
    """
    parts = file.relative_to(folder).with_suffix("").parts
    names = ["/".join(parts)]
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].casefold() in ANNOTATION_FOLDERS:
            before, after = parts[:place], parts[place + 1 :]
            for images in ("images", *(name for name in IMAGE_FOLDERS if name != "images")):
                names.append("/".join((*before, images, *after)))
            names.append("/".join((*before, *after)))
    return names


def exact(listing: Listing, name: str) -> list[Path]:
    """The image files of this very path below the listing's root, or below the root's folder.

    Args:
        listing: The images.
        name: A path, with its suffix (in any case) or without.
    """
    suffix, stem = PurePosixPath(name).suffix.lower(), without_suffix(name)
    for key in (stem, stem.removeprefix(f"{listing.root.name}/")):
        paths = listing.images.get(key, [])
        if suffix in SUFFIXES:
            paths = [path for path in paths if path.suffix.lower() == suffix]
        if paths:
            return paths
    return []


def best_listing(folder: Path, names: Sequence[Collection[str]]) -> Listing:
    """The images of the folder in which most of the named images are.

    Args:
        folder: The source's folder: it or its usual image folders are looked at.
        names: For each image the names that it may have.
    """
    best: tuple[int, Listing] | None = None
    for root in image_roots(folder):
        listing = scan(root, folder)
        hits = sum(
            any(exact(listing, name) or listing.has(name) for name in each) for each in names
        )
        if best is None or hits > best[0]:
            best = (hits, listing)
    assert best is not None  # the folder itself is always a candidate
    return best[1]


def images_of(
    listing: Listing, names: Sequence[str], written: str = ""
) -> tuple[str, list[Path], Missing | None]:
    """The images of an annotation file.

    Args:
        listing: The images.
        names: Where the image may be, the likeliest first.
        written: The name that the file itself has of its image.

    Returns:
        The image's id; its files (several: of one name but for their suffix); or why there are
        none.
    """
    for name in names:
        found = exact(listing, name)
        if found:
            return listing.id_of(found[0]), found, None
    if written:
        sample_id, target = listing.resolve(written, hint=False)
        if not isinstance(target, Missing):
            return sample_id, [target], None
        if target.kind == "duplicate_name":
            return sample_id, [], target
    sample_id, target = listing.resolve(_likely(listing, names))
    if isinstance(target, Missing):
        return sample_id, [], target
    return sample_id, [target], None


def _likely(listing: Listing, names: Sequence[str]) -> str:
    """Of the places where an image may be, the first that is no folder of annotations."""
    below = [name.removeprefix(f"{listing.root.name}/") for name in names]
    for name in below:
        folders = name.split("/")[:-1]
        passed = any(folder.casefold() in ANNOTATION_FOLDERS for folder in folders)
        if not passed and listing.root.joinpath(*folders).is_dir():
            return name
    return below[-1]


def folder_splits(ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """The images in folders that are parts of a data set (`train`, `val` …), by these folders."""
    found: dict[str, set[str]] = {}
    for sample_id in ids:
        part = next((p for p in sample_id.split("/")[:-1] if p.casefold() in PARTS), None)
        if part is not None:
            found.setdefault(part, set()).add(sample_id)
    return {part: frozenset(inside) for part, inside in sorted(found.items())}
