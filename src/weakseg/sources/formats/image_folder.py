"""Folders of images, one a class (ImageFolder)."""

from __future__ import annotations

from pathlib import Path

from weakseg.data.decode import SUFFIXES
from weakseg.sources.image_index import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    PARTS,
    SPLIT_FOLDER,
    scan,
    subfolders,
)
from weakseg.sources.reading import Entry, Reading, Request
from weakseg.types import DataError

_NOT_SEARCHED = frozenset(name.casefold() for name in (*MASK_FOLDERS, SPLIT_FOLDER, "Annotations"))
_NEVER_CLASSES = _NOT_SEARCHED.union(
    PARTS,
    (name.casefold() for name in IMAGE_FOLDERS),
    ("img", "image", "imgs", "labels", "label", "img_dir", "ann_dir", "mask", "annotation", "gt"),
    ("imagestr", "imagests", "labelstr", "labelsts", "__macosx"),
)


def is_image_folder(source: Path) -> bool:
    """Whether a folder has sub-folders with images that are classes, or parts that hold classes."""
    if not source.is_dir():
        return False
    return bool(image_folder_parts(source)) or any(map(_has_image, _class_folders(source)))


def image_folder_parts(source: Path) -> dict[str, Path]:
    """The splits of an ImageFolder: sub-folders `train`, `val` … that hold classes."""
    if not source.is_dir():
        return {}
    return {
        folder.name: folder
        for folder in subfolders(source)
        if folder.name.casefold() in PARTS and any(map(_has_image, _class_folders(folder)))
    }


def read_image_folder(request: Request) -> Reading:
    """Reads an ImageFolder: `<class>/<image>`, or `train/<class>/<image>` beside `val/`.

    Args:
        request: What is wanted.

    Returns:
        One entry per image; its one tag is the folder's name. Folders that are parts of a data set
        (`images`, `labels`, `train` …) are never classes.

    Raises:
        DataError: There are parts beside classes.
    """
    parts = image_folder_parts(request.path)
    depth = 1 if parts else 0
    beside = [folder.name for folder in _class_folders(request.path) if _has_image(folder)]
    if parts and beside:
        raise DataError(
            f"{request.path}: has parts of a data set ({', '.join(parts)}) beside other folders of "
            f"images ({', '.join(beside[:6])}); name one of them as the source, or move the others"
        )
    listing = scan(request.path, request.path, skip=_NOT_SEARCHED)
    reading = Reading(request.path, listing)
    reading.add_link_faults()
    stray: list[str] = []
    stripped: set[Path] = set()
    for sample_id, images in listing.images.items():
        folders = sample_id.split("/")[:-1]
        if len(folders) <= depth:
            stray.append(sample_id)
            continue
        name = folders[depth]
        if name.casefold() in _NEVER_CLASSES or (depth and folders[0] not in parts):
            stray.append(sample_id)
            continue
        if name != name.strip():
            stripped.add(images[0].parent)
        reading.entries += [
            Entry(id=sample_id, image=image, names=(name.strip(),), file=image.parent)
            for image in images
        ]
    if request.part is not None:
        inside = f"{request.part.name}/"
        reading.wanted = frozenset(e.id for e in reading.entries if e.id.startswith(inside))
    for folder in sorted(stripped):
        reading.note(
            "tag_blanks",
            folder,
            f"spaces around the folder's name {folder.name!r}",
            "nothing has to be done: they are left out",
        )
    if stray:
        reading.note(
            "image_unnamed",
            request.path,
            f"{len(stray)} image{'s' * (len(stray) != 1)} outside of the class folders, left out",
            "move them into a folder that is called as their class",
        )
    return reading


def _class_folders(source: Path) -> list[Path]:
    return [f for f in subfolders(source) if f.name.casefold() not in _NEVER_CLASSES]


def _has_image(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
