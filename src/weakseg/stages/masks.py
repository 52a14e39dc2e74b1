"""Stage `masks`: a background threshold without truth, and a mask for every image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from weakseg.data.masks import write_mask
from weakseg.ops.cam import label_map, weighted_cam
from weakseg.ops.threshold import BINS, blind_threshold, score_histogram
from weakseg.rundir import StageContext
from weakseg.stages.cams import BRANCHES, load_cams

_UNDECIDED = 0.5
"""Threshold where no image has tags, so that there is nothing to choose from."""


def masks(context: StageContext) -> Mapping[str, object]:
    """Choose the threshold from all maps, then write `<id>.png` for every image."""
    catalog, settings = context.catalog, context.config.masks
    with context.track("thresholds", len(catalog)) as advance:
        pooled: dict[str, Tensor] = {}
        for sample in catalog:
            for kind, maps in map_kinds(context, load_cams(context.run.path, sample.id)).items():
                before = pooled.get(kind, torch.zeros(BINS, dtype=torch.float64))
                pooled[kind] = before + score_histogram(maps)
            advance()
    thresholds = {
        kind: settings.threshold
        if settings.threshold is not None
        else blind_threshold(histogram)
        if float(histogram.sum()) > 0
        else _UNDECIDED
        for kind, histogram in pooled.items()
    }
    # A plain CAM network has the spotlight's map alone.
    kind = settings.maps if settings.maps in thresholds else "spotlight"
    covered = 0.0
    without: list[str] = []
    with context.track("masks", len(catalog)) as advance:
        for sample in catalog:
            kept = load_cams(context.run.path, sample.id)
            height, width = kept["size"].tolist()
            maps = map_kinds(context, kept)[kind]
            labels = label_map(maps, kept["classes"], thresholds[kind], (height, width))
            write_mask(context.dir.file(f"{sample.id}.png"), labels, catalog.classes)
            share = float((labels > 0).float().mean())
            covered += share
            if sample.tags and share == 0:
                without.append(sample.id)
            advance()
    return {
        "images": len(catalog),
        "maps": kind,
        "thresholds": thresholds,
        "mean_foreground": covered / max(1, len(catalog)),
        "tagged_without_mask": without,
    }


def map_kinds(context: StageContext, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All maps of an image, [n,h,w] in 0..1: each branch's and, of two branches, the weighted."""
    kinds = {name: kept[name] for name in BRANCHES if name in kept}
    if len(kinds) == len(BRANCHES):
        kinds["weighted"] = weighted_cam(
            kinds["spotlight"], kinds["compensation"], context.config.cams.xi
        )
    return kinds
