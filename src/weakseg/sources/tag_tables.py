"""Tags files: CSV, TSV, wide 0/1 tables and JSON lines, read row by row with every fault."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.faults import Fault, FaultKind, listed
from weakseg.sources.stray_blanks import stray
from weakseg.sources.text import Text, not_utf8, read_text

SUFFIXES = (".csv", ".tsv", ".jsonl")

IMAGE_COLUMNS = ("image", "file", "filename", "file_name", "path")
TAGS_COLUMNS = ("tags", "tag", "labels", "label", "classes", "class")

_ROW = "write one line per image: its name, a comma, its tags separated by blanks, ';' or '|'"
_HEADER = "write 'image,tags' as the first line, or 'image,' and the class names of a 0/1 table"


@dataclass(frozen=True)
class Row:
    """One line of a tags file.

    Attributes:
        line: Its number, from 1.
        image: What it names the image.
        tags: The tags, stripped, each once.
        cell: The tags as they are written, where they are one text; else None.
        usable: Whether its tags are beyond doubt.
    """

    line: int
    image: str
    tags: tuple[str, ...]
    cell: str | None = None
    usable: bool = True


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

    def stop(self, line: int | None, found: str, remedy: str) -> None:
        """Adds a fault that leaves nothing to read."""
        self.fatal.append(
            Fault(kind="tags_file", file=str(self.path), line=line, found=found, remedy=remedy)
        )


def split_tags(cell: str) -> tuple[str, ...]:
    """The tags of a cell: split at `;` and `|` where it has any, else at blanks; each once.

    Example:
        >>> split_tags("cat dog"), split_tags("traffic light; dog"), split_tags("traffic light;")
        (('cat', 'dog'), ('traffic light', 'dog'), ('traffic light',))
    """
    parts = re.split(r"[;|]", cell) if re.search(r"[;|]", cell) else cell.split()
    return _each_once(parts)


def read_tags(path: Path) -> TagsFile:
    """Reads a tags file of any of the known forms.

    The form is told by the suffix and the header: JSON lines `{"image": …, "tags": […]}`; a table
    `image,tags`; a wide table `image,cat,dog,…` of 0 and 1.

    Args:
        path: A file that ends in one of `SUFFIXES`.

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
        _read_json_lines(file, text)
    else:
        _read_table(file, text)
    if not file.fatal and not file.rows and not file.faults:
        file.stop(None, "no rows below the header", _ROW)
    return file


@dataclass(frozen=True)
class _Table:
    """Where the parts of a table are."""

    text: Text
    start: int  # the header's index in the lines
    delimiter: str
    header: list[str]
    image: int  # the column that names the images

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines below the header that are not blank, with their numbers."""
        for number, line in enumerate(self.text.lines[self.start + 1 :], start=self.start + 2):
            if line.strip():
                yield number, line

    def is_wide(self, tags: int) -> bool:
        """Whether a table with a column named like tags holds only 0 and 1 all the same."""
        rows = [_cells(line, self.delimiter) for _, line in self.lines()]
        cells = [row for row in rows if isinstance(row, list) and len(row) > max(self.image, tags)]
        return bool(cells) and all(
            cell.strip() in ("0", "1")
            for row in cells
            for i, cell in enumerate(row)
            if i != self.image
        )


def _read_table(file: TagsFile, text: Text) -> None:
    start = next(i for i, line in enumerate(text.lines) if line.strip())
    delimiter = _delimiter(text.lines[start], file.path.suffix.lower())
    header = _cells(text.lines[start], delimiter)
    header = header if isinstance(header, list) else []
    folded = [cell.strip().casefold() for cell in header]
    image = next((i for i, name in enumerate(folded) if name in IMAGE_COLUMNS), None)
    if image is None or len(header) < 2:
        file.stop(start + 1, f"the header is {text.lines[start].strip()[:80]!r}", _HEADER)
        return
    table = _Table(text, start, delimiter, header, image)
    tags = next((i for i, name in enumerate(folded) if name in TAGS_COLUMNS), None)
    if tags is None or (len(header) > 2 and table.is_wide(tags)):
        _read_wide(file, table)
        return
    doubled = [name for name in (folded[image], folded[tags]) if folded.count(name) > 1]
    if doubled:
        found = f"the header names {doubled[0]!r} twice"
        file.stop(start + 1, found, "remove or rename one of them")
        return
    for line, cells in _rows(file, table):
        sure = line not in text.unsure
        file.rows.append(Row(line, cells[image], split_tags(cells[tags]), cells[tags], sure))
    _report_blanks(file)


def _read_wide(file: TagsFile, table: _Table) -> None:
    header, line = table.header, table.start + 1
    columns = {i: _clean(cell) for i, cell in enumerate(header) if i != table.image}
    doubled = sorted(name for name, n in Counter(columns.values()).items() if n > 1)
    if doubled or "" in columns.values():
        found = f"names {listed(doubled)} twice" if any(doubled) else "has a column without a name"
        file.stop(line, f"the header {found}", "give each column the name of one class")
        return
    # A blank behind every comma is the header's style.
    before = Counter(cell[: len(cell) - len(cell.lstrip())] for cell in header[1:]).most_common(1)
    for i, name in columns.items():
        spelt = header[i].removeprefix(before[0][0]) if i else header[i]
        if spelt != spelt.strip():
            found = f"the column {header[i]!r} has blanks around its name"
            file.fault("tag_blanks", line, found, f"write {name!r}")
    file.columns = tuple(columns.values())
    kept, numbers = len(file.faults), False
    for number, cells in _rows(file, table):
        values = {name: cells[i].strip() for i, name in columns.items()}
        odd = [f"{name}={value}" for name, value in values.items() if value not in ("0", "1")]
        numbers |= len(odd) < len(values)
        if odd:
            found = f"cells other than 0 and 1: {listed(odd)}"
            remedy = "write 1 where the class is in the image, else 0"
            file.fault("row", number, found, remedy, cells[table.image].strip())
        tags = tuple(name for name, value in values.items() if value == "1")
        sure = not odd and number not in table.text.unsure
        file.rows.append(Row(number, cells[table.image], tags, usable=sure))
    if file.rows and not numbers:
        del file.faults[kept:]
        file.rows.clear()
        found = f"the header {table.delimiter.join(header).strip()[:80]!r} has no column 'tags'"
        file.stop(line, f"{found}, and the cells below it are not 0 or 1", _HEADER)


def _rows(file: TagsFile, table: _Table) -> list[tuple[int, list[str]]]:
    """The rows below the header that have the right number of columns; the others as faults."""
    rows: list[tuple[int, list[str]]] = []
    width, delimiter = len(table.header), table.delimiter
    for line, content in table.lines():
        cells = _cells(content, delimiter)
        if isinstance(cells, str):
            name = content.split(delimiter)[0].strip().strip('"')
            file.fault("row", line, cells, "close the quotes, or remove them", name)
            continue
        named = cells[table.image].strip() if table.image < len(cells) else ""
        if len(cells) != width:
            found = f"{len(cells)} column{'s' * (len(cells) != 1)} instead of {width}"
            if len(cells) < width:
                remedy = f"an image without tags still needs its comma: {named + delimiter!r}"
            else:
                remedy = "separate tags by blanks, ';' or '|', or put the cell into quotes"
            file.fault("row", line, found, remedy, *([named] if named else []))
        elif not named:
            file.fault("row", line, "no image is named", _ROW)
        else:
            rows.append((line, cells))
            if line in table.text.unsure:
                file.faults.append(not_utf8(file.path, line, named))
    return rows


def _read_json_lines(file: TagsFile, text: Text) -> None:
    for line, content in enumerate(text.lines, start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "not readable"
            file.fault("row", line, f"not JSON ({reason})", 'write {"image": "…", "tags": ["…"]}')
            continue
        row, found = _json_row(line, record)
        named = () if row is None else (row.image.strip(),)
        if found:
            file.fault("row", line, found, 'write {"image": "…", "tags": ["…"]}', *named)
        elif row is not None:
            raw = record[_json_key(record, TAGS_COLUMNS) or ""]
            spaced = [t for t in raw if t != t.strip()] if isinstance(raw, list) else []
            if spaced:
                file.fault(
                    "tag_blanks", line, f"blanks around {listed(spaced)}", "remove the blanks"
                )
            if line in text.unsure:
                file.faults.append(not_utf8(file.path, line, *named))
            file.rows.append(
                Row(line, row.image, row.tags, row.cell, usable=line not in text.unsure)
            )
    _report_blanks(file)


def _json_row(line: int, record: Any) -> tuple[Row | None, str]:
    """The row of one JSON record, and what is wrong with it (empty: nothing)."""
    if not isinstance(record, dict):
        return None, "not an object"
    key = _json_key(record, IMAGE_COLUMNS)
    image = record.get(key) if key else None
    if not isinstance(image, str) or not image.strip():
        return None, "no image is named"
    key = _json_key(record, TAGS_COLUMNS)
    if key is None:
        return Row(line, image, ()), "there are no tags (an image without tags needs 'tags': [])"
    tags = record[key]
    if isinstance(tags, str):
        return Row(line, image, split_tags(tags), tags), ""
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return Row(line, image, ()), f"{key!r} is neither a text nor a list of texts"
    return Row(line, image, _each_once(tags)), ""


def _json_key(record: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((key for key in record if key.casefold() in names), None)


def _report_blanks(file: TagsFile) -> None:
    """Reports stray blanks. The tags are read alike: such a row loses no sample."""
    rows = [row for row in file.rows if row.cell is not None]
    for position in stray([row.cell or "" for row in rows]):
        row = rows[position]
        file.fault(
            "tag_blanks",
            row.line,
            f"stray blanks in {row.cell!r}",
            "write the tags as on the other lines, without further blanks",
        )


def _delimiter(header: str, suffix: str) -> str:
    """The delimiter that makes a known header of this line: spreadsheets do not all use commas."""
    usual = "\t" if suffix == ".tsv" else ","
    for delimiter in (usual, ",", ";", "\t"):
        cells = _cells(header, delimiter)
        names = [cell.strip().casefold() for cell in cells] if isinstance(cells, list) else []
        if len(names) > 1 and not set(names).isdisjoint(IMAGE_COLUMNS):
            return delimiter
    return usual


def _cells(line: str, delimiter: str) -> list[str] | str:
    """The cells of one line, or what is wrong with it. Cells cannot go over several lines."""
    try:
        rows = list(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return "unclosed quotes"
        return f"broken quotes ({error})"
    return rows[0] if rows else []


def _clean(tag: str) -> str:
    return unicodedata.normalize("NFC", tag.strip())


def _each_once(tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag for tag in map(_clean, tags) if tag))
