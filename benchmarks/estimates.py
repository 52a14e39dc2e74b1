"""How well the quality of masks is estimated without truth: estimates against the truth, by run.

    python benchmarks/estimates.py RUN [RUN …]

RUN: finished up to `evaluate`, with truth (one made without the stage `evidence` counts as one where
surfaces tell nothing); runs of one data set have names that begin alike, up to the
first `-`. The stage `verify` is made anew for each, beside it. The curve from sureness to intersection
over union is fitted to all, and its error is that on data sets it was not fitted to, one left out at a
time. Writes `estimates.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from weakseg.data.images import read_mask
from weakseg.metrics.estimates import DEVIATION, LEVEL, SLOPE
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.verify import verify
from weakseg.types import IGNORE

ROOT = Path(__file__).parents[1]


def judged(path):
    """Rows of a run's classes, and the rank correlation of its images' estimates with the truth."""
    context = StageContext.reading(RunDir(path))
    truth = json.loads((path / "evaluate" / "metrics.json").read_text())["masks"]["iou"]
    classes = len(context.catalog.classes)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if not (path / "evidence" / "done.json").is_file():
            none = lambda *_: torch.zeros(classes)  # noqa: E731
            stack.enter_context(patch("weakseg.stages.verify.evidence_strengths", none))
        verify(replace(context, dir=StageDir(Path(folder))))
        found = json.loads((Path(folder) / "verify.json").read_text())
    red = {v["about"] for v in found["verdicts"] if v["severity"] == "red"}
    rows = [
        (path.name, name, own["sureness"], truth[name], name in red)
        for name, own in found["classes"].items()
        if own["images"] and truth.get(name) is not None
    ]
    by_image = [
        (found["estimates"][sample.id], image_iou(path, sample))
        for sample in context.catalog
        if sample.id in found["estimates"] and sample.mask is not None
    ]
    return rows, float(spearmanr(*zip(*by_image, strict=True)).statistic)


def image_iou(path, sample):
    """The mean intersection over union of an image's classes."""
    mask, truth = read_mask(image_file(path, "masks", sample.id, ".png")), read_mask(sample.mask)
    known = truth != IGNORE
    found = []
    for k in sample.tags:
        own, right = (mask == k + 1) & known, (truth == k + 1) & known
        found.append(float((own & right).sum() / (own | right).sum().clamp(min=1)))
    return statistics.mean(found)


def curve(sure, level, slope):
    inside = min(max(sure, 1e-4), 1 - 1e-4)
    return 1 / (1 + math.exp(-level - slope * math.log(inside / (1 - inside)))) if sure else 0.0


def fitted(rows):
    """Level and slope of least squared error, every data set counting alike."""
    count = {}
    for row in rows:
        count[data_set(row)] = count.get(data_set(row), 0) + 1

    def errors(values):
        return [(curve(row[2], *values) - row[3]) / math.sqrt(count[data_set(row)]) for row in rows]

    return least_squares(errors, (0.0, 1.0)).x


def data_set(row):
    return row[0].split("-")[0]


def main():
    """Judges every run, fits the curve, and says how far off it is elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    rows, images = [], {}
    for path in options.runs:
        own, images[path.name] = judged(path)
        rows += own
        print(path.name, own, round(images[path.name], 2), flush=True)
    passed = [row for row in rows if not row[4]]
    level, slope = fitted(passed)
    errors = []
    for left_out in sorted({data_set(row) for row in passed}):
        values = fitted([row for row in passed if data_set(row) != left_out])
        own = [curve(row[2], *values) - row[3] for row in passed if data_set(row) == left_out]
        errors.append((left_out, own))
    error = math.sqrt(statistics.mean(statistics.mean(e * e for e in own) for _, own in errors))
    rank = spearmanr([row[2] for row in passed], [row[3] for row in passed]).statistic
    lines = [
        "# Quality of masks, estimated without truth",
        "",
        "`python benchmarks/estimates.py RUN …`: *sureness* of each class's masks (`weakseg.metrics.estimates`), the "
        "intersection over union that is estimated from it, and the true one, in percent. Classes of a red verdict "
        "are shown and not fitted to.",
        "",
        f"Fitted to all: level {level:.2f}, slope {slope:.2f} (the program has {LEVEL:.2f} and {SLOPE:.2f}). Fitted to "
        f"all data sets but one and tried on that: root mean square error {100 * error:.0f} points (the program says "
        f"±{100 * DEVIATION:.0f}); "
        + ", ".join(f"{name} {100 * statistics.mean(own):+.0f} on the mean" for name, own in errors)
        + f". Rank correlation over the {len(passed)} classes: {rank:.2f}.",
        "",
        "| run | class | sureness | estimate | true IoU | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {run} | {name} | {sure:.2f} | {100 * curve(sure, level, slope):.0f} | {100 * iou:.0f} | {'red' * red} |"
            for run, name, sure, iou, red in rows
        ),
        "",
        "Rank correlation of the images' estimates with the mean IoU of their classes: "
        + ", ".join(f"{name} {value:.2f}" for name, value in images.items())
        + ".",
        "",
    ]
    (options.out / "estimates.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
