"""Label Studio: exports as JSON, JSON-MIN, CSV and TSV, for images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.faults import listed
from weakseg.sources.annotation_files import Tally, best_listing, ends, few_files, load_json
from weakseg.sources.formats.label_studio_images import Finder, is_address, names_at
from weakseg.sources.formats.label_studio_results import all_names, take_results
from weakseg.sources.formats.label_studio_tables import (
    Record,
    is_table,
    minimal_records,
    table_records,
)
from weakseg.sources.image_index import Listing, find_folder
from weakseg.sources.marks import Marked, add_entries
from weakseg.sources.reading import Reading, Request, TableOptions
from weakseg.types import DataError

_EXPORT = "export the project from Label Studio as JSON"
_SUFFIXES = (".json", ".csv", ".tsv")
_USUAL = ("image", "img", "photo", "picture", "url", "file")


@dataclass
class _Task:
    """One image of an export and the annotation of it that counts.

    Attributes:
        file: The export.
        data: The task's data, one of which names the image.
        results: What was marked, as Label Studio has it, each with the control it is of.
        line: The line of the file, or None.
        disputed: Whether there are annotations with other tags.
    """

    file: Path
    data: dict[str, Any]
    results: list[dict[str, Any]]
    line: int | None = None
    disputed: bool = False


@dataclass
class _Export:
    """What an export holds."""

    tasks: list[_Task] = field(default_factory=list)
    unannotated: int = 0
    predicted: int = 0
    problem: str = ""
    remedy: str = _EXPORT
    from_table: bool = False


def label_studio_files(source: Path) -> list[Path]:
    """Exports of Label Studio: the source, or those in the folder or its `annotations`."""
    if source.is_file():
        return [source] if _looks_right(source) else []
    for folder in (source, find_folder(source, "annotations")):
        found = [path for path in few_files(folder, *_SUFFIXES) if _looks_right(path)]
        if found:
            return found
    return []


def read_label_studio(request: Request) -> Reading:
    """Reads an export of Label Studio.

    Tags are choices about the image and the labels of its regions. Polygons, brushes and ellipses
    are true pixels; an image with other regions (rectangles, key points) has tags only. An image is
    found by the end of its address, without the eight digits that an upload puts before its name.
    Of several annotations the one marked as ground truth counts, else the newest; cancelled ones
    and predictions never do. Sizes are those of the upright photo, as browsers show it.

    Args:
        request: What is wanted. `table` names the columns (or keys) of the image and of the tags
            where that cannot be decided from the images.

    Returns:
        One entry per annotated task.

    Raises:
        DataError: There is no export, or there are several.
    """
    files = label_studio_files(request.path)
    if not files:
        raise DataError(f"{request.path}: there is no export of Label Studio")
    folder = request.path if request.path.is_dir() else request.path.parent
    export = _read_all(files, request)
    key = "" if export.problem else _image_key(export, request)
    if export.problem:
        reading = Reading(folder, Listing(folder))
        reading.fault("annotation", files[0], export.problem, export.remedy)
        reading.fatal.append(reading.faults.pop())
        return reading
    addresses = [str(task.data.get(key) or "") for task in export.tasks]
    listing = best_listing(folder, [names_at(address) for address in addresses])
    reading = Reading(folder, listing)
    tally = Tally()
    found = Finder(listing)
    marked: list[Marked] = []
    controls: dict[str, set[str]] = {}
    ignored: dict[str, int] = {}
    for task, address in zip(export.tasks, addresses, strict=True):
        sample_id, images, missing = found(address)
        if missing is not None:
            tally.add(
                missing.kind, task.file, missing.found, missing.remedy, sample_id, line=task.line
            )
        item = Marked(task.file, sample_id, images, line=task.line)
        for problem in take_results(item, task.results, controls, ignored):
            tally.add("annotation", task.file, problem, _EXPORT, sample_id, line=task.line)
        marked.append(item)
    _notes(export, files[0], controls, ignored, tally)
    if export.from_table:
        _note_columns(export, files[0], key, tally)
    add_entries(reading, marked, tally)
    reading.faults += tally.faults()
    reading.add_link_faults()
    reading.note_unnamed(files[0])
    return reading


def _looks_right(path: Path) -> bool:
    if path.suffix.lower() in (".csv", ".tsv"):
        return is_table(path)
    if path.suffix.lower() != ".json":
        return False
    text = ends(path)
    begin = text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]

    def has(*words: str) -> bool:
        return any(f'"{word}"'.encode() in text for word in words)

    if begin == b"[":
        tasks = has("annotations", "completions", "predictions") and has("result", "data")
        return tasks or (has("annotation_id") and has("lead_time"))
    single = has("result") and has("completed_by", "was_cancelled", "lead_time")
    return begin == b"{" and single and not has("images")


def _read_all(files: Sequence[Path], request: Request) -> _Export:
    export = _Export()
    whole: list[Path] = []
    for path in files:
        if path.suffix.lower() == ".json":
            content, export.problem = load_json(path)
            if export.problem:
                return export
            many = isinstance(content, list)
            _take_json(export, path, content if many else [content], request.table)
        else:
            many = True
            _take_records(export, path, *table_records(path, request.table))
            export.from_table = True
        if many:
            whole.append(path)
    if len(files) > 1 and whole:
        names = ", ".join(path.name for path in files)
        raise DataError(
            f"{request.path}: holds several exports of Label Studio ({names}); name one of them"
        )
    if not export.tasks and not export.problem:
        export.problem = "holds no annotation" + (
            f", only predictions ({export.predicted} tasks)" if export.predicted else ""
        )
        export.remedy = "annotate the images in Label Studio and export the annotations as JSON"
    return export


def _take_json(export: _Export, path: Path, tasks: Iterable[Any], options: TableOptions) -> None:
    records: list[dict[str, Any]] = []
    for written in tasks:
        task = written
        if isinstance(task, dict) and isinstance(task.get("task"), dict):  # of a target storage
            task = {**task["task"], "annotations": [task]}
        if not isinstance(task, dict):
            export.problem = "not an export of Label Studio: a task is no object"
            return
        if not isinstance(task.get("data"), dict):
            records.append(task)
            continue
        annotations = task.get("annotations", task.get("completions"))
        annotations = annotations if isinstance(annotations, list) else []
        there = [each for each in annotations if isinstance(each, dict)]
        valid = [a for a in there if not (a.get("was_cancelled") or a.get("skipped"))]
        export.predicted += bool(task.get("predictions"))
        if not valid:
            export.unannotated += 1
            continue
        results = [_results(each, options) for each in valid]
        best = max(range(len(valid)), key=lambda k: _rank(valid[k], k))
        disputed = len({frozenset(all_names(each)) for each in results}) > 1
        export.tasks.append(_Task(path, task["data"], results[best], disputed=disputed))
    if records:
        _take_records(export, path, *minimal_records(records, options))


def _take_records(export: _Export, path: Path, records: list[Record], problem: str) -> None:
    if problem:
        export.problem = problem
        export.remedy = "name the columns by --image-column and --tags-column, or export as JSON"
        return
    groups: dict[str, list[Record]] = {}
    for number, record in enumerate(records):
        if not record.annotated:
            export.unannotated += 1
        else:
            groups.setdefault(record.task or f"#{number}", []).append(record)
    for same in groups.values():
        best = max(range(len(same)), key=lambda k: (same[k].updated, k))
        disputed = len({frozenset(all_names(record.results)) for record in same}) > 1
        chosen = same[best]
        export.tasks.append(_Task(path, chosen.data, chosen.results, chosen.line, disputed))


def _results(annotation: dict[str, Any], options: TableOptions) -> list[dict[str, Any]]:
    """What was marked; if the control of the tags was named, by that alone."""
    written = annotation.get("result")
    results = [r for r in written if isinstance(r, dict)] if isinstance(written, list) else []
    wanted = options.tags_column
    return [r for r in results if wanted is None or r.get("from_name") == wanted]


def _rank(annotation: dict[str, Any], place: int) -> tuple[bool, str, int]:
    time = annotation.get("updated_at") or annotation.get("created_at") or ""
    return bool(annotation.get("ground_truth")), str(time), place


def _image_key(export: _Export, request: Request) -> str:
    """Under which key a task's data names its image; sets the export's problem if unsure."""
    keys = dict.fromkeys(key for task in export.tasks for key in task.data)
    wanted = request.table.image_column
    if wanted is not None:
        if wanted not in keys:
            export.problem = f"no task has {wanted!r}; there are {listed(list(keys))}"
        return wanted
    likely = [key for key in keys if any(is_address(task.data.get(key)) for task in export.tasks)]
    usual = [key for key in _USUAL if key in (likely or keys)]
    if usual or len(likely) == 1:
        return (usual or likely)[0]
    export.problem = (
        f"several keys may name the image: {listed(likely)}"
        if likely
        else f"no key names an image; there are {listed(list(keys))}"
    )
    export.remedy = "name the key of the image by --image-column"
    return ""


def _note_columns(export: _Export, path: Path, key: str, tally: Tally) -> None:
    """Notes the columns of a table that may hold tags, but were not read."""
    columns = dict.fromkeys(name for task in export.tasks for name in task.data if name != key)
    if columns:
        tally.add(
            "annotation",
            path,
            f"columns taken for the task's own data, not for tags: {listed(list(columns))}",
            "name the right one by --tags-column if one of them holds the tags",
            severity="note",
        )


def _notes(
    export: _Export,
    path: Path,
    controls: dict[str, set[str]],
    ignored: dict[str, int],
    tally: Tally,
) -> None:
    def note(found: str, remedy: str) -> None:
        tally.add("annotation", path, found, remedy, severity="note")

    if export.unannotated:
        note(
            f"{export.unannotated} tasks are not annotated (or skipped), so left out",
            "annotate them if they are wanted",
        )
    disputed = sum(task.disputed for task in export.tasks)
    if disputed:
        note(
            f"{disputed} images have annotations with different tags: the one marked as ground "
            "truth is taken, else the newest",
            "leave one annotation of each image if that is not right",
        )
    if len(controls) > 1:
        named = "; ".join(f"{name}: {listed(sorted(tags), 3)}" for name, tags in controls.items())
        note(
            f"tags come from several controls ({named})",
            "name the right one by --tags-column if the others are no classes",
        )
    if ignored:
        kinds = ", ".join(f"{name} ({count})" for name, count in ignored.items())
        note(f"results that tell no class are not read: {kinds}", "nothing has to be done")
