"""Kinds of data sets: what masks and models are worth on each, and what evidence against adds.

    python benchmarks/domains.py --runs DIR [--sets …] [--seeds 0 1 2]

Of each set and seed a whole run (`weakseg run`, small images, one scale and its mirror image), first
without the stage `evidence` (`evidence.images=0`), then with it. What is finished in DIR is read,
not made again. `surfaces` and the demo are drawn here; all thresholds are chosen without truth.
Writes `domains.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from surfaces import write_surfaces
from weakseg.demo_data.data_set import write_demo
from weakseg.runs.run_dir import RunDir

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
COMMON = ["cams.scales=[1.0]", "spread.scales=[1.0]"]
SETS = {
    "coffee-leaves": "fast augment.crop=224 augment.long_side=[256,448] cams.long_side=448 "
    "fit.epochs=12",
    "surfaces": "fast augment.crop=224 augment.long_side=[224,320] cams.long_side=320 fit.epochs=12",
    "demo": "demo",
    "voc-animals": "fast augment.crop=224 augment.long_side=[224,392] cams.long_side=384 "
    "fit.epochs=10",
}
WAYS = {"without": ["evidence.images=0"], "with": []}


def source(name, folder):
    """Where a set is, drawn where it is not there."""
    if name in ("surfaces", "demo"):
        path = folder / f"{name}-data"
        if not path.is_dir():
            part = folder / f"{name}-part"
            shutil.rmtree(part, ignore_errors=True)
            write_surfaces(part) if name == "surfaces" else write_demo(part, count=240, seed=0)
            part.rename(path)
        return path
    return DATA / name


def measured(name, seed, folder):
    """A set's figures of one seed, both ways, kept in a file."""
    path = folder / f"{name}-{seed}.json"
    if path.is_file():
        return
    preset, *settings = SETS[name].split()
    out, records = folder / f"{name}-{seed}", {}
    for way, added in WAYS.items():
        command = [sys.executable, "-m", "weakseg", "run", str(source(name, folder))]
        command += ["--split", "train", "--val", "val", "--preset", preset, "--out", str(out)]
        for text in (*COMMON, *settings, f"seed={seed}", *added):
            command += ["--set", text]
        subprocess.run([*command, "--force"], check=True)
        run = RunDir(out)
        scores = json.loads((out / "evaluate" / "metrics.json").read_text())["masks"]
        records[way] = {
            "masks": 100 * scores["mean_iou"],
            "classes": {k: 100 * v for k, v in scores["iou"].items() if v is not None},
            "val": 100 * run.stage("validate").summary["mean_iou"],
            "minutes": sum(
                json.loads(file.read_text())["seconds"] for file in out.glob("*/done.json")
            )
            / 60,
            "red": sum(v["severity"] == "red" for v in run.stage("verify").summary["verdicts"]),
        }
        if way == "with":
            found = run.stage("evidence").summary
            records[way]["witnesses"] = found["witnesses"]
            records[way]["strength"] = {
                name: own["strength"] for name, own in found["classes"].items()
            }
    path.write_text(json.dumps(records, indent=1))
    print(name, seed, records, flush=True)


def spread(values):
    """Mean and range."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def main():
    """Measures what is missing, then writes the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--read-only", action="store_true", help="only write the table anew")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    for seed in [] if options.read_only else options.seeds:
        for name in options.sets:
            measured(name, seed, options.runs)
    lines = [
        "# Kinds of data sets",
        "",
        __doc__.split("\n\n")[2].strip(),
        "",
        "mIoU in percent, mean over the seeds and range; *strength*: how strongly maps were weighed "
        "by evidence, by class (first seed). Minutes are of all stages, on two CPU cores, partly "
        "beside other work.",
        "",
        "| set | evidence | seeds | masks on `train` | network on `val` | red verdicts | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    details = []
    for name in SETS:
        records = [
            json.loads(path.read_text()) for path in sorted(options.runs.glob(f"{name}-?.json"))
        ]
        if not records:
            continue
        for way in WAYS:
            rows = [record[way] for record in records]
            cells = [spread([row[key] for row in rows]) for key in ("masks", "val")]
            red = spread([row["red"] for row in rows])
            minutes = spread([row["minutes"] for row in rows])
            lines.append(
                f"| {name} | {way} | {len(rows)} | {' | '.join(cells)} | {red} | {minutes} |"
            )
        own = records[0]["with"]
        classes = ", ".join(
            f"{k} {records[0]['without']['classes'][k]:.0f} → {v:.0f}"
            + (f" (strength {own['strength'][k]:.2f})" if k in own["strength"] else "")
            for k, v in own["classes"].items()
        )
        details.append(f"- {name} (witnesses: {own['witnesses']}): {classes}")
    lines += ["", "IoU of masks by class, without → with evidence, first seed:", "", *details]
    (options.out / "domains.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
