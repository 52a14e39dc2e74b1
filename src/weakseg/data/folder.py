"""Folders of images: with a tags file, or with one sub-folder per class (ImageFolder)."""

from __future__ import annotations

from pathlib import Path

from weakseg.data.decode import SUFFIXES
from weakseg.data.listing import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLIT_FOLDER,
    Listing,
    Missing,
    image_roots,
    scan,
    subfolders,
)
from weakseg.data.reading import Entry, Reading
from weakseg.data.tags import SUFFIXES as TAGS_SUFFIXES
from weakseg.data.tags import Row, read_tags
from weakseg.types import DataError

_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
_NOT_CLASSES = frozenset(
    name.casefold() for name in (*IMAGE_FOLDERS, *MASK_FOLDERS, SPLIT_FOLDER, "Annotations")
)


def tags_file(source: Path) -> Path | None:
    """The tags file of a source, or None.

    Args:
        source: A folder, or a tags file itself.

    Returns:
        The file `labels.csv`, `labels.tsv` or `labels.jsonl` of the folder, in any case.

    Raises:
        DataError: There are several.
    """
    if source.is_file():
        return source if source.suffix.lower() in TAGS_SUFFIXES else None
    known = [f"labels{suffix}" for suffix in TAGS_SUFFIXES]
    found = sorted(child for child in source.iterdir() if child.name.casefold() in known)
    if len(found) > 1:
        names = " and ".join(child.name for child in found)
        raise DataError(f"{source}: has {names}; name the one to read as the source")
    return found[0] if found else None


def read_tagged(source: Path, part: Path | None, only: frozenset[str] | None) -> Reading:
    """Reads a folder with a tags file, or the tags file itself.

    Args:
        source: The folder or the file.
        part: Not used: a tags file has no splits of its own.
        only: Not used: a tags file is read as a whole.

    Returns:
        One entry per row; images in the file's folder, or in `images/` or `JPEGImages/` below it,
        whichever has most of the images that are named.

    Raises:
        DataError: There is no tags file, or several.
    """
    path = tags_file(source)
    if path is None:
        raise DataError(
            f"{source}: there is no tags file; write labels.csv with the header 'image,tags'"
        )
    folder = path.parent
    file = read_tags(path)
    listing, found = _best_root(folder, file.rows)
    reading = Reading(folder, listing, names=file.columns, fatal=file.fatal)
    # A row's own faults speak of the image by its name in the file: make that an id.
    reading.faults = [
        fault.model_copy(
            update={"samples": tuple(listing.resolve(name)[0] for name in fault.samples)}
        )
        for fault in file.faults
    ]
    for row, (sample_id, image) in zip(file.rows, found, strict=True):
        missing = isinstance(image, Missing)
        if isinstance(image, Missing):
            reading.fault(image.kind, path, image.found, image.remedy, sample_id, line=row.line)
        reading.entries.append(
            Entry(
                id=sample_id,
                image=None if isinstance(image, Missing) else image,
                names=row.tags,
                file=path,
                line=row.line,
                usable=row.usable and not missing,
                cell=row.cell,
            )
        )
    reading.add_link_faults()
    if not reading.fatal:
        reading.note_unnamed(path)
    return reading


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


def read_image_folder(source: Path, part: Path | None, only: frozenset[str] | None) -> Reading:
    """Reads an ImageFolder: `<class>/<image>`, or `train/<class>/<image>` beside `val/`.

    Args:
        source: The folder.
        part: The only one of `image_folder_parts` that is wanted, or None for all.
        only: Not used: listing a folder is cheap.

    Returns:
        One entry per image; its one tag is the folder's name.
    """
    parts = image_folder_parts(source)
    depth = 1 if parts else 0
    listing = scan(source, source, skip=_NOT_CLASSES)
    reading = Reading(source, listing)
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
    if part is not None:
        inside = f"{part.name}/"
        reading.wanted = frozenset(e.id for e in reading.entries if e.id.startswith(inside))
    if stray:
        reading.note(
            "image_unnamed",
            source,
            f"{len(stray)} image{'s' * (len(stray) != 1)} outside of the class folders, left out",
            "move them into the folder of their class",
        )
    return reading


def _best_root(folder: Path, rows: list[Row]) -> tuple[Listing, list[tuple[str, Path | Missing]]]:
    """The image folder where most rows find their image, and what they find."""
    best: tuple[int, Listing] | None = None
    for root in image_roots(folder):
        listing = scan(root, folder)
        hits = sum(listing.has(row.image) for row in rows)
        if best is None or hits > best[0] or (hits == best[0] == 0 and not best[1].images):
            best = (hits, listing)
    assert best is not None  # the folder itself is always a candidate
    listing = best[1]
    return listing, [listing.resolve(row.image) for row in rows]


def _class_folders(source: Path) -> list[Path]:
    return [
        folder
        for folder in subfolders(source)
        if folder.name.casefold() not in _NOT_CLASSES and folder.name != "__MACOSX"
    ]


def _has_image(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
