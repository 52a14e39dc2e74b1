"""Tags files: CSV, TSV, wide 0/1 tables and JSON lines, read row by row with every fault."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weakseg.faults import Fault, FaultKind, listed
from weakseg.sources.cells import clean, each_once, split_tags, yes_or_no
from weakseg.sources.columns import (
    IMAGE_COLUMNS,
    LOOKED_AT,
    SPLIT_COLUMNS,
    TAGS_COLUMNS,
    Columns,
    Unclear,
    find_columns,
    squashed,
)
from weakseg.sources.reading import USUAL_TABLE, TableOptions
from weakseg.sources.stray_spaces import stray
from weakseg.sources.text import Text, not_utf8, read_text

SUFFIXES = (".csv", ".tsv", ".jsonl")

_UNCLOSED = "unclosed quotes"
_LONGEST_CELL = 50  # lines
_LEAST_SHARE = 0.1  # images named several times, where a file has a row for each tag

_ROW = "write one line per image: its name, a comma, its tags separated by spaces, ';' or '|'"
_HEADER = "write 'image,tags' as the first line, or 'image,' and the class names of a 0/1 table"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a tags file.

    Attributes:
        line: Its number, from 1.
        image: What it names the image.
        tags: The tags, stripped, each once.
        cell: The tags as they are written, where they are one text; else None.
        usable: Whether its tags are beyond doubt.
        split: The split it names, or None.
    """

    line: int
    image: str
    tags: tuple[str, ...]
    cell: str | None = None
    usable: bool = True
    split: str | None = None


@dataclass
class TagsFile:
    """What a tags file says.

    Attributes:
        path: The file.
        rows: Its rows that name an image, in order.
        columns: Class names that the header of a wide table gives.
        faults: Faults and notes; those of a row have the row's image name as sample.
        fatal: Faults that leave nothing to read.
    """

    path: Path
    rows: list[Row] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    faults: list[Fault] = field(default_factory=list)
    fatal: list[Fault] = field(default_factory=list)

    def fault(
        self, kind: FaultKind, line: int | None, found: str, remedy: str, *samples: str
    ) -> Fault:
        """Makes a fault of this file and adds it to `faults`."""
        fault = Fault(
            kind=kind, file=str(self.path), line=line, found=found, remedy=remedy, samples=samples
        )
        self.faults.append(fault)
        return fault

    def note(
        self, line: int | None, found: str, remedy: str, kind: FaultKind = "tags_file"
    ) -> None:
        """Adds a note: what is unusual but read without doubt."""
        self.faults.append(
            Fault(
                kind=kind,
                file=str(self.path),
                line=line,
                found=found,
                remedy=remedy,
                severity="note",
            )
        )

    def stop(self, line: int | None, found: str, remedy: str) -> None:
        """Adds a fault that leaves nothing to read."""
        self.fatal.append(
            Fault(kind="tags_file", file=str(self.path), line=line, found=found, remedy=remedy)
        )


def read_tags(path: Path, options: TableOptions = USUAL_TABLE) -> TagsFile:
    """Reads a tags file of any of the known forms.

    The form is told by the suffix and the header: JSON lines `{"image": …, "tags": […]}`; a table
    `image,tags`; a wide table `image,cat,dog,…` of 0 and 1.

    Args:
        path: A file that ends in one of `SUFFIXES`.
        options: Columns and separator, where looking does not tell.

    Returns:
        Its rows and faults. Broken rows never hide the rows behind them.

    Raises:
        FileError: The file cannot be opened.
    """
    text = read_text(path)
    file = TagsFile(path, faults=list(text.faults))
    if not any(line.strip() for line in text.lines):
        file.stop(None, "the file is empty", "begin with the header 'image,tags'")
    elif path.suffix.lower() == ".jsonl":
        _read_json_lines(file, text, options)
    else:
        _read_table(file, text, options)
    if not file.fatal and not file.rows and not any(f.severity == "fault" for f in file.faults):
        file.stop(None, "no rows below the header", _ROW)
    return file


def _read_table(file: TagsFile, text: Text, options: TableOptions) -> None:
    start = next(i for i, line in enumerate(text.lines) if line.strip())
    delimiter = _delimiter(text.lines[start], file.path.suffix.lower(), options)
    header = _cells(text.lines[start], delimiter)
    header = header if isinstance(header, list) else []
    shown = f"the header is {text.lines[start].strip()[:80]!r}"
    if len(header) < 2:
        file.stop(start + 1, shown, _HEADER)
        return
    rows = _rows(file, text, start, delimiter, header)
    columns = find_columns(header, [cells for _, cells in rows[:LOOKED_AT]], options)
    if isinstance(columns, Unclear):
        file.stop(start + 1, f"{shown}: {columns.found}", columns.remedy)
        return
    if not _named_well(file, start + 1, header, columns):
        return
    if columns.ignored:
        listing = listed(list(columns.ignored))
        plural = "s" * (len(columns.ignored) != 1)
        file.note(start + 1, f"column{plural} passed over: {listing}", "nothing has to be done")
    if columns.tags is None:
        file.columns = tuple(clean(name) for name in columns.classes.values())
    rows.reverse()
    while rows:  # what is read is let go: there may be millions
        line, cells = rows.pop()
        row = _row(file, line, cells, columns, options)
        if row is not None:
            file.rows.append(row if line not in text.unsure else replace(row, usable=False))
            if line in text.unsure:
                file.faults.append(not_utf8(file.path, line, row.image))
    _merge(file, columns)
    _report_blanks(file)


def _named_well(file: TagsFile, line: int, header: list[str], columns: Columns) -> bool:
    """Whether the headers that matter are there once and bear names; tells if not."""
    used = [columns.image, *([] if columns.tags is None else [columns.tags]), *columns.classes]
    names = [clean(header[i]).casefold() for i in used]
    doubled = sorted(
        {header[i].strip() for i, name in zip(used, names, strict=True) if names.count(name) > 1}
    )
    everywhere = [clean(name).casefold() for name in header]
    if columns.tags is not None:
        doubled = [
            header[i].strip() for i in used if everywhere.count(clean(header[i]).casefold()) > 1
        ]
    if doubled or "" in names:
        found = f"names {listed(doubled[:1])} twice" if doubled else "has a column without a name"
        file.stop(line, f"the header {found}", "give each column the name of one class")
        return False
    # A blank behind every comma is the header's style.
    before = Counter(cell[: len(cell) - len(cell.lstrip())] for cell in header[1:]).most_common(1)
    for i in columns.classes:
        spelt = header[i].removeprefix(before[0][0]) if i else header[i]
        if spelt != clean(spelt):
            found = f"the column {header[i]!r} has stray spaces in its name, read as "
            file.note(line, found + repr(clean(header[i])), "nothing has to be done", "tag_blanks")
    return True


def _row(
    file: TagsFile, line: int, cells: list[str], columns: Columns, options: TableOptions
) -> Row | None:
    """One row's image, tags and split; what is wrong is told."""
    image = cells[columns.image].strip()
    if not image:
        file.fault("row", line, "no image is named", _ROW)
        return None
    split = cells[columns.split].strip() if columns.split is not None else None
    if columns.tags is not None:
        cell = cells[columns.tags]
        tags = split_tags(cell, options.separator)
        if columns.confidence is not None and yes_or_no(cells[columns.confidence]) is False:
            return Row(line, image, (), split=split)
        return Row(line, image, tags, cell if options.separator is None else None, split=split)
    said = {clean(name): yes_or_no(cells[i]) for i, name in columns.classes.items()}
    odd = [
        f"{clean(name)}={cells[i].strip()}"
        for i, name in columns.classes.items()
        if yes_or_no(cells[i]) is None
    ]
    if odd:
        found = f"cells other than 0 and 1: {listed(odd)}"
        remedy = "write 1 where the class is in the image, else 0"
        file.fault("row", line, found, remedy, image)
    return Row(line, image, tuple(n for n, yes in said.items() if yes), usable=not odd, split=split)


def _rows(
    file: TagsFile, text: Text, start: int, delimiter: str, header: list[str]
) -> list[tuple[int, list[str]]]:
    """The rows below the header that have the right number of columns; the others as faults."""
    rows: list[tuple[int, list[str]]] = []
    width, number = len(header), start + 1
    while number < len(text.lines):
        line, content = number + 1, text.lines[number]
        number += 1
        if not content.strip():
            continue
        cells = _cells(content, delimiter)
        if isinstance(cells, str) and cells == _UNCLOSED:
            # A cell may go over several lines, if that gives a row of the right width.
            for end in range(number, min(number + _LONGEST_CELL, len(text.lines))):
                joined = _cells("\n".join(text.lines[line - 1 : end + 1]), delimiter)
                if isinstance(joined, list):
                    if len(joined) == width:
                        cells, number = joined, end + 1
                    break
        if isinstance(cells, str):
            name = content.split(delimiter)[0].strip().strip('"')
            file.fault("row", line, cells, "close the quotes, or remove them", name)
        elif len(cells) != width:
            _tell_width(file, line, cells, width, delimiter)
        else:
            rows.append((line, cells))
    return rows


def _tell_width(file: TagsFile, line: int, cells: list[str], width: int, delimiter: str) -> None:
    named = cells[0].strip()
    found = f"{len(cells)} column{'s' * (len(cells) != 1)} instead of {width}"
    if len(cells) < width:
        remedy = f"an image without tags still needs its comma: {named + delimiter!r}"
    else:
        remedy = "separate tags by spaces, ';' or '|'"
    file.fault("row", line, found, remedy, *([named] if named else []))


def _merge(file: TagsFile, columns: Columns) -> None:
    """Brings together the rows of an image in a file that has a row for each tag."""
    if columns.tags is None or any(len(row.tags) > 1 for row in file.rows):
        return
    groups: dict[str, list[Row]] = {}
    for row in file.rows:
        groups.setdefault(row.image, []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    differ = any(len({row.tags for row in rows}) > 1 for rows in several)
    if len(several) < _LEAST_SHARE * len(groups) or not (differ or columns.ignored):
        return
    if columns.confidence is None and any(not row.tags for rows in several for row in rows):
        return
    merged = []
    for rows in groups.values():
        tags = tuple(dict.fromkeys(tag for row in rows for tag in row.tags))
        usable = all(row.usable for row in rows)
        cell = rows[0].cell if len(rows) == 1 else None
        merged.append(replace(rows[0], tags=tags, cell=cell, usable=usable))
    file.note(
        None,
        f"{len(file.rows)} rows name {len(groups)} images: read as one row for each tag",
        "nothing has to be done if that is right",
    )
    file.rows[:] = merged


def _read_json_lines(file: TagsFile, text: Text, options: TableOptions) -> None:
    spaced: list[int] = []
    for line, content in enumerate(text.lines, start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "not readable"
            file.fault("row", line, f"not JSON ({reason})", 'write {"image": "…", "tags": ["…"]}')
            continue
        row, found = _json_row(line, record, options)
        named = () if row is None else (row.image.strip(),)
        if found:
            file.fault("row", line, found, 'write {"image": "…", "tags": ["…"]}', *named)
        elif row is not None:
            spaced += [line] if _spaced(record) else []
            if line in text.unsure:
                file.faults.append(not_utf8(file.path, line, *named))
            file.rows.append(replace(row, usable=line not in text.unsure))
    if spaced:
        found = f"stray spaces around tags on {len(spaced)} lines, read as if they were not there"
        file.note(spaced[0], found, "nothing has to be done", "tag_blanks")
    _report_blanks(file)


def _json_row(line: int, record: Any, options: TableOptions) -> tuple[Row | None, str]:
    """The row of one JSON record, and what is wrong with it (empty: nothing)."""
    if not isinstance(record, dict):
        return None, "not an object"
    key = _json_key(record, IMAGE_COLUMNS, options.image_column)
    image = record.get(key) if key else None
    if not isinstance(image, str) or not image.strip():
        return None, "no image is named"
    split = next((v for k, v in record.items() if squashed(k) in SPLIT_COLUMNS), None)
    split = split if isinstance(split, str) else None
    key = _json_key(record, TAGS_COLUMNS, options.tags_column)
    if key is None:
        return Row(line, image, ()), "there are no tags (an image without tags needs 'tags': [])"
    tags = record[key]
    if isinstance(tags, str):
        return Row(line, image, split_tags(tags, options.separator), tags, split=split), ""
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return Row(line, image, ()), f"{key!r} is neither a text nor a list of texts"
    return Row(line, image, each_once(tags), split=split), ""


def _spaced(record: Any) -> bool:
    """Whether a JSON record has tags with stray spaces."""
    lists = [v for v in record.values() if isinstance(v, list)] if isinstance(record, dict) else []
    return any(isinstance(tag, str) and tag != clean(tag) for tags in lists for tag in tags)


def _json_key(record: dict[str, Any], names: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None:
        return wanted if wanted in record else None
    keys = {squashed(key): key for key in reversed(record)}
    return next((keys[name] for name in names if name in keys), None)


def _report_blanks(file: TagsFile) -> None:
    """Notes stray spaces: the tags are read alike."""
    rows = [row for row in file.rows if row.cell is not None]
    places = stray([row.cell or "" for row in rows])
    if places:
        first = rows[places[0]]
        file.note(
            first.line,
            f"stray spaces in {len(places)} cell{'s' * (len(places) != 1)}, read as if they were "
            f"not there: {first.cell!r}",
            "nothing has to be done",
            "tag_blanks",
        )


def _delimiter(header: str, suffix: str, options: TableOptions) -> str:
    """The delimiter that makes a known header of this line: spreadsheets do not all use commas."""
    usual = "\t" if suffix == ".tsv" else ","
    known = {*IMAGE_COLUMNS, squashed(options.image_column or "")} - {""}
    for delimiter in (usual, ",", ";", "\t", "|"):
        cells = _cells(header, delimiter)
        names = [squashed(cell) for cell in cells] if isinstance(cells, list) else []
        if len(names) > 1 and not known.isdisjoint(names):
            return delimiter
    return usual


def cells_of(lines: Sequence[str], suffix: str) -> list[list[str]]:
    """The cells of a table's first lines, header first; lines that cannot be read are left out."""
    delimiter = _delimiter(lines[0], suffix.lower(), USUAL_TABLE)
    rows = [_cells(line, delimiter) for line in lines]
    header = rows[0] if isinstance(rows[0], list) else []
    return [header, *(row for row in rows[1:] if isinstance(row, list) and len(row) == len(header))]


def _cells(line: str, delimiter: str) -> list[str] | str:
    """The cells of one line, or what is wrong with it. Cells cannot go over several lines."""
    try:
        rows = list(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return _UNCLOSED
        return f"broken quotes ({error})"
    return rows[0] if rows else []
