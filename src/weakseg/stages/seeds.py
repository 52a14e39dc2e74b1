"""Stage `seeds`: confident labels for the relation network to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from weakseg.data.images import read_sample, resized
from weakseg.data.masks import write_mask
from weakseg.ops.cams import label_map, working_size
from weakseg.ops.label_maps import class_labels
from weakseg.ops.seeds import SeedSettings, confident_seeds, doubtful, scaled_crf
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import (
    ImageMaps,
    background_scores,
    chosen_kind,
    chosen_map,
    map_stage,
    map_title,
)
from weakseg.runs.parallel import parallel_map
from weakseg.runs.processes import by_first, own_share
from weakseg.types import Sample


def seeds(context: StageContext) -> Mapping[str, object]:
    """Choose both thresholds from all maps, then write `<id>.png` for every image without one."""
    catalog = context.catalog
    foreground, background = by_first(lambda: list(_thresholds(context)))
    own = own_share(catalog.samples)
    pending = [s for s in own if not context.dir.image_file(s.id, ".png").is_file()]
    job = _Job(context, foreground, background)
    with context.track("seeds", len(own), done=len(own) - len(pending)) as advance:
        for _ in parallel_map(job, pending, workers=context.config.fit.workers):
            advance()
    return {
        "images": len(catalog),
        "foreground": foreground,
        "background": background,
    }


def _thresholds(context: StageContext) -> tuple[float, float]:
    """The background scores for the label maps whose classes and whose background are kept."""
    settings: SeedSettings = context.config.seeds
    high, low = settings.foreground, settings.background
    if high is None or low is None:
        stage = map_stage(context)
        middle = background_scores(context, stage)[map_title(stage, chosen_kind(context, stage))]
        high = doubtful(middle)[1] if high is None else high
        low = doubtful(middle)[0] if low is None else low
    return high, low


@dataclass(frozen=True)
class _Job:
    context: StageContext
    foreground: float
    background: float

    def __call__(self, sample: Sample) -> None:
        context, settings = self.context, self.context.config.seeds
        stage = map_stage(context)
        kept = ImageMaps.load(context.run.path, stage, sample.id)
        maps, classes = chosen_map(context, stage, kept), kept.classes
        height, width = kept.size
        size = working_size(height, width, min(settings.long_side, max(height, width)))
        image = resized(read_sample(sample, max_side=max(size)), size)
        careful, generous = (
            label_map(maps, torch.arange(len(classes)), threshold, size)
            for threshold in (self.foreground, self.background)
        )
        crf = scaled_crf(settings.crf, max(size))
        local = confident_seeds(image, careful, generous, len(classes) + 1, crf)
        labels = class_labels(local, classes)
        write_mask(context.dir.image_file(sample.id, ".png"), labels, context.catalog.classes)
