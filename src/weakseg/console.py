"""Tables of what was found and done, for a terminal of 80 columns or a pipe."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weakseg.progress import clock_text
from weakseg.runs.terminal_tables import map_table, oracle_and_blind

if TYPE_CHECKING:
    from weakseg.api import DemoSummary
    from weakseg.apps.label import LabelSummary
    from weakseg.apps.status import RunStatus
    from weakseg.faults import Fault
    from weakseg.pipeline import PipelineSummary
    from weakseg.runs.stage_progress import StageProgress
    from weakseg.sources.check import CheckReport
    from weakseg.sources.fingerprint import Fingerprint, Spread

_COMPANIONS = 3


def show_report(report: CheckReport, console: Console) -> None:
    """Prints what `check` found: what the images are like, then notes and faults."""
    fingerprint = report.fingerprint
    split = f", split {report.split}" if report.split else ""
    _line(
        console,
        f"{report.source} ({report.kind}{split}): {_count(fingerprint.images, 'image')}, "
        f"{fingerprint.readable} readable, {fingerprint.untagged} without tags, "
        f"{fingerprint.masks} with a true mask, "
        f"{_count(len(fingerprint.classes), 'class', 'classes')}",
    )
    if fingerprint.classes:
        console.print(_class_table(fingerprint))
    if fingerprint.readable:
        console.print(_size_table(fingerprint))
        kinds = [*_numbered(fingerprint.formats), *_numbered(fingerprint.modes)]
        turned = f"; {fingerprint.rotated} turned by EXIF" if fingerprint.rotated else ""
        _line(console, f"formats: {', '.join(kinds)}{turned}")
    show_faults(report, console)


def show_faults(report: CheckReport, console: Console) -> None:
    """Prints notes and faults, by kind, and how many there are."""
    _show_faults("note", report.notes, report.source, console)
    _show_faults("fault", report.faults, report.source, console)
    faults = _count(len(report.faults), "fault") if report.faults else "no faults"
    _line(console, f"{report.source}: {faults}, {_count(len(report.notes), 'note')}")


def _class_table(fingerprint: Fingerprint) -> Table:
    table = Table(title="Images per class", title_justify="left")
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    table.add_column("share", justify="right")
    table.add_column("most often together with", overflow="fold")
    for k, name in enumerate(fingerprint.classes):
        row = fingerprint.cooccurrence[k]
        others = sorted((i for i in range(len(row)) if i != k and row[i]), key=lambda i: -row[i])
        company = ", ".join(f"{fingerprint.classes[i]} {row[i]}" for i in others[:_COMPANIONS])
        share = f"{100 * row[k] / max(1, fingerprint.images):.1f} %"
        table.add_row(Text(name), str(row[k]), share, Text(company))
    return table


def _size_table(fingerprint: Fingerprint) -> Table:
    table = Table(title="Sizes", title_justify="left")
    table.add_column("")
    for heading in ("smallest", "median", "largest"):
        table.add_column(heading, justify="right")
    rows: Mapping[str, Spread] = {
        "width (pixels)": fingerprint.width,
        "height (pixels)": fingerprint.height,
        "long side / short side": fingerprint.aspect,
        "megapixels": fingerprint.megapixels,
        "tags per image": fingerprint.tags_per_image,
    }
    for name, spread in rows.items():
        values = (spread.smallest, spread.median, spread.largest)
        table.add_row(
            name, *(f"{value:.4g}" if value < 1000 else f"{value:.0f}" for value in values)
        )
    return table


def _show_faults(word: str, faults: Sequence[Fault], source: str, console: Console) -> None:
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    for kind, same in kinds.items():
        title = f"{kind.replace('_', ' ')}: {_count(len(same), word)}"
        table = Table(title=title, title_justify="left", show_lines=True, expand=False)
        table.add_column("where", overflow="fold", ratio=2)
        table.add_column("found, and how to fix it", overflow="fold", ratio=3)
        for fault in same:
            found = Text(f"{fault.found}\n").append(f"→ {fault.remedy}", style="bold")
            table.add_row(Text(_below(source, fault)), found)
        console.print(table)


def _below(source: str, fault: Fault) -> str:
    line = "" if fault.line is None else f":{fault.line}"
    try:
        relative = Path(fault.file).relative_to(source).as_posix()
    except ValueError:
        return f"{fault.file}{line}"
    return f"{source if relative == '.' else relative}{line}"


def show_summary(summary: PipelineSummary, console: Console) -> None:
    """Prints where the results are, how long they took, and scores not shown yet."""
    if not summary.stages:  # of a process that only assists another
        return
    shown_earlier = {stage.name for stage in summary.stages if stage.skipped}
    if "evaluate" in shown_earlier and (table := map_table(summary.metrics)) is not None:
        console.print(table)
    times = ", ".join(f"{stage.name} {stage.seconds:.0f} s" for stage in summary.stages)
    memory = ""
    if summary.peak_bytes is not None:
        child = (summary.peak_child_bytes or 0) / 2**30
        memory = f"; peak memory {summary.peak_bytes / 2**30:.2f} GiB"
        memory += f" and {child:.2f} GiB in a reading process" if child >= 0.01 else ""
    _line(console, f"{times}; {summary.seconds:.0f} s now{memory}")
    names = {stage.name for stage in summary.stages}
    what = "masks" if "masks" in names else summary.stages[-1].name
    _line(console, f"{what}: {summary.run / what}")
    if "segment" in names:
        _line(console, f"network: {summary.run / 'segment' / 'model'}")
    if (page := summary.run / "report.html").is_file():
        _line(console, f"report: {page}")


def show_status(status: RunStatus, console: Console) -> None:
    """Prints where a run is."""
    split = f", split {status.split}" if status.split else ""
    left_out = f", {len(status.skipped)} left out as bad" if status.skipped else ""
    _line(
        console,
        f"{status.run}: {_count(status.images, 'image')} of {status.source}{split}{left_out}, "
        f"{_count(len(status.classes), 'class', 'classes')}",
    )
    table = Table()
    table.add_column("stage")
    table.add_column("state")
    table.add_column("time", justify="right")
    table.add_column("disk", justify="right")
    table.add_column("how far", overflow="fold")
    for stage in status.stages:
        seconds = "" if stage.seconds is None else clock_text(stage.seconds)
        disk = f"{stage.size / 1e6:.1f} MB" if stage.size else ""
        table.add_row(stage.name, stage.state, seconds, disk, _how_far(stage.progress, status.at))
    console.print(table)
    size, free = sum(stage.size for stage in status.stages) / 1e6, status.free / 1e9
    _line(console, f"in all {clock_text(status.seconds)} and {size:.1f} MB; {free:.1f} GB are free")
    next_stage = f"next: {status.next}" if status.next else "nothing is left to do"
    at_work = f"{status.worker} works on it" if status.worker else "nobody works on it"
    _line(console, f"{next_stage}; {at_work}")
    for text in status.wrong:
        _line(console, f"wrong: {text}")


def _how_far(progress: StageProgress | None, now: float) -> str:
    if progress is None:
        return ""
    left = progress.seconds_left
    rest = "" if left is None else f", {clock_text(left)} left"
    ago = f", {clock_text(max(0.0, now - progress.at))} ago"
    return f"{progress.label}: {progress.done} of {progress.total} {progress.unit}{rest}{ago}"


def show_labels(summary: LabelSummary, console: Console) -> None:
    """Prints where the masks are, and which images could not be read."""
    _show_faults("bad image", summary.bad, "", console)
    bad = f"; {_count(len(summary.bad), 'bad image')} left out" if summary.bad else ""
    kept = f", {summary.kept} there already" if summary.kept else ""
    _line(
        console,
        f"{_count(summary.made, 'mask')} in {summary.seconds:.0f} s{kept}{bad}: {summary.out}",
    )


def show_demo(demo: DemoSummary, console: Console) -> None:
    """Prints the plain CAM network's scores beside AMR's, and where to look and what to try."""
    table = Table(title="mIoU in percent, all images of the demo", title_justify="left")
    table.add_column("")
    for heading in ("oracle", "blind"):
        table.add_column(heading, justify="right")
    for name, points in (demo.amr.metrics.get("maps") or {}).items():
        label = "plain CAM (spotlight)" if name == "spotlight" else f"AMR, {name}"
        table.add_row(label, *oracle_and_blind(points))
    console.print(table)
    _line(console, f"{demo.seconds:.0f} s in all; pictures to look at: {demo.picture}")
    _line(console, f"masks: {demo.amr.run / 'masks'}")
    _line(console, f"report: {demo.amr.run / 'report.html'}")
    command = f"weakseg label {shlex.quote(str(demo.amr.run))} PHOTO.jpg --out labels"
    _line(console, f"its network, which knows these creatures alone, on a photo: {command}")


def _numbered(counts: Mapping[str, int]) -> list[str]:
    return [f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])]


def _count(number: int, word: str, words: str | None = None) -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
