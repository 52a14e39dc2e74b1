"""Data sets as other tools export them: each read right, or refused with the remedy.

    python benchmarks/foreign.py            # every layout, a table in results/foreign.md
    python benchmarks/foreign.py --scale    # and `check` of 100,000 images and of 50,000 rows

Exit code 1 if anything is read wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from PIL import Image

import weakseg
from foreign_layouts import annotations, tables, tools
from foreign_layouts.parts import Layout, mask
from weakseg.data.truth import true_mask
from weakseg.types import WeaksegError

RESULTS = Path(__file__).parent / "results" / "foreign.md"
LAYOUTS: tuple[Layout, ...] = (
    *tables.LAYOUTS,
    *annotations.LAYOUTS,
    *tools.LAYOUTS,
)
RIGHT, REFUSED = "right", "refused, with the remedy"


@dataclass(frozen=True)
class Outcome:
    """What became of a layout.

    Attributes:
        kind: As what it was read.
        tags: Whether all tags are right; None where it is to be refused.
        truth: Whether all masks are right; None where there are none.
        verdict: In words; `RIGHT` or `REFUSED` if all is well.
        seconds: How long opening and checking took.
    """

    kind: str
    tags: bool | None
    truth: bool | None
    verdict: str
    seconds: float

    @property
    def well(self) -> bool:
        """Whether it was read right, or refused as it must be."""
        return self.verdict in (RIGHT, REFUSED)


def judge(layout: Layout, folder: Path) -> Outcome:
    """Builds a layout, reads it, and compares."""
    folder.mkdir(parents=True, exist_ok=True)
    source = layout.build(folder) or folder
    begun = time.perf_counter()
    try:
        report = weakseg.check(source, **layout.options)
        texts, kind = [str(fault) for fault in report.faults], report.kind
    except WeaksegError as error:
        report, texts, kind = None, [str(error)], "–"
    seconds = time.perf_counter() - begun
    small = {"tag_once", "few_images"}  # the sets are small on purpose
    serious = (
        [str(f) for f in report.faults if f.kind not in small] if report is not None else texts
    )
    if layout.tags is None:
        if not serious:
            return Outcome(kind, False, None, "WRONG, silently: it must be refused", seconds)
        told = any(layout.refused in text for text in serious)
        verdict = REFUSED if told else f"refused without the remedy: {serious[0]}"
        return Outcome(kind, None, None, verdict, seconds)
    if serious:
        return Outcome(kind, False, None, f"refused: {serious[0]}", seconds)
    assert report is not None
    options = {**layout.options}
    catalog = weakseg.open_catalog(source, **options)
    found = {s.id: {catalog.classes[t] for t in s.tags} for s in catalog}
    wanted = {key: set(tags) for key, tags in layout.tags.items()}
    classes = layout.classes or tuple(sorted({tag for tags in wanted.values() for tag in tags}))
    tags = found == wanted and sorted(catalog.classes) == sorted(classes)
    truth = None
    if layout.truth and tags:
        truth = all(
            np.array_equal(true_mask(s, catalog.classes), _expected(layout, s.id, catalog.classes))
            for s in catalog
        )
    elif any(s.has_truth for s in catalog) and layout.name != "truth of a turned photo":
        truth = False
    notes = [f"{note}" for note in report.notes]
    missing = [text for text in layout.notes if not any(text in note for note in notes)]
    if not tags:
        verdict = f"WRONG, silently: {found}, classes {catalog.classes}"
    elif truth is False:
        verdict = "WRONG, silently: truth"
    elif missing:
        verdict = f"right, but no note tells {missing[0]!r}"
    else:
        verdict = RIGHT
    return Outcome(kind, tags, truth, verdict, seconds)


def _expected(layout: Layout, key: str, classes: tuple[str, ...]) -> np.ndarray[Any, Any]:
    assert layout.tags is not None
    index = {name: k for k, name in enumerate(classes, start=1)}
    return mask(layout.tags[key], index)


def table(outcomes: list[tuple[Layout, Outcome]]) -> str:
    """The results as Markdown."""
    words = {True: "yes", False: "no", None: "–"}
    lines = ["| layout | read as | tags right | truth right | verdict | ms |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for layout, outcome in outcomes:
        name, verdict = (text.replace("|", "\\|") for text in (layout.name, outcome.verdict))
        lines.append(
            f"| {name} | {outcome.kind} | {words[outcome.tags]} | {words[outcome.truth]} | "
            f"{verdict} | {1000 * outcome.seconds:.0f} |"
        )
    return "\n".join(lines)


IMAGE_FOLDER = """
import sys, json, resource, time
import weakseg
begun = time.perf_counter()
report = weakseg.check(sys.argv[1])
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([report.fingerprint.readable, len(report.faults), seconds, peak]))
"""


def scale(folder: Path) -> list[str]:
    """`check` of many images and of a long table, each in a process of its own."""
    lines = []
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(buffer, "JPEG")
    data = buffer.getvalue()

    def write(path: Path, number: int) -> None:
        text = str(number).encode()
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        path.write_bytes(data[:2] + comment + data[2:])

    for k in range(20):
        (folder / "images" / f"class {k}").mkdir(parents=True)
    for number in range(100_000):
        write(folder / "images" / f"class {number % 20}" / f"{number}.jpg", number)
    (folder / "table").mkdir()
    rows = []
    for number in range(50_000):
        write(folder / "table" / f"{number}.jpg", number)
        rows.append(f"{number}.jpg,{'cat' if number % 2 else 'dog cow' if number % 3 else ''}")
    (folder / "table" / "labels.csv").write_text("image,tags\n" + "\n".join(rows) + "\n")
    for name, place in (("ImageFolder", "images"), ("CSV", "table")):
        out = subprocess.run(
            [sys.executable, "-c", IMAGE_FOLDER, str(folder / place)],
            check=True,
            capture_output=True,
            text=True,
        )
        count, faults, seconds, peak = json.loads(out.stdout)
        lines.append(
            f"| {name} | {count:,} | {faults} | {count / seconds:,.0f} | {seconds:.0f} | {peak:.2f} |"
        )
    return lines


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", action="store_true", help="also many images")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, layout in enumerate(LAYOUTS):
            outcomes.append((layout, judge(layout, Path(temporary) / str(number))))
        large = scale(Path(temporary) / "scale") if options.scale else []
    wrong = [(layout, outcome) for layout, outcome in outcomes if not outcome.well]
    text = [
        "# Data sets as other tools export them",
        "",
        "`python benchmarks/foreign.py --scale`: "
        f"{len(outcomes)} layouts, {len(outcomes) - len(wrong)} read right or refused with the "
        f"remedy, {len(wrong)} not.",
        "",
        table(outcomes),
    ]
    if large:
        text += ["", "`weakseg.check` of small JPEGs (32×32), two cores:", ""]
        text += ["| source | images | faults | images/s | seconds | most memory (GiB) |"]
        text += ["| --- | --- | --- | --- | --- | --- |", *large]
    options.out.write_text("\n".join(text) + "\n", encoding="utf-8")
    for layout, outcome in wrong:
        print(f"{layout.name}: {outcome.verdict}")
    print(text[2])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
