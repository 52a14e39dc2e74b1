"""The images below a folder, and finding one by the name a tags file gives it."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from weakseg.data.decode import SUFFIXES
from weakseg.faults import Fault, FaultKind, FileError, listed, unprintable
from weakseg.sources.name_index import NameIndex, plain_name, without_suffix
from weakseg.types import is_sample_id

IMAGE_FOLDERS = ("JPEGImages", "images")
"""Folders that hold the images of a source, in the order in which they are looked for."""

MASK_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "masks")
"""Folders that hold truth, in the order in which they are looked for."""

PARTS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev"))
"""Folders that hold parts of a data set: its splits."""

SPLIT_FOLDER = "ImageSets"

_NOT_IMAGES = frozenset(
    name.casefold()
    for name in (
        *MASK_FOLDERS,
        SPLIT_FOLDER,
        "Annotations",
        "SegmentationObject",
        "SegmentationObjectPNG",
        "SegmentationClassVisualization",
        "SegmentationObjectVisualization",
        "__MACOSX",
    )
)
_MAX_COMPARED = 200_000  # names compared for hints: some 2 seconds


@dataclass(frozen=True)
class Missing:
    """Why a name leads to no image."""

    kind: FaultKind
    found: str
    remedy: str


class _ImagesById(Mapping[str, list[Path]]):
    """The image files of each id; the paths are made when they are asked for."""

    def __init__(self, root: Path, names: NameIndex[str]) -> None:
        self._root = root
        self._names = names

    def __getitem__(self, image_id: str) -> list[Path]:
        files = self._names.images(image_id)
        if not files:
            raise KeyError(image_id)
        return [self._root / file for file in files]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.image_ids)

    def __len__(self) -> int:
        return len(self._names.image_ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._names.image_ids


@dataclass
class Listing:
    """All files below an image folder.

    Attributes:
        root: The image folder.
        images: Per id (path below `root` without suffix, NFC) the image files that bear it, sorted.
        faults: Links that leave the folder, files whose names cannot be used.
        elsewhere: Names that were found by their end alone, and the files they are taken for.
    """

    root: Path
    images: Mapping[str, list[Path]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    elsewhere: dict[str, Path] = field(default_factory=dict)
    _names: NameIndex[str] = field(default_factory=lambda: NameIndex((), name=str), repr=False)
    _folded: dict[str, list[str]] | None = field(default=None, repr=False)
    _leaving: set[str] = field(default_factory=set, repr=False)
    _compared: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        self.images = self.images or _ImagesById(self.root, self._names)

    def id_of(self, path: Path) -> str:
        """The id of an image below the root."""
        return without_suffix(_key(path.relative_to(self.root)))

    def has(self, name: str) -> bool:
        """Whether `resolve` finds an image by this name."""
        return len(self._names.find(name).items) == 1

    def resolve(self, name: str, *, hint: bool = True) -> tuple[str, Path | Missing]:
        """Finds the image a source names.

        Args:
            name: A path below the root, with or without suffix, with either slash, the suffix in
                any case; or a path or URL of another place that ends as an image's here does (see
                `NameIndex`). Names found so are kept in `elsewhere`.
            hint: Look for the nearest name if there is none.

        Returns:
            The id the name stands for, and the file or why there is none.
        """
        match = self._names.find(name)
        plain = plain_name(name)
        key = os.path.normpath(plain).replace("\\", "/")
        if len(match.items) == 1:
            found = self.root / match.items[0]
            if match.below and key.removeprefix(f"{self.root.name}/") != self._key_like(found, key):
                self.elsewhere.setdefault(name.strip(), found)
            return self.id_of(found), found
        sample_id = without_suffix(key.removeprefix(f"{self.root.name}/"))
        if match.items:
            names = listed([unicodedata.normalize("NFC", file) for file in match.items])
            return sample_id, Missing(
                "duplicate_name",
                f"{name!r} may be any of {names}",
                "name the image by its path and suffix, and give each its own name",
            )
        if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
            return without_suffix(plain), Missing(
                "path_leaves",
                f"{name!r} is an absolute path, and no image here is named so",
                f"name images by their path below {self.root.name!r}",
            )
        if key == ".." or key.startswith("../"):
            return without_suffix(plain), Missing(
                "path_leaves",
                f"{name!r} leaves the image folder",
                "move the image into the folder, or remove the line",
            )
        if key in self._leaving or sample_id in self._leaving:
            return sample_id, Missing(
                "path_leaves",
                f"{name!r} is a link to a file outside of the folder",
                "copy the image into the folder, or remove the line",
            )
        remedy = self._hint(sample_id) if hint else ""
        return sample_id, Missing("image_missing", f"there is no image {name!r}", remedy)

    def add(self, path: Path) -> None:
        """Adds a file below the root."""
        self._names.add(path.relative_to(self.root).as_posix())

    def _key_like(self, path: Path, key: str) -> str:
        """A file's path below the root, written as a name is: with its suffix or without."""
        own = _key(path.relative_to(self.root))
        if PurePosixPath(key).suffix.lower() == path.suffix.lower():
            return own.removesuffix(path.suffix) + PurePosixPath(key).suffix
        return without_suffix(own)

    def _hint(self, sample_id: str) -> str:
        other = self.images.get(sample_id)
        if self._folded is None:
            self._folded = {}
            for known in self.images:
                self._folded.setdefault(known.casefold(), []).append(known)
        if other is None:
            same = self._folded.get(sample_id.casefold())
            other = None if same is None else self.images[same[0]]
        if other is None and self._compared < _MAX_COMPARED:
            self._compared += len(self.images)
            near = difflib.get_close_matches(sample_id, self.images, n=1, cutoff=0.8)
            other = self.images[near[0]] if near else None
        if other is None:
            return "add the image, or remove the line"
        nearest = other[0].relative_to(self.root).as_posix()
        return f"add the image, or correct the name: did you mean {nearest!r}?"


def scan(root: Path, boundary: Path, *, skip: Collection[str] = ()) -> Listing:
    """Lists a folder with its sub-folders, in sorted order, without following linked folders.

    Hidden files and folders, and folders known to hold something else (truth, annotations, splits),
    are passed over.

    Args:
        root: The image folder.
        boundary: Links to files outside of this folder are not taken.
        skip: Names of further top-level folders to pass over.

    Returns:
        What is there.
    """
    listing = Listing(root)
    inside = (boundary.resolve(), root.resolve())
    passed = _NOT_IMAGES | {name.casefold() for name in skip}
    for entry in _walk(root, passed):
        path = Path(entry.path)
        key = _key(path.relative_to(root))
        if entry.is_symlink():
            try:
                target = path.resolve(strict=False)
            except (OSError, RuntimeError):  # a link that leads to itself
                target = path
            if target == path or not any(target.is_relative_to(folder) for folder in inside):
                listing._leaving |= {key, without_suffix(key)}
                listing.faults.append(_leaves(path, target, without_suffix(key)))
                continue
            if target.is_dir():
                listing.faults.append(_linked_folder(path))
                continue
        if unprintable(key) or not is_sample_id(key):
            if path.suffix.lower() in SUFFIXES:
                listing.faults.append(_strange_name(path))
            continue
        listing.add(path)
    return listing


def image_roots(folder: Path) -> list[Path]:
    """Where the images of a source may be: its usual sub-folders that exist, and itself."""
    below = {child.name.casefold(): child for child in subfolders(folder)}
    usual = [below[name.casefold()] for name in IMAGE_FOLDERS if name.casefold() in below]
    return [*usual, folder]


def subfolders(folder: Path) -> list[Path]:
    """The visible sub-folders of a folder, sorted; none if it cannot be read."""
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return []
    return [child for child in children if child.is_dir() and not child.name.startswith(".")]


def find_folder(folder: Path, name: str) -> Path | None:
    """The sub-folder of this name in any case, or None."""
    return next((c for c in subfolders(folder) if c.name.casefold() == name.casefold()), None)


def _walk(folder: Path, passed: Collection[str] = ()) -> Iterator[os.DirEntry[str]]:
    """Files and links below a folder, depth first, sorted."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            folder, "image_missing", f"cannot be read ({reason})", "make the folder readable"
        ) from error
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name.casefold() not in passed:
                yield from _walk(Path(entry.path))
        elif entry.is_symlink():
            if entry.name.casefold() not in passed:
                yield entry
        elif entry.is_file():
            yield entry


def _leaves(path: Path, target: Path, sample_id: str) -> Fault:
    return Fault(
        kind="path_leaves",
        file=str(path),
        found=f"a link to {str(target)!r}, outside of the folder",
        remedy="copy the file into the folder, or remove the link",
        samples=() if target.is_dir() else (sample_id,),
    )


def _strange_name(path: Path) -> Fault:
    return Fault(
        kind="image_name",
        file=str(path),
        found=(
            f"the file name {path.name!r} is not UTF-8, or has control characters, a backslash or "
            "a drive's letter"
        ),
        remedy="rename the file",
        samples=(str(path.name),),
    )


def _linked_folder(path: Path) -> Fault:
    return Fault(
        kind="path_leaves",
        file=str(path),
        found="a link to a folder, which is not followed",
        remedy="move the folder itself here if its images are wanted",
        severity="note",
    )


def _key(relative: Path) -> str:
    return unicodedata.normalize("NFC", relative.as_posix())
