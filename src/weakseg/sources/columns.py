"""Which column of a table names the images, which holds the tags, and which are something else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from weakseg.sources.cells import yes_or_no
from weakseg.sources.reading import TableOptions

IMAGE_COLUMNS = (
    "image", "filename", "file", "filepath", "path", "imagepath", "imagename", "imagefile",
    "imagefilename", "img", "imgpath", "imgname", "photo", "picture", "imageid", "imgid",
    "imageurl", "url", "id",
)  # fmt: skip
"""Headers of the column that names the images, the likeliest first; without case and signs."""

TAGS_COLUMNS = (
    "tags", "tag", "labels", "label", "classes", "class", "classname", "classnames", "labelname",
    "labelnames", "categories", "category", "categoryname", "targets", "target", "species",
)  # fmt: skip
"""Headers of the column that holds the tags."""

SPLIT_COLUMNS = ("split", "subset", "set", "partition", "usage")
"""Headers of a column that names each row's split."""

LOOKED_AT = 1000
"""Rows that tell what a column holds."""


@dataclass(frozen=True)
class Columns:
    """Where the parts of a table are.

    Attributes:
        image: The column that names the images.
        tags: The column that holds the tags; None in a wide table.
        classes: In a wide table, the columns of 0 and 1 and the classes they stand for.
        split: The column that names each row's split, or None.
        confidence: A column of 0 and 1 that says whether a row's tag is there at all, or None.
        ignored: Headers of columns that say nothing of tags.
    """

    image: int
    tags: int | None = None
    classes: dict[int, str] = field(default_factory=dict)
    split: int | None = None
    confidence: int | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unclear:
    """Why a table's columns cannot be told.

    Attributes:
        found: What was found.
        remedy: What to do.
    """

    found: str
    remedy: str


def find_columns(  # noqa: PLR0911  each way of being unclear has its own words
    header: Sequence[str], rows: Sequence[Sequence[str]], options: TableOptions
) -> Columns | Unclear:
    """Tells the columns by the header, by what the cells hold, and by what the user says.

    Args:
        header: The cells of the first line.
        rows: Some rows of as many cells.
        options: What the user says.

    Returns:
        The columns, or why they cannot be told.
    """
    names = [squashed(name) for name in header]
    rows = rows[:LOOKED_AT]
    image = _named(header, options.image_column, "--image-column")
    if isinstance(image, Unclear):
        return image
    if image is None:
        image = _known(names, IMAGE_COLUMNS)
    if image is None:
        return Unclear(
            "no column is known to name the images",
            "call it 'image', or give --image-column (and --tags-column) with its header",
        )
    tags = _named(header, options.tags_column, "--tags-column")
    if isinstance(tags, Unclear):
        return tags
    said = tags is not None
    if tags is None:
        candidates = [i for i, name in enumerate(names) if name in TAGS_COLUMNS and i != image]
        if any(len({row[i].strip() for i in candidates}) > 1 for row in rows):
            listed = ", ".join(repr(header[i].strip()) for i in candidates)
            if not all(_is_flag(i, rows) for i in candidates):
                return Unclear(
                    f"each of the columns {listed} may hold the tags",
                    "give --tags-column with the header of the right one",
                )
        tags = _known(names, TAGS_COLUMNS, besides=image)
    others = [i for i in range(len(header)) if i not in (image, tags)]
    split = next((i for i in others if names[i] in SPLIT_COLUMNS), None)
    flags = [i for i in others if i != split and _is_flag(i, rows)]
    confidence = next((i for i in flags if names[i] == "confidence"), None)
    flags = [i for i in flags if i != confidence and not _is_index(i, names, rows)]
    wide = tags is None or (
        not said and bool(flags) and _is_flag(tags, rows)
    )  # a class may be called "label"
    if wide:
        flags = sorted({*flags, *([tags] if tags is not None else [])})
        if not flags:
            return Unclear(
                "there is no column 'tags', and none that holds only 0 and 1",
                "call the column of tags 'tags', or give --tags-column with its header",
            )
        rest = [i for i in others if i not in (*flags, split) and not _mixed(i, names, rows)]
        mixed = [i for i in others if i not in (*flags, split) and _mixed(i, names, rows)]
        classes = {i: header[i] for i in sorted([*flags, *mixed])}
        return Columns(image, None, classes, split, None, _headers(header, rest))
    assert tags is not None  # else the table is wide
    if not said and {c.strip() for c in _cells(tags, rows)} in ({"0", "1"}, {"0"}, {"1"}):
        return Unclear(
            f"the column {header[tags].strip()!r} holds only 0 and 1: two classes, or no and yes?",
            "call the column as the class is called, if 1 means that it is there; give "
            f"--tags-column {header[tags].strip()} if 0 and 1 are two classes",
        )
    rest = [i for i in others if i not in (split, confidence)]
    return Columns(image, tags, {}, split, confidence, _headers(header, rest))


def squashed(name: str) -> str:
    """A header without case, spaces and signs, for comparing."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _named(header: Sequence[str], wanted: str | None, option: str) -> int | Unclear | None:
    if wanted is None:
        return None
    places = [i for i, name in enumerate(header) if name.strip() == wanted.strip()]
    places = places or [i for i, n in enumerate(header) if squashed(n) == squashed(wanted)]
    if len(places) == 1:
        return places[0]
    listed = ", ".join(repr(name.strip()) for name in header)
    count = "no column" if not places else f"{len(places)} columns"
    return Unclear(f"{count} is called {wanted!r}", f"give {option} one of {listed}")


def _known(names: Sequence[str], known: Sequence[str], besides: int | None = None) -> int | None:
    for name in known:
        for place, other in enumerate(names):
            if other == name and place != besides:
                return place
    return None


def _cells(column: int, rows: Sequence[Sequence[str]]) -> list[str]:
    return [row[column] for row in rows if len(row) > column]


def _is_flag(column: int, rows: Sequence[Sequence[str]]) -> bool:
    cells = _cells(column, rows)
    return bool(cells) and all(yes_or_no(cell) is not None for cell in cells)


def _mixed(column: int, names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column of a wide table is of 0 and 1 in half of its rows at least."""
    if names[column] == "" or _is_index(column, names, rows):
        return False
    cells = _cells(column, rows)
    return 2 * sum(yes_or_no(cell) is not None for cell in cells) >= max(1, len(cells))


def _is_index(column: int, names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column only counts the rows, as pandas writes it."""
    if not re.fullmatch(r"|unnamed\d*|index", names[column]):
        return False
    cells = [cell.strip() for cell in _cells(column, rows)]
    return all(cell.isdecimal() for cell in cells) and len(set(cells)) == len(cells)


def _headers(header: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    return tuple(header[i].strip() or "(without a name)" for i in places)
