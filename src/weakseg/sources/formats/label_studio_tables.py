"""Label Studio's flat exports: JSON-MIN, CSV and TSV, a row an annotation."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.faults import listed
from weakseg.sources.annotation_files import ends, long_cells
from weakseg.sources.reading import TableOptions

_META = frozenset(
    (
        *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"),
        *("agreement", "history", "completed_by", "was_cancelled", "ground_truth"),
        *("inner_id", "project"),
    )
)
_SIGNS = ("annotator", "lead_time", "created_at")
_TAG_COLUMNS = (
    *("choice", "choices", "label", "labels", "class", "classes", "tag", "tags"),
    *("category", "categories"),
)


@dataclass(frozen=True)
class Record:
    """One row.

    Attributes:
        data: The row's columns that are no results: one of them names the image.
        results: What was marked, as in Label Studio's full export.
        task: The task's id, or empty.
        updated: When the annotation was changed last.
        annotated: Whether there is an annotation.
        line: The line of the file, or None.
    """

    data: dict[str, Any]
    results: list[dict[str, Any]]
    task: str
    updated: str
    annotated: bool
    line: int | None = None


def is_table(path: Path) -> bool:
    """Whether a CSV or TSV file has the columns that Label Studio writes."""
    columns, _ = _header(path)
    return "annotation_id" in columns and any(sign in columns for sign in _SIGNS)


def table_records(path: Path, options: TableOptions) -> tuple[list[Record], str]:
    """The rows of a CSV or TSV export, and what is wrong with it (empty: nothing).

    Columns that hold regions or lists of choices hold tags, and those with a usual name; else the
    only column that is left.

    Args:
        path: The file.
        options: The columns, where they cannot be told by looking.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    columns, sign = _header(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, long_cells():
            reader = csv.DictReader(file, delimiter=sign)
            for row in reader:
                cells = {k: _value(v) for k, v in row.items() if isinstance(k, str)}
                rows.append((reader.line_num, cells))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        return [], f"cannot be read ({error})"
    free = [column for column in columns if column not in _META]
    controls = [column for column in free if any(_has_names(row.get(column)) for _, row in rows)]
    controls += [column for column in free if column in _TAG_COLUMNS and column not in controls]
    if options.tags_column is not None:
        if options.tags_column not in free:
            return [], f"there is no column {options.tags_column!r}; there are {listed(free)}"
        controls = [options.tags_column]
    if not controls:
        rest = [column for column in free if column not in ("image", options.image_column)]
        if len(rest) != 1:
            return [], f"several columns may hold the tags: {listed(rest)}"
        controls = rest
    return [_record(row, controls, line) for line, row in rows], ""


def minimal_records(
    rows: Sequence[dict[str, Any]], options: TableOptions
) -> tuple[list[Record], str]:
    """The rows of a JSON-MIN export, and what is wrong with it (empty: nothing).

    Results stand between `id` and `annotator`, the task's own data before.

    Args:
        rows: What the file holds.
        options: The key of the tags, where not all results are.
    """
    records = []
    for row in rows:
        if "annotation_id" not in row:
            return [], "not an export of Label Studio: a task without data"
        keys = list(row)
        begin = keys.index("id") + 1 if "id" in row else 0
        end = keys.index("annotator") if "annotator" in row else len(keys)
        between = [key for key in keys[begin:end] if key not in _META]
        controls = [key for key in between if "id" in row or _has_names(row[key])]
        if options.tags_column is not None:
            controls = [options.tags_column]
        records.append(_record(row, controls, None))
    return records, ""


def _record(row: dict[str, Any], controls: Sequence[str], line: int | None) -> Record:
    results = [result for name in controls for result in _results(name, row.get(name))]
    return Record(
        data={key: value for key, value in row.items() if key not in {*_META, *controls}},
        results=results,
        task=str(row.get("id") or ""),
        updated=str(row.get("updated_at") or row.get("created_at") or ""),
        annotated=row.get("annotation_id") not in (None, ""),
        line=line,
    )


def _results(control: str, value: Any) -> Iterator[dict[str, Any]]:
    """A control's cell as results of the full export."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, dict):
            size = {k: item[k] for k in ("original_width", "original_height") if k in item}
            yield {"from_name": control, "type": item.get("type"), "value": item, **size}
        elif item not in (None, ""):
            chosen = {"choices": [str(item)]}
            yield {"from_name": control, "type": "choices", "value": chosen}


def _has_names(value: Any) -> bool:
    """Whether a cell holds regions with labels, or several choices."""
    items = value if isinstance(value, list) else [value]
    return any(
        isinstance(item, dict) and any(key.endswith(("labels", "choices")) for key in item)
        for item in items
    )


def _value(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _header(path: Path) -> tuple[list[str], str]:
    """The names of the columns, and what separates them."""
    text = ends(path).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    first = text.splitlines()[0] if text.strip() else ""
    sign = max("\t,;", key=first.count)
    return next(csv.reader([first], delimiter=sign), []), sign
