"""Kinds of data sets: what masks and models are worth on each, and what evidence against adds.

    python benchmarks/domains.py --runs DIR [--sets …] [--seeds 0 1 2] [--ways with bound …]

Of each set and seed a whole run (`weakseg run`, small images, one scale and its mirror image), first
without the stage `evidence` (`evidence.images=0`), then with it, as is the default; the bound is the same
network, learnt from true masks (`--truth-masks`). What is finished in DIR is read, not made again.
`surfaces` and the demo are drawn here; all thresholds are chosen without truth. Writes `domains.md`, and a picture of
eight images of each drawn set.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from PIL import Image

from surfaces import write_surfaces
from weakseg.apps.gallery import gallery
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
DRAWN = ("surfaces", "demo")
WAYS = {
    "without": ["--set", "evidence.images=0"],
    "with": [],
    "bound": ["--truth-masks"],
}


def source(name, folder):
    """Where a set is, drawn where it is not there."""
    if name in DRAWN:
        path = folder / f"{name}-data"
        if not path.is_dir():
            part = folder / f"{name}-part"
            shutil.rmtree(part, ignore_errors=True)
            write_surfaces(part) if name == "surfaces" else write_demo(part, count=240, seed=0)
            part.rename(path)
        return path
    return DATA / name


def measured(name, seed, ways, folder):
    """A set's figures of one seed, each way, kept in a file."""
    path = folder / f"{name}-{seed}.json"
    records = json.loads(path.read_text()) if path.is_file() else {}
    preset, *settings = SETS[name].split()
    for way in [way for way in WAYS if way in ways and way not in records]:
        out = folder / f"{name}-{seed}"
        command = [sys.executable, "-m", "weakseg", "run", str(source(name, folder))]
        command += ["--split", "train", "--val", "val", "--preset", preset, "--out", str(out)]
        for text in (*COMMON, *settings, f"seed={seed}"):
            command += ["--set", text]
        subprocess.run([*command, *WAYS[way], "--force"], check=True)
        records[way] = figures(out, way)
        path.write_text(json.dumps(records, indent=1))
        print(name, seed, way, records[way], flush=True)


def figures(out, way):
    """What a finished run is worth."""
    run = RunDir(out)
    found = {"val": 100 * run.stage("validate").summary["mean_iou"]}
    if way == "bound":
        return found
    scores = json.loads((out / "evaluate" / "metrics.json").read_text())
    found["masks"] = 100 * scores["masks"]["mean_iou"]
    found["maps"] = {
        kind: 100 * both["oracle"]["mean_iou"] for kind, both in scores["maps"].items()
    }
    found["classes"] = {k: 100 * v for k, v in scores["masks"]["iou"].items() if v is not None}
    found["minutes"] = (
        sum(json.loads(file.read_text())["seconds"] for file in out.glob("*/done.json")) / 60
    )
    judged = run.stage("verify").summary
    found["red"] = sum(v["severity"] == "red" for v in judged["verdicts"])
    if way == "with":
        evidence = run.stage("evidence").summary
        found["witnesses"] = evidence["witnesses"]
        found["strength"] = {name: own["strength"] for name, own in evidence["classes"].items()}
    return found


def picture(name, folder, out):
    """Writes eight images of a drawn set, as the first seed's run left them; returns the line for the table."""
    run = folder / f"{name}-0"
    if name not in DRAWN or not (run / "masks" / "done.json").is_file():
        return ""
    image = Image.open(io.BytesIO(gallery(run, rows=8)))
    image.thumbnail((1400, 1400), Image.Resampling.LANCZOS)
    image.save(out / f"domains_{name}.jpg", quality=82)
    return f"![{name}: eight images, their maps, masks and truth](domains_{name}.jpg)"


def spread(values):
    """Mean and range."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def main():
    """Measures what is missing, then writes the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--read-only", action="store_true", help="only write the table anew")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    for seed in [] if options.read_only else options.seeds:
        for name in options.sets:
            measured(name, seed, options.ways, options.runs)
    lines = [
        "# Kinds of data sets",
        "",
        __doc__.split("\n\n")[2].strip(),
        "",
        "mIoU in percent, mean over the seeds and range; *best of maps*: the best kind of maps parted "
        "at the best threshold by truth, which nobody has who has only tags; *strength*: how strongly "
        "maps were weighed by evidence, by class (first seed). Minutes are of all stages, on two CPU "
        "cores, partly beside other work.",
        "",
        "| set | evidence | seeds | best of maps | masks on `train` | network on `val` | its bound | "
        "red verdicts | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    details = []
    for name in SETS:
        records = [
            json.loads(path.read_text()) for path in sorted(options.runs.glob(f"{name}-?.json"))
        ]
        if not records:
            continue
        for way in ("without", "with"):
            rows = [record[way] for record in records if way in record]
            if not rows:
                continue
            cells = [
                spread([max(row["maps"].values()) for row in rows]),
                *(spread([row[key] for row in rows]) for key in ("masks", "val")),
                spread([r["bound"]["val"] for r in records if "bound" in r and way == "with"]),
                *(spread([row[key] for row in rows]) for key in ("red", "minutes")),
            ]
            lines.append(f"| {name} | {way} | {len(rows)} | {' | '.join(cells)} |")
        own = next((record["with"] for record in records if "with" in record), None)
        if own is None:
            continue
        classes = ", ".join(
            f"{k} {v:.0f}"
            + (f" (strength {own['strength'][k]:.2f})" if k in own["strength"] else "")
            for k, v in own["classes"].items()
        )
        details.append(f"- {name} (witnesses: {own['witnesses']}): {classes}")
    lines += ["", "IoU of masks by class, with evidence, first seed:", "", *details]
    pictures = [picture(name, options.runs, options.out) for name in SETS]
    lines += ["", *filter(None, pictures)]
    (options.out / "domains.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
