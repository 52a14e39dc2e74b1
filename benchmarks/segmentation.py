"""The segmentation network from tags against the same network trained on the truth, on voc-animals.

    python benchmarks/segmentation.py --runs DIR [--preset fast] [--without-bound]
                                      [--data ../shared/data/voc-animals]

The run from tags, DIR/<preset> (DIR/amr for `fast`: the run of `voc_animals.py` goes on), and the
bound, DIR/<preset>-bound, are made unless they are there:
`weakseg run DATA --split train_aug --val val --preset PRESET --out RUN`, and the same with
`--truth-masks`, whose stages before `segment` are those of the first. Both are scored on `val`, whose
images neither saw. Writes `segmentation_<preset>.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = ("segment", "validate", "report.html")


def run(data, preset, out, extra=()):
    """Make a run unless it is there; what it printed goes beside it."""
    if (out / "validate" / "done.json").is_file():
        return
    command = [sys.executable, "-m", "weakseg", "run", str(data), "--split", "train_aug"]
    command += ["--val", "val", "--preset", preset, "--out", str(out), *extra]
    with out.with_suffix(".log").open("a") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)


def done(out, stage):
    return json.loads((out / stage / "done.json").read_text())


def score(out):
    return json.loads((out / "validate" / "metrics.json").read_text())["mean_iou"]


def masks(out):
    """The maps' scores, at the best and at the chosen threshold, and the masks'."""
    metrics = json.loads((out / "evaluate" / "metrics.json").read_text())
    maps = (
        f"{kind} {found['oracle']['mean_iou']:.1%} / {found['blind']['mean_iou']:.1%}"
        for kind, found in metrics["maps"].items()
    )
    return f"{', '.join(maps)} (oracle / blind); masks {metrics['masks']['mean_iou']:.1%}"


def row(title, out):
    metrics = json.loads((out / "validate" / "metrics.json").read_text())
    segment = done(out, "segment")["summary"]
    agreement = segment["agreement"] or {}
    held = " / ".join(f"{agreement[k]:.1%}" for k in ("trained", "held_out") if k in agreement)
    ious = " | ".join(f"{value:.0%}" for value in metrics["iou"].values())
    cells = f"{segment['images']} | {segment['steps']} | {metrics['mean_iou']:.1%}"
    return f"| {title} | {cells} | {metrics['mean_boundary_iou']:.1%} | {held} | {ious} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--without-bound", action="store_true", help="the run from tags alone")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    preset = arguments.preset
    tags = arguments.runs / ("amr" if preset == "fast" else preset)
    bound = arguments.runs / f"{preset}-bound"
    run(arguments.data, preset, tags)
    rows, share = [row("tags", tags)], []
    if not arguments.without_bound:
        if not bound.exists():
            shutil.copytree(
                tags, bound, ignore=lambda folder, _: OWN if Path(folder) == tags else ()
            )
        run(arguments.data, preset, bound, ["--truth-masks"])
        rows.append(row("true masks", bound))
        share = ["", f"Share of the bound: **{score(tags) / score(bound):.3f}**."]
    names = json.loads((tags / "validate" / "metrics.json").read_text())["iou"]
    stages = [
        p.parent.name for p in sorted(tags.glob("*/done.json"), key=lambda p: p.stat().st_mtime)
    ]
    minutes = [done(tags, stage)["seconds"] / 60 for stage in stages]
    text = "\n".join(
        [
            f"# Segmentation network on voc-animals, preset {preset}",
            "",
            f"`python benchmarks/segmentation.py --runs DIR --preset {preset}{' --without-bound' if not share else ''}`, "
            "seed 0: learnt from the tags of `train_aug`"
            + (
                ", and, as the bound, from the true masks of `train` by the same network in as many "
                "steps"
                if share
                else ""
            )
            + "; scored on the 218 images of `val`, without tags. Agreement: mIoU of the network's "
            "labels with the masks it learns from, on images it learns from / never saw.",
            "",
            f"| learnt from | images | steps | mIoU | boundary IoU | agreement | {' | '.join(names)} |",
            "| --- |" + " --- |" * (5 + len(names)),
            *rows,
            *share,
            "",
            f"What the tags gave on the images of `train` with truth: {masks(tags)}.",
            "",
            f"| minutes from tags to model, 2 cores | {' | '.join(stages)} | all |",
            "| --- |" + " --- |" * (len(stages) + 1),
            f"| | {' | '.join(f'{value:.1f}' for value in minutes)} | {sum(minutes):.1f} |",
            "",
        ]
    )
    (arguments.out / f"segmentation_{preset}.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
