"""A folder of images with a tags file."""

from __future__ import annotations

from pathlib import Path

from weakseg.sources.image_index import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLIT_FOLDER,
    Listing,
    Missing,
    image_roots,
    scan,
)
from weakseg.sources.reading import Entry, Reading, Request
from weakseg.sources.tag_tables import SUFFIXES as TAGS_SUFFIXES
from weakseg.sources.tag_tables import Row, read_tags
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


def read_tagged(request: Request) -> Reading:
    """Reads a folder with a tags file, or the tags file itself.

    Args:
        request: What is wanted.

    Returns:
        One entry per row; images in the file's folder, or in `images/` or `JPEGImages/` below it,
        whichever has most of the images that are named.

    Raises:
        DataError: There is no tags file, or several.
    """
    path = tags_file(request.path)
    if path is None:
        raise DataError(
            f"{request.path}: there is no tags file; write labels.csv with the header 'image,tags'"
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
