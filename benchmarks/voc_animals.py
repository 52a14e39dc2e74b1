"""Seeds and masks on voc-animals: AMR against a plain CAM network, both by `weakseg run`.

    python benchmarks/voc_animals.py --runs DIR [--data ../shared/data/voc-animals]

Each run is one command, given below the table; its output goes to DIR/<name>.log. A run that is
finished in DIR with its log is read, not made again. The runs learn from the tags of `train_aug`; the
true masks of `train` score them. Writes `voc_animals.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = {"plain": ["--set", "amr.compensation=false"], "amr": []}
STAGES = ("classify", "cams", "spread", "seeds", "relate", "walk", "masks", "evaluate")


def run(name, data, folder):
    """Make a run unless it is there; returns its folder and what it printed."""
    out, log = folder / name, folder / f"{name}.log"
    if not (log.is_file() and (out / "evaluate" / "done.json").is_file()):
        command = ["-m", "weakseg", "run", str(data), "--split", "train_aug", "--preset", "fast"]
        command += ["--until", "evaluate"]
        with log.open("w") as file:
            subprocess.run(
                [sys.executable, *command, "--out", str(out), *RUNS[name]],
                stdout=file,
                stderr=subprocess.STDOUT,
                check=True,
            )
    return out, log.read_text()


def scored_on_train(out, data):
    """The run's scores on `train`: every sample of train_aug with truth is one of train."""
    ids = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    metrics = json.loads((out / "evaluate" / "metrics.json").read_text())
    assert metrics["images"] == len(ids), "truth of other images than train's was scored"
    return metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    rows, classes, costs, thresholds = [], [], [], {}
    for name, extra in RUNS.items():
        out, log = run(name, arguments.data, arguments.runs)
        metrics = scored_on_train(out, arguments.data)
        names = metrics["classes"]
        for kind in metrics["maps"]:
            best, blind = (metrics["maps"][kind][k] for k in ("oracle", "blind"))
            label = f"AMR, {kind}"
            if name == "plain":
                label = f"plain CAM, {kind}".replace(", spotlight", "")
            rows.append(
                f"| {label} | {best['mean_iou']:.1%} @ {best['threshold']:.2f} | "
                f"{blind['mean_iou']:.1%} @ {blind['threshold']:.2f} | "
                f"{100 * (best['mean_iou'] - blind['mean_iou']):.1f} |"
            )
            classes.append(
                f"| {label} | " + " | ".join(f"{v:.0%}" for v in best["iou"].values()) + " |"
            )
        final = metrics["masks"]["mean_iou"]
        rows.append(f"| {label.partition(',')[0]}, the masks | | {final:.1%} | |")
        seconds = {
            stage: json.loads((out / stage / "done.json").read_text())["seconds"]
            for stage in STAGES
            if (out / stage / "done.json").is_file()
        }
        memory = max(re.findall(r"peak memory (.*)", log), default="–")
        costs.append(
            f"| {name} | "
            + " | ".join(f"{seconds[s] / 60:.1f}" if s in seconds else "" for s in STAGES)
            + f" | {sum(seconds.values()) / 60:.1f} | {memory} |"
        )
        thresholds[name] = extra
    flags = ", ".join(f"{name}: `{' '.join(extra)}`" for name, extra in thresholds.items() if extra)
    text = "\n".join(
        [
            "# voc-animals: 1,242 tagged photographs, scored on the 422 of `train`",
            "",
            "`weakseg run ../shared/data/voc-animals --split train_aug --preset fast --out RUN`, seed "
            f"0 ({flags}). Oracle: at the best background threshold by the truth. Blind: at the one "
            "weakseg chose from the maps alone.",
            "",
            "| mIoU of seeds | oracle @ threshold | blind @ threshold | gap, points |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"| IoU, oracle | {' | '.join(names)} |",
            "| --- |" + " --- |" * len(names),
            *classes,
            "",
            f"| minutes, 2 cores | {' | '.join(STAGES)} | all | peak memory |",
            "| --- |" + " --- |" * (len(STAGES) + 2),
            *costs,
            "",
        ]
    )
    (arguments.out / "voc_animals.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
