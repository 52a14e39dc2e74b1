"""How walked maps become masks where classes of an image compete with each other and with the background.

    python benchmarks/competition.py RUN [RUN …]

RUN: finished, with truth. The maps of every image that has tags are walked along the run's own boundaries, and with them a map of the
background, 1 − the highest of them. Masks are made of them in several ways (`WAYS`), each above one half, and scored by
the truth: images with one tag, with several, and all. Nothing is chosen by that here. Writes `competition.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from weakseg.data.truth import true_mask
from weakseg.metrics.confusion import ConfusionMatrix, mean_iou
from weakseg.ops.cams import label_map, upsampled
from weakseg.ops.walk import random_walk
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps, chosen_map, map_stage
from weakseg.runs.run_dir import RunDir
from weakseg.stages.evidence import evidence_strengths

ROOT = Path(__file__).parents[1]
HALF, TINY = 0.5, 1e-6
GROUPS = ("one tag", "several tags", "all")


def by_highest(walked, background):
    return walked / walked.max().clamp_min(TINY)


def by_own_highest(walked, background):
    return walked / walked.amax(dim=(1, 2), keepdim=True).clamp_min(TINY)


def shares(walked, background):
    return walked / (walked.sum(dim=0) + background).clamp_min(TINY)


def between(walked, background):
    return (by_highest(walked, background) * shares(walked, background)).sqrt()


WAYS = {
    "of the image's highest value (published)": by_highest,
    "each class of its own highest value": by_own_highest,
    "share of all, the background's walked map among them": shares,
    "geometric mean of the first and the third (the default)": between,
}


def walked_with_background(context, sample, settled):
    """An image's classes [n], maps before and after the walk [n,h,w], the background's [h,w], and what does not walk [n,1,1]."""
    settings = context.config.walk
    stage = map_stage(context)
    kept = ImageMaps.load(context.run.path, stage, sample.id)
    boundary = ImageMaps.load(context.run.path, "walk", sample.id).boundary
    maps = chosen_map(context, stage, kept)
    if maps.shape[-2:] != boundary.shape:
        maps = upsampled(maps, tuple(boundary.shape)).clamp(0, 1)
    both = torch.cat([maps, 1 - maps.amax(dim=0, keepdim=True)]) ** settings.power
    walked = random_walk(
        both, boundary, radius=settings.radius, beta=settings.beta, steps=settings.steps
    )
    return kept.classes, maps, walked[:-1], walked[-1], settled[kept.classes][:, None, None]


def scored(path):
    """By way and group a confusion matrix."""
    context = StageContext.reading(RunDir(path))
    settled = (2 * evidence_strengths(context)).clamp(max=1)
    names = context.catalog.classes
    found = {way: {group: ConfusionMatrix(len(names)) for group in GROUPS} for way in WAYS}
    samples = [sample for sample in context.catalog if sample.tags and sample.has_truth]
    for sample in samples:
        classes, maps, walked, background, stays = walked_with_background(context, sample, settled)
        truth = torch.as_tensor(true_mask(sample, names))
        group = "one tag" if len(classes) == 1 else "several tags"
        for way, function in WAYS.items():
            parted = function(walked, background).clamp(0, 1) ** (1 - stays) * maps**stays
            mask = label_map(parted, classes, HALF, tuple(truth.shape))
            for each in (group, "all"):
                found[way][each].update(mask, truth)
    return found, len(samples)


def wrong(counts):
    """Shares of all pixels [true,found]: background taken for a class, a class for background."""
    total = counts.sum().clamp_min(1)
    return float(counts[0, 1:].sum() / total), float(counts[1:, 0].sum() / total)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    runs = [scored(path) for path in arguments.runs]
    rows = []
    for way in WAYS:
        cells = []
        for group in GROUPS:
            values = [100 * float(mean_iou(found[way][group].counts)) for found, _ in runs]
            listed = f" ({', '.join(f'{value:.1f}' for value in values)})" if len(runs) > 1 else ""
            cells.append(f"{sum(values) / len(values):.1f}{listed}")
        errors = torch.tensor([wrong(found[way]["all"].counts) for found, _ in runs]).mean(dim=0)
        cells += [f"{100 * value:.1f}%" for value in errors.tolist()]
        rows.append(f"| {way} | {' | '.join(cells)} |")
    text = "\n".join(
        [
            "# How classes compete in walked maps",
            "",
            f"`python benchmarks/competition.py RUN …`: mIoU of masks in percent, of {len(runs)} runs "
            f"({', '.join(str(count) for _, count in runs)} images): mean, and each run's; and how many of all pixels are "
            "background taken for a class (bleeding), and a class taken for background (missed).",
            "",
            f"| maps, parted at one half | {' | '.join(GROUPS)} | bleeding | missed |",
            "| --- |" + " --- |" * (len(GROUPS) + 2),
            *rows,
            "",
        ]
    )
    (arguments.out / "competition.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
