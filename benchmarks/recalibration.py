"""What recalibration is worth: the spotlight's maps against the compensation branch's and the weighted.

    python benchmarks/recalibration.py --runs DIR [--seeds 0 1 2] [--arms amr no-amm]

Each run is `weakseg run SOURCE --split … --preset fast --until evaluate`, with the settings that the
table names; its spotlight is the plain CAM network, so that one run has both. A run that is finished in
DIR is read, not made again; one that is not there is made. With `--read-only` what is not there is left
out and said. Writes `recalibration.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
SETS = {"voc-animals": "train_aug", "coffee-leaves": "train"}
ARMS = {
    "amr": [],
    "no-amm": ["--set", "amr.placement=none"],
    "paper-loss": ["--set", "amr.supervision=maps"],
}
KINDS = ("spotlight", "compensation", "weighted")


def metrics_of(name, arm, seed, folder, *, read_only):
    """The scores of a run, or None if it is not there and may not be made."""
    out = folder / f"{name}-{arm}-{seed}"
    if not (out / "evaluate" / "done.json").is_file():
        if read_only:
            return None
        command = ["-m", "weakseg", "run", str(DATA / name), "--split", SETS[name]]
        command += ["--preset", "fast", "--until", "evaluate", "--out", str(out), *ARMS[arm]]
        command += ["--set", f"seed={seed}", *(["--set", "refine.kind=none"] if seed else [])]
        subprocess.run([sys.executable, *command], check=True)
    return json.loads((out / "evaluate" / "metrics.json").read_text())


def figures(runs, kind):
    """Oracle and blind mIoU of a kind of map over the runs: mean, and the range if there are several."""
    cells = []
    for point in ("oracle", "blind"):
        values = [100 * run["maps"][kind][point]["mean_iou"] for run in runs]
        if not values:
            cells.append("")
            continue
        spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{spread}")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    lines = [
        "# What recalibration is worth",
        "",
        "`python benchmarks/recalibration.py --runs DIR`: mIoU in percent of maps, preset fast: mean "
        "over the seeds and, of several, the range. The spotlight is a plain CAM network. Oracle: the "
        "best background threshold by the truth; blind: the one weakseg chose without it. Walked maps "
        "and masks are of seed 0 alone.",
        "",
    ]
    missing = []
    for name in SETS:
        rows = []
        for arm in options.arms:
            found = {
                seed: metrics_of(name, arm, seed, options.runs, read_only=options.read_only)
                for seed in options.seeds
            }
            missing += [f"{name}, {arm}, seed {s}" for s, run in found.items() if run is None]
            runs = [run for run in found.values() if run is not None]
            if not runs:
                continue
            kinds = [*KINDS, *(f"{kind}, spread" for kind in KINDS), "walk"]
            for kind in kinds:
                own = [run for run in runs if kind in run["maps"]]
                seeds = ", ".join(str(s) for s, run in found.items() if run in own)
                cells = figures(own, kind)
                if any(cells):
                    rows.append(f"| {arm} | {seeds} | {kind} | {cells[0]} | {cells[1]} |")
            masks = 100 * runs[0]["masks"]["mean_iou"]
            rows.append(f"| {arm} | {options.seeds[0]} | the masks | | {masks:.1f} |")
        if rows:
            lines += [f"## {name}", "", "| arm | seeds | maps | oracle | blind |"]
            lines += ["| --- | --- | --- | --- | --- |", *rows, ""]
    if missing:
        lines += [f"Not measured: {'; '.join(missing)}.", ""]
    text = "\n".join(lines)
    (options.out / "recalibration.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
