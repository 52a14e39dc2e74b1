"""What the stage `evidence` makes of spread maps: their scores before and after, by run.

    python benchmarks/evidence.py RUN [RUN …] [--subsets a+b c]

RUN: finished up to `spread`, with truth. A subset keeps some of a run's classes: the images of the others have no
tag then, and show what is not meant, as a user's photographs of other things would. Writes `evidence.md`.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from weakseg.config.run_config import load_config
from weakseg.data.images import read_mask
from weakseg.metrics.sweep import ThresholdSweep
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.evidence import evidence
from weakseg.types import IGNORE, Catalog

ROOT = Path(__file__).parents[1]
HALF = 0.5


def kept(context, names, folder):
    """A copy of the run with these classes alone."""
    old = context.catalog
    indices = [old.classes.index(name) for name in names]
    samples = []
    for sample in old:
        maps = ImageMaps.load(context.run.path, "spread", sample.id)
        own = [place for place, k in enumerate(maps.classes.tolist()) if k in indices]
        classes = torch.tensor([indices.index(int(maps.classes[place])) for place in own]).long()
        part = {"spotlight": maps.maps["spotlight"][own]}
        ImageMaps(classes, maps.size, part).save(StageDir(folder / "spread"), sample.id)
        samples.append(replace(sample, tags=frozenset(classes.tolist())))
    return Catalog(tuple(names), tuple(samples)), indices


def truth_of(sample, indices):
    """The true mask, of these classes alone."""
    mask = read_mask(sample.mask)
    found = torch.where(mask == IGNORE, IGNORE, 0).to(torch.uint8)
    for place, k in enumerate(indices):
        found[mask == k + 1] = place + 1
    return found


def row(path, names):
    """A line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = StageContext.reading(RunDir(path))
        config = load_config("fast", overrides=["amr.compensation=false"])
        config = config.model_copy(
            update={"backbone": context.config.backbone, "cams": context.config.cams}
        )
        names = names or context.catalog.classes
        catalog, indices = kept(context, names, folder)
        run = RunDir(folder)
        stage = StageDir(folder / "evidence")
        context = StageContext(config, catalog, run, stage, Console(quiet=True))
        found = evidence(context)
        sweeps = {kind: ThresholdSweep(len(names), [HALF]) for kind in ("spotlight", "evidence")}
        for sample in catalog:
            truth = truth_of(sample, indices)
            for kind, sweep in sweeps.items():
                maps = ImageMaps.load(folder, "spread" if kind == "spotlight" else kind, sample.id)
                sweep.update(maps.maps[kind], maps.classes, truth)
    before, after = (100 * float(sweep.curve().mean_iou[0]) for sweep in sweeps.values())
    without = sum(not sample.tags for sample in catalog)
    strengths = [own["strength"] for own in found["classes"].values()]
    alone = sum(own["alone"] for own in found["classes"].values())
    return (
        f"| {path.name} | {', '.join(names)} | {without} of {len(catalog)} | "
        f"{min(strengths):.2f}–{max(strengths):.2f} | {alone} of {len(names)} | "
        f"{before:.1f} | {after:.1f} |"
    )


def main():
    """Measures every run, and every subset of the first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--subsets", nargs="*", default=[], help="of the first run's classes: a+b")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    lines = [
        "# Maps before and after evidence",
        "",
        "`python benchmarks/evidence.py RUN …`: mIoU in percent of the spotlight's spread maps and of what the stage "
        "`evidence` makes of them, both parted at one half, which needs no truth. *strength*: w, range over the "
        "classes; *alone*: classes of which surfaces alone say where they are. Where only some classes are named, "
        "images of the others have no tag: they show what is not meant.",
        "",
        "| run | classes | images without a tag | strength | alone | spread | evidence |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    jobs = [(path, None) for path in options.runs]
    jobs += [(options.runs[0], subset.split("+")) for subset in options.subsets]
    for path, names in jobs:
        lines.append(row(path, names))
        print(lines[-1], flush=True)
        (options.out / "evidence.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
