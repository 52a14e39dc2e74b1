"""Stage `masks`: a background threshold without truth, refinement, and a mask for every image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from weakseg.data.images import read_mask, read_sample, resized
from weakseg.data.masks import write_mask
from weakseg.ops.cams import label_map, working_size
from weakseg.ops.label_maps import best_labels, class_labels
from weakseg.ops.refinement import refined_shares
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import (
    ImageMaps,
    background_scores,
    chosen_kind,
    chosen_map,
    last_stage,
    map_stages,
    map_title,
)
from weakseg.runs.parallel import parallel_map
from weakseg.runs.processes import by_first, gathered, own_share
from weakseg.types import Sample


def masks(context: StageContext) -> Mapping[str, object]:
    """Choose the thresholds from all maps, then write `<id>.png` for every image."""
    catalog, settings = context.catalog, context.config.refine
    last = last_stage(context)
    title = map_title(last, chosen_kind(context, last))
    thresholds = by_first(lambda: _thresholds(context))
    if settings.threshold is not None:
        thresholds[title] = settings.threshold
    job = _Job(context, last, thresholds[title])
    covered = 0.0
    without: list[str] = []
    own = own_share(catalog.samples)
    with context.track("masks", len(own)) as advance:
        shares = parallel_map(job, own, workers=context.config.fit.workers)
        for sample, share in zip(own, shares, strict=True):
            covered += share
            if sample.tags and share == 0:
                without.append(sample.id)
            advance()
    covered = sum(gathered(covered))
    without = sorted(name for part in gathered(without) for name in part)
    return {
        "images": len(catalog),
        "maps": title,
        "thresholds": thresholds,
        "mean_foreground": covered / max(1, len(catalog)),
        "tagged_without_mask": without,
        **context.corrections.summary,
    }


def _thresholds(context: StageContext) -> dict[str, float]:
    """The background threshold of every kind of maps, by title."""
    found: dict[str, float] = {}
    for stage in map_stages(context):
        found |= background_scores(context, stage)
    return found


@dataclass(frozen=True)
class _Job:
    """Writes an image's mask and tells the share of its foreground."""

    context: StageContext
    stage: str
    threshold: float

    def __call__(self, sample: Sample) -> float:
        context = self.context
        path = context.dir.image_file(sample.id, ".png")
        if path.is_file():  # from an interrupted run; files are whole or not there
            return _foreground(read_mask(path))
        if sample.id in context.corrections.masks:
            labels = context.corrections.completed(sample.id, lambda: self._made(sample))
        else:
            labels = self._made(sample)
        write_mask(path, labels, context.catalog.classes)
        return _foreground(labels)

    def _made(self, sample: Sample) -> Tensor:
        """The mask [H,W] that the image's maps give."""
        context, settings = self.context, self.context.config.refine
        kept = ImageMaps.load(context.run.path, self.stage, sample.id)
        maps, classes = chosen_map(context, self.stage, kept), kept.classes
        height, width = kept.size
        if settings.row.shares is None or not len(classes):
            return label_map(maps, classes, self.threshold, (height, width))
        size = working_size(height, width, min(settings.long_side, max(height, width)))
        image = resized(read_sample(sample, max_side=max(size)), size)
        shares = refined_shares(image, maps, self.threshold, settings)
        return class_labels(best_labels(shares, (height, width)), classes)


def _foreground(labels: Tensor) -> float:
    return float((labels > 0).float().mean())
