"""Folders of images, one a class (ImageFolder)."""

from __future__ import annotations

from pathlib import Path

from weakseg.data.decode import SUFFIXES
from weakseg.sources.image_index import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLIT_FOLDER,
    scan,
    subfolders,
)
from weakseg.sources.reading import Entry, Reading, Request

_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
_NOT_CLASSES = frozenset(
    name.casefold() for name in (*IMAGE_FOLDERS, *MASK_FOLDERS, SPLIT_FOLDER, "Annotations")
)


def is_image_folder(source: Path) -> bool:
    """Whether a folder has sub-folders with images: classes, or parts that hold classes."""
    return source.is_dir() and any(_has_image(folder) for folder in _class_folders(source))


def image_folder_parts(source: Path) -> dict[str, Path]:
    """The splits of an ImageFolder: sub-folders `train`, `val` … if there are no others."""
    folders = _class_folders(source) if source.is_dir() else []
    if not folders or any(folder.name.casefold() not in _PARTS for folder in folders):
        return {}
    if not any(_has_image(child) for folder in folders for child in subfolders(folder)):
        return {}
    return {folder.name: folder for folder in folders}


def read_image_folder(request: Request) -> Reading:
    """Reads an ImageFolder: `<class>/<image>`, or `train/<class>/<image>` beside `val/`.

    Args:
        request: What is wanted.

    Returns:
        One entry per image; its one tag is the folder's name.
    """
    parts = image_folder_parts(request.path)
    depth = 1 if parts else 0
    listing = scan(request.path, request.path, skip=_NOT_CLASSES)
    reading = Reading(request.path, listing)
    reading.add_link_faults()
    stray: list[str] = []
    for sample_id, images in listing.images.items():
        folders = sample_id.split("/")[:-1]
        if len(folders) <= depth:
            stray.append(sample_id)
            continue
        name = folders[depth]
        if name != name.strip():
            reading.fault(
                "tag_blanks",
                images[0].parent,
                f"blanks around the folder's name {name!r}",
                "rename the folder",
                sample_id,
            )
        reading.entries += [
            Entry(id=sample_id, image=image, names=(name.strip(),), file=image.parent)
            for image in images
        ]
    if request.part is not None:
        inside = f"{request.part.name}/"
        reading.wanted = frozenset(e.id for e in reading.entries if e.id.startswith(inside))
    if stray:
        reading.note(
            "image_unnamed",
            request.path,
            f"{len(stray)} image{'s' * (len(stray) != 1)} outside of the class folders, left out",
            "move them into the folder of their class",
        )
    return reading


def _class_folders(source: Path) -> list[Path]:
    return [
        folder
        for folder in subfolders(source)
        if folder.name.casefold() not in _NOT_CLASSES and folder.name != "__MACOSX"
    ]


def _has_image(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
