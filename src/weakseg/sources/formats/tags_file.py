"""A folder of images with a tags file."""

from __future__ import annotations

import json
from pathlib import Path

from weakseg.sources.columns import IMAGE_COLUMNS, TAGS_COLUMNS, Unclear, find_columns, squashed
from weakseg.sources.image_index import (
    Listing,
    Missing,
    image_roots,
    scan,
)
from weakseg.sources.reading import USUAL_TABLE, Entry, Reading, Request
from weakseg.sources.tag_tables import SUFFIXES as TAGS_SUFFIXES
from weakseg.sources.tag_tables import Row, cells_of, read_tags
from weakseg.sources.text import read_lines
from weakseg.types import DataError

_PEEK = 1 << 16
_LOOKED_AT = 200  # lines


def tags_file(source: Path) -> Path | None:
    """The tags file of a source, or None.

    Args:
        source: A folder, or a tags file itself.

    Returns:
        The file `labels.csv`, `labels.tsv` or `labels.jsonl` of the folder, in any case; else its
        only other table that names images and tags.

    Raises:
        DataError: There are several.
    """
    if source.is_file():
        return source if source.suffix.lower() in TAGS_SUFFIXES else None
    tables = [
        child
        for child in sorted(source.iterdir())
        if child.suffix.lower() in TAGS_SUFFIXES and not child.name.startswith(".")
    ]
    usual = [child for child in tables if child.stem.casefold() == "labels"]
    found = usual or [child for child in tables if child.is_file() and _names_images(child)]
    if len(found) > 1:
        names = " and ".join(child.name for child in found)
        raise DataError(f"{source}: has {names}; name the one to read as the source")
    return found[0] if found else None


def _names_images(table: Path) -> bool:
    """Whether a table names images and tags by headers that are known; reads its beginning."""
    try:
        with table.open("rb") as file:
            head = file.read(_PEEK)
    except OSError:
        return False
    lines = read_lines(head)[:_LOOKED_AT]
    if not lines:
        return False
    if table.suffix.lower() == ".jsonl":
        try:
            keys = {squashed(key) for key in json.loads(lines[0])}
        except (ValueError, TypeError, RecursionError):
            return False
        return not keys.isdisjoint(IMAGE_COLUMNS) and not keys.isdisjoint(TAGS_COLUMNS)
    rows = cells_of(lines, table.suffix)
    columns = find_columns(rows[0], rows[1:-1] or rows[1:], USUAL_TABLE)
    if isinstance(columns, Unclear):
        return columns.found.startswith(("each of", "the column"))
    return True


def read_tagged(request: Request) -> Reading:
    """Reads a folder with a tags file, or the tags file itself.

    Args:
        request: What is wanted.

    Returns:
        One entry per row; images in the file's folder, or in `images/` or `JPEGImages/` below it,
        whichever has most of the images that are named. A column `split` gives splits.

    Raises:
        DataError: There is no tags file, or several.
    """
    path = tags_file(request.path)
    if path is None:
        raise DataError(
            f"{request.path}: there is no tags file; write labels.csv with the header 'image,tags'"
        )
    folder = path.parent
    file = read_tags(path, request.table)
    listing = _best_root(folder, file.rows)
    reading = Reading(folder, listing, names=file.columns, fatal=file.fatal)
    # A row's own faults speak of the image by its name in the file: make that an id.
    reading.faults = [
        fault.model_copy(
            update={"samples": tuple(listing.resolve(name)[0] for name in fault.samples)}
        )
        for fault in file.faults
    ]
    splits: dict[str, set[str]] = {}
    file.rows.reverse()
    while file.rows:  # what is read is let go: there may be millions
        row = file.rows.pop()
        sample_id, image = listing.resolve(row.image)
        missing = isinstance(image, Missing)
        if isinstance(image, Missing):
            reading.fault(image.kind, path, image.found, image.remedy, sample_id, line=row.line)
        if row.split:
            splits.setdefault(row.split, set()).add(sample_id)
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
    reading.splits = {name: frozenset(ids) for name, ids in splits.items()}
    if request.path.is_dir() and path.stem.casefold() != "labels":
        reading.note(
            "tags_file", path, f"tags are read from {path.name!r}", "nothing has to be done"
        )
    reading.add_link_faults()
    if not reading.fatal:
        reading.note_unnamed(path)
    return reading


def _best_root(folder: Path, rows: list[Row]) -> Listing:
    """The image folder where most rows find their image."""
    best: tuple[int, Listing] | None = None
    for root in image_roots(folder):
        listing = scan(root, folder)
        hits = sum(listing.has(row.image) for row in rows)
        if best is None or hits > best[0] or (hits == best[0] == 0 and not best[1].images):
            best = (hits, listing)
        if hits == len(rows):  # no other has more
            break
    assert best is not None  # the folder itself is always a candidate
    return best[1]
