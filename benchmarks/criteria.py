"""Which maps to trust, and where to part them, told without truth: criteria against the truth, by run.

    python benchmarks/criteria.py RUN [RUN …]

RUN: finished up to `masks`, with truth. Of every kind of maps that a run keeps, parted at three
thresholds, each criterion picks one; the truth says what that is worth beside the best of all, and
beside what the run itself takes: its last maps at their own threshold. Writes `criteria.md`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch.nn import functional

from weakseg.config.run_config import load_config
from weakseg.data.images import read_mask
from weakseg.metrics.estimates import STEP, MaskCounts, sureness
from weakseg.metrics.verdicts import WHOLE_IMAGE
from weakseg.ops.cams import upsampled
from weakseg.ops.evidence import (
    FOLDS,
    evidence_map,
    held_out,
    histograms_of,
)
from weakseg.ops.thresholds import parted_at_half
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import (
    ImageMaps,
    background_scores,
    chosen_kind,
    last_stage,
    map_stages,
    map_title,
)
from weakseg.runs.run_dir import RunDir
from weakseg.stages.cams import map_batches
from weakseg.stages.surface_words import STAGES, WORDS, SurfaceWords, some_of
from weakseg.types import IGNORE

ROOT = Path(__file__).parents[1]
IMAGES, HALF = 150, 0.5
THRESHOLDS = (0.3, HALF, 0.7)
RIDGE = 1e-3
CRITERIA = {
    "predictable": "how much of the masks' variance a linear classifier of features explains on images held out",
    "predicted overlap": "soft intersection over union of masks with what that classifier predicts",
    "stable": "overlap of the masks parted a tenth lower and a tenth higher",
    "certain": "mean score inside the masks",
    "surfaces": "share of the masks whose surface speaks for the tag, less the share outside",
    "consensus": "mean overlap with the masks of all other kinds of maps",
    "sureness": "what `verify` estimates from",
}


def features_of(surface_words, context, samples):
    """Of each image features [C,h,w] of cells of 8 pixels, of the pretrained network's stages."""
    found = {}
    with torch.no_grad():
        for batch, images in map_batches(context, samples):
            pyramid = surface_words.network.pyramid(images)
            size = pyramid[STAGES[1]].shape[-2:]
            parts = [
                functional.interpolate(pyramid[i].float(), size=size, mode="area") for i in STAGES
            ]
            for sample, each in zip(batch, torch.cat(parts, dim=1), strict=True):
                found[sample.id] = each.half()
    return [found[sample.id] for sample in samples]


def labels(maps, classes, threshold):
    best, place = maps.max(dim=0)
    return torch.where(best > threshold, classes[place] + 1, 0)


class Candidates:
    """All kinds of maps of some images, on one grid, and their masks."""

    def __init__(self, path):
        context = StageContext.reading(RunDir(path))
        if not (path / "evidence" / "done.json").is_file():
            config = load_config("fast", path / "config.yaml", ["evidence.images=0"])
            context = replace(context, config=config)
        self.context = context
        self.samples = some_of([s for s in context.catalog if s.mask is not None], IMAGES)
        surface_words = SurfaceWords.found(context, self.samples)
        self.surfaces = surface_words.gathered(context, self.samples, "surfaces")
        self.features = features_of(surface_words, context, self.samples)
        self.classes = len(context.catalog.classes)
        self.middles, self.kinds = {}, []
        for stage in map_stages(context):
            for title, middle in background_scores(context, stage).items():
                self.middles[title] = middle
            first = next(s for s in self.samples if s.tags)
            self.kinds += [(stage, kind) for kind in ImageMaps.load(path, stage, first.id).maps]
        self.own = self.kinds.index(
            (last_stage(context), chosen_kind(context, last_stage(context)))
        )

    def maps(self, place):
        """The image's classes, and its maps by kind [n,h,w], each parted at one half."""
        sample, size = self.samples[place], self.surfaces[place].words[0].shape
        found = []
        for stage, kind in self.kinds:
            kept = ImageMaps.load(self.context.run.path, stage, sample.id)
            maps = kept.maps[kind]
            if len(maps) and maps.shape[-2:] != size:
                maps = upsampled(maps, tuple(size)).clamp(0, 1)
            found.append(parted_at_half(maps, self.middles[map_title(stage, kind)]))
        return kept.classes, found


def overlap(pairs):
    """Intersection over union from sums [2,…]."""
    return pairs[0] / pairs[1].clamp_min(1e-9)


def measured(path):
    """The truth and every criterion of each candidate, and which one the run takes."""
    own = Candidates(path)
    k, kinds = own.classes, len(own.kinds)
    names = [(map_title(*kind), t) for kind in own.kinds for t in THRESHOLDS]
    tags = torch.zeros(len(own.samples), k, dtype=torch.bool)
    for place, sample in enumerate(own.samples):
        tags[place, list(sample.tags)] = True
    words = [each.words for each in own.surfaces]
    told = held_out(histograms_of(words, WORDS), tags)
    truth, near = torch.zeros(2, len(names), k + 1), torch.zeros(2, len(names))
    agreed = torch.zeros(2, kinds, kinds)
    speaks = torch.zeros(2, 2, len(names))
    counts = [[MaskCounts() for _ in range(k)] for _ in names]
    targets = []
    for place, sample in enumerate(own.samples):
        classes, maps = own.maps(place)
        size = words[place][0].shape
        right = read_mask(sample.mask)
        right = functional.interpolate(right[None, None].float(), size=size, mode="nearest-exact")[
            0, 0
        ].long()
        known = right != IGNORE
        evidence = evidence_map(told.weights[int(told.fold[place])], words[place])
        cover, masks = torch.zeros(len(names), k, *size), []
        for number, each in enumerate(maps):
            for step, threshold in enumerate(THRESHOLDS):
                i = number * len(THRESHOLDS) + step
                if not len(classes):
                    mask = strict = wide = torch.zeros_like(right)
                else:
                    mask = labels(each, classes, threshold)
                    strict = labels(each, classes, threshold + STEP)
                    wide = labels(each, classes, threshold - STEP)
                for label in range(k + 1):
                    inside = mask == label
                    truth[0, i, label] += (inside & (right == label) & known).sum()
                    truth[1, i, label] += ((inside | (right == label)) & known).sum()
                for j in classes.tolist():
                    inside = mask == j + 1
                    cover[i, j] = inside
                    near[0, i] += (strict == j + 1).sum()
                    near[1, i] += (wide == j + 1).sum()
                    for row, part in enumerate((inside, mask == 0)):
                        speaks[0, row, i] += (part & (evidence[j] > 0)).sum()
                        speaks[1, row, i] += part.sum()
                    score = float(each[classes.tolist().index(j)][inside].sum())
                    counts[i][j] += MaskCounts(
                        float((strict == j + 1).sum()),
                        float((wide == j + 1).sum()),
                        score,
                        float(inside.sum()),
                        1,
                        int(inside.float().mean() >= WHOLE_IMAGE),
                    )
                if threshold == HALF:
                    masks.append(mask)
        for a, one in enumerate(masks):
            for b, other in enumerate(masks):
                agreed[0, a, b] += ((one == other) & (one > 0)).sum()
                agreed[1, a, b] += ((one > 0) | (other > 0)).sum()
        size = own.features[place].shape[-2:]
        targets.append(
            functional.adaptive_avg_pool2d(cover.flatten(0, 1)[None], size)[0].flatten(1).T.half()
        )
    explained, soft = predicted(own.features, targets)
    consensus = (overlap(agreed).sum(dim=1) - 1) / max(1, kinds - 1)
    inside = [[own_ for own_ in row if own_.images] for row in counts]
    values = {
        "predictable": explained.view(len(names), k).mean(dim=1),
        "predicted overlap": soft.view(len(names), k).mean(dim=1),
        "stable": overlap(near),
        "certain": torch.tensor(
            [sum(c.score for c in row) / max(1e-9, sum(c.pixels for c in row)) for row in inside]
        ),
        "surfaces": (overlap(speaks)[0] - overlap(speaks)[1]),
        "consensus": consensus.repeat_interleave(len(THRESHOLDS)),
        "sureness": torch.tensor([sum(map(sureness, row)) / max(1, len(row)) for row in inside]),
    }
    taken = own.own * len(THRESHOLDS) + THRESHOLDS.index(HALF)
    return names, 100 * overlap(truth).mean(dim=1), values, taken


def predicted(features, targets):
    """How well masks follow from features on images held out: explained variance, soft overlap."""
    rows = [f.float().flatten(1).T for f in features]
    mean = torch.cat(rows)[::7].mean(dim=0)
    deviation = torch.cat(rows)[::7].std(dim=0).clamp_min(1e-4)
    rows = [torch.cat([(x - mean) / deviation, torch.ones(len(x), 1)], dim=1) for x in rows]
    fold = torch.arange(len(rows)) % FOLDS
    gram = torch.zeros(FOLDS, rows[0].shape[1], rows[0].shape[1], dtype=torch.double)
    moment = torch.zeros(FOLDS, rows[0].shape[1], targets[0].shape[1], dtype=torch.double)
    for f, x, y in zip(fold.tolist(), rows, targets, strict=True):
        gram[f] += (x.T @ x).double() / len(x)
        moment[f] += (x.T @ y.float()).double() / len(x)
    average = torch.stack([y.float().mean(dim=0) for y in targets]).mean(dim=0)
    wrong, total, parts = 0, 0, torch.zeros(2, targets[0].shape[1])
    for f in range(FOLDS):
        left = gram.sum(dim=0) - gram[f]
        left += RIDGE * left.diagonal().mean() * torch.eye(len(left), dtype=torch.double)
        weights = torch.linalg.solve(left, moment.sum(dim=0) - moment[f]).float()
        for place in torch.nonzero(fold == f)[:, 0].tolist():
            y = targets[place].float()
            found = rows[place] @ weights
            wrong = wrong + (y - found).square().mean(dim=0)
            total = total + (y - average).square().mean(dim=0)
            found = found.clamp(0, 1)
            parts += torch.stack(
                [torch.minimum(found, y).mean(dim=0), torch.maximum(found, y).mean(dim=0)]
            )
    return 1 - wrong / total.clamp_min(1e-9), overlap(parts)


def main():
    """Measures every run and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    lines = [
        "# Which maps to trust, told without truth",
        "",
        f"`python benchmarks/criteria.py RUN …`: every kind of maps of a run, parted at {', '.join(map(str, THRESHOLDS))} "
        f"(one half is its own threshold); {IMAGES} images, on the grid of the maps. mIoU in percent of what each "
        "criterion picks, beside the best of all and what the run takes; in brackets the rank correlation with the truth "
        "over all candidates.",
        "",
        *(f"- *{name}*: {text}" for name, text in CRITERIA.items()),
        "",
        "| run | best | taken | " + " | ".join(CRITERIA) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in CRITERIA) + " |",
    ]
    for path in options.runs:
        names, truth, values, taken = measured(path)
        best = int(truth.argmax())
        cells = [f"{truth[best]:.1f} ({names[best][0]}, {names[best][1]})", f"{truth[taken]:.1f}"]
        for value in values.values():
            rank = spearmanr(value, truth).statistic
            cells.append(f"{truth[int(value.argmax())]:.1f} ({rank:.2f})")
        lines.append(f"| {path.name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        (options.out / "criteria.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
