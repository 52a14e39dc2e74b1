"""What runs say of their own masks, beside what the truth says.

    python benchmarks/verdicts.py RUN [RUN …] [--out benchmarks/results]

RUN: finished up to `evaluate`, with truth; its stage `verify` is done again. Writes `verdicts.md`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.verify import verify

ROOT = Path(__file__).parents[1]


def rows(path):
    """A run's lines of the table, a class each."""
    context = StageContext.reading(RunDir(path))
    with tempfile.TemporaryDirectory() as folder:
        record = verify(replace(context, dir=StageDir(Path(folder)), console=Console(quiet=True)))
    scores = json.loads((path / "evaluate" / "metrics.json").read_text())["masks"]["iou"]
    for name, own in record["classes"].items():
        said = [v["severity"] for v in record["verdicts"] if v["about"] == name]
        told, surfaces, distinct = (
            "not known" if value is None else f"{value:.2f}"
            for value in (own["told"], own["surfaces_told"], own["distinct"])
        )
        yield (
            f"| {path.name} | {name} | {own['images']} | {own['guessed']:.2f} | {told} | {surfaces} "
            f"| {own['against']:.0%} | {own['against_outside']:.0%} | {distinct} "
            f"| {', '.join(said) or 'none'} "
            f"| {100 * scores[name]:.1f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    lines = [
        "# Verdicts",
        "",
        "`python benchmarks/verdicts.py RUN …`: what the stage `verify` finds without truth, and the masks' "
        "true IoU. *told*: average precision of the tag on images held out, by a linear classifier of the "
        "pretrained network's features; *surfaces*: the same by visual words alone; *guessing*: the share of images "
        "with the tag. *inside*, *outside*: share of the masks, and of the rest of the same images, whose surfaces "
        "are rather those of images without the tag. *distinct*: how well surfaces tell what masks cover from what "
        "they leave (area under the ROC curve). What no verdict tells: masks that hold a part of the thing "
        "only, bleeding into a background that has no tag, and anything of a class that few images show.",
        "",
        "| run | class | images | guessing | told | surfaces | inside | outside | distinct | verdict | IoU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in options.runs:
        lines += rows(path)
    (options.out / "verdicts.md").write_text("\n".join([*lines, ""]), "utf-8")


if __name__ == "__main__":
    main()
