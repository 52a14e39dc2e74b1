"""What every step from maps to masks adds, on voc-animals, from a plain CAM network and from AMR.

    python benchmarks/refinement.py --runs DIR [--data ../shared/data/voc-animals]

Reads the runs that `benchmarks/voc_animals.py --runs DIR` made. What the runs themselves do not hold
(a step left out, another refinement, a threshold chosen by the truth) is computed here for the 422
images of `train` with the runs' own stages. Writes `refinement.md` and, for a dozen images, a sheet of
photo, maps, seeds, boundary, mask and truth to DIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch

from weakseg.apps.gallery import gallery
from weakseg.config.run_config import load_config
from weakseg.data.images import read_mask
from weakseg.metrics.boundary_iou import BoundaryIoU, trimap_band
from weakseg.metrics.confusion import ConfusionMatrix, mean_iou
from weakseg.metrics.sweep import ThresholdSweep
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps, background_scores, chosen_map, map_stages
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.masks import masks
from weakseg.stages.spread import spread
from weakseg.types import IGNORE

ROOT = Path(__file__).parents[1]
ONLY = {
    "maps": ("spread.prototypes=false", "spread.spreading=false"),
    "+ prototypes": ("spread.spreading=false",),
    "+ spreading": ("spread.prototypes=false",),
}
REFINED = {"+ both, CRF": "crf", "+ both, PAMR": "pamr", "+ both, IRN, CRF": "irn+crf"}
BAND = 5


class Bench:
    """A run's results on the images with truth, with some settings changed."""

    def __init__(self, run: Path, scratch: Path) -> None:
        self.run, self.scratch = RunDir(run), scratch
        catalog = self.run.load_catalog()
        self.catalog = catalog.subset([s.id for s in catalog if s.mask is not None])

    def context(self, name, overrides):
        """A context on the run's settings with overrides; stages not in its folder are the run's."""
        config = load_config(file=self.run.path / "config.yaml", overrides=list(overrides))
        folder = RunDir(self.scratch / name)
        for stage in ("classify", "cams", "spread", "walk"):
            link = folder.path / stage
            if not link.exists() and not (stage == "spread" and config.spread != self.spread):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self.run.path / stage)
        return StageContext.silent(config, self.catalog, folder, StageDir(folder.path / "masks"))

    @property
    def spread(self):
        """The run's own settings of the stage."""
        return load_config(file=self.run.path / "config.yaml").spread

    def maps(self, name, overrides):
        """Oracle and blind mIoU of the last maps, and both thresholds."""
        context = self.context(name, overrides)
        if context.config.spread.active and not (context.run.path / "spread").exists():
            folder = StageDir(context.run.path / "spread")
            spread(StageContext.silent(context.config, self.catalog, context.run, folder))
        stage = map_stages(context)[-1]
        # The threshold is chosen from the images of `train` here, from all in a run.
        scores = background_scores(context, stage)
        kind = context.config.refine.maps
        title = "walk" if stage == "walk" else kind if stage == "cams" else f"{kind}, {stage}"
        blind = scores.get(title, next(iter(scores.values())))
        grid = torch.cat([torch.linspace(0, 1, 101), torch.tensor([blind])]).unique()
        sweep = ThresholdSweep(len(self.catalog.classes), grid)
        for sample in self.catalog:
            kept = ImageMaps.load(context.run.path, stage, sample.id)
            sweep.update(chosen_map(context, kept), kept.classes, read_mask(sample.mask))
        best = sweep.best()
        at = sweep.at(float(grid[(grid - blind).abs().argmin()]))
        return float(mean_iou(best.counts)), float(mean_iou(at.counts)), best.threshold, blind

    def masks(self, name, kind, threshold):
        """mIoU, mIoU in a band along the true contours and boundary IoU of refined masks."""
        overrides = [f"refine.kind={kind}", f"refine.threshold={threshold}"]
        context = self.context(name, overrides)
        folder = context.dir.path
        shutil.rmtree(folder, ignore_errors=True)
        masks(context)
        classes = len(self.catalog.classes)
        whole, near, edge = ConfusionMatrix(classes), ConfusionMatrix(classes), BoundaryIoU(classes)
        for sample in self.catalog:
            mask, truth = read_mask(folder / f"{sample.id}.png"), read_mask(sample.mask)
            whole.update(mask, truth)
            band = truth.clone()
            band[~trimap_band(truth, BAND)] = IGNORE
            near.update(mask, band)
            edge.update(mask, truth)
        return (
            float(mean_iou(whole.counts)),
            float(mean_iou(near.counts)),
            float(edge.mean()),
        )


def rows_of(title, run, scratch):
    bench = Bench(run, scratch)
    found = {}
    for name, overrides in ONLY.items():
        found[name] = bench.maps(f"{title}{name}", (*overrides, "refine.kind=none"))
    found["+ both"] = bench.maps(f"{title}both", ("refine.kind=none",))
    found["+ both, IRN"] = bench.maps(f"{title}irn", ("refine.kind=irn",))
    rows = []
    for name, (oracle, blind, best, chosen) in found.items():
        rows.append((name, oracle, blind, best, chosen, *edges(bench, name, title, chosen)))
    for name, kind in REFINED.items():
        _, _, best, chosen = found["+ both, IRN" if "irn" in kind else "+ both"]
        at_best = bench.masks(f"{title}refined", kind, best)
        at_chosen = bench.masks(f"{title}refined", kind, chosen)
        rows.append((name, at_best[0], at_chosen[0], best, chosen, *at_chosen[1:]))
    return rows


def edges(bench, name, title, chosen):
    """Scores near contours of the masks that need no refinement; of the two ends only."""
    kind = {"+ both": "none", "+ both, IRN": "irn"}.get(name)
    return bench.masks(f"{title}refined", kind, chosen)[1:] if kind else (None, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    runs = arguments.runs.resolve()
    lines = [
        "# From maps to masks on voc-animals",
        "",
        "`python benchmarks/refinement.py --runs DIR`: mIoU in percent on the 422 images of `train`, "
        "preset fast, seed 0. Oracle: the background threshold that is best for the maps by the "
        "truth; blind: the one weakseg chose without it. Refinements of masks (CRF, PAMR) are run at "
        f"both. Near contours: mIoU in a band of {BAND} pixels along the true contours, and boundary "
        "IoU, of the blind masks.",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for name, title in (("plain", "Plain CAM network"), ("amr", "AMR, weighted map")):
            if not (runs / name / "walk" / "done.json").is_file():
                continue
            lines += ["", f"| {title} | oracle | blind | gap | near contours | boundary IoU |"]
            lines += ["| --- | --- | --- | --- | --- | --- |"]
            for step, oracle, blind, best, chosen, band, edge in rows_of(
                name, runs / name, Path(scratch)
            ):
                near = " | ".join("" if v is None else f"{v:.1%}" for v in (band, edge))
                lines.append(
                    f"| {step} | {oracle:.1%} @ {best:.2f} | {blind:.1%} @ {chosen:.2f} | "
                    f"{100 * (oracle - blind):.1f} | {near} |"
                )
                print(lines[-1], flush=True)
            (runs / f"{name}.png").write_bytes(gallery(runs / name))
    lines += ["", "| minutes, all 1,242 images, 2 cores | " + " | ".join(STAGES) + " | sum |"]
    lines += ["| --- |" + " --- |" * (len(STAGES) + 1)]
    for name in ("plain", "amr"):
        if (runs / name / "walk" / "done.json").is_file():
            times = [
                json.loads((runs / name / stage / "done.json").read_text())["seconds"] / 60
                for stage in STAGES
            ]
            cells = " | ".join(f"{value:.1f}" for value in times)
            lines.append(f"| {name} | {cells} | {sum(times):.1f} |")
    text = "\n".join([*lines, ""])
    (arguments.out / "refinement.md").write_text(text, "utf-8")
    print(text)


STAGES = ("spread", "seeds", "relate", "walk", "masks")


if __name__ == "__main__":
    main()
