"""What is counted of masks and of the scores that they were made from, to judge them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from weakseg.data.images import read_mask
from weakseg.metrics.estimates import STEP, Estimate, MaskCounts, estimated, sureness
from weakseg.metrics.verdicts import WHOLE_IMAGE, ClassFigures, trust
from weakseg.ops.cams import label_map
from weakseg.ops.propagation import HALF
from weakseg.ops.thresholds import parted_at_half
from weakseg.processors import one_thread
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.image_maps import (
    ImageMaps,
    chosen_kind,
    chosen_map,
    last_stage,
    map_title,
)
from weakseg.runs.stage_dir import StageDir
from weakseg.types import RunError, Sample


class MaskCounter:
    """Counts what there is to count of a run's masks.

    Args:
        context: The run, after `masks`.

    Raises:
        RunError: What `masks` noted is damaged.
    """

    def __init__(self, context: StageContext) -> None:
        self.context, self.stage = context, last_stage(context)
        title = map_title(self.stage, chosen_kind(context, self.stage))
        chosen = context.run.stage("masks").summary.get("thresholds")
        value = chosen.get(title) if isinstance(chosen, dict) else None
        if not isinstance(value, int | float):
            raise RunError(
                f"{context.run.path / 'masks' / 'done.json'} names no threshold of the maps "
                f"{title}; remove it and give the same `weakseg run` command again"
            )
        self.middle = float(value)

    def of(self, sample: Sample) -> dict[int, MaskCounts]:
        """The counts of an image's masks by class; none of one without a tag.

        Raises:
            RunError: Its maps are missing or damaged.
            DataError: Its mask is.
        """
        if not sample.tags:
            return {}
        context = self.context
        kept = ImageMaps.load(context.run.path, self.stage, sample.id)
        maps = parted_at_half(chosen_map(context, self.stage, kept), self.middle)
        mask = read_mask(image_file(context.run.path, "masks", sample.id, ".png"))
        return _counted(maps, kept.classes, mask)


@one_thread()
def mask_counts(
    context: StageContext, samples: Sequence[Sample]
) -> Iterator[tuple[Sample, dict[int, MaskCounts]]]:
    """What there is to count of each tagged image's masks, by class.

    Args:
        context: The run, after `masks`.
        samples: The images; those without a tag are left out.
    """
    counter = MaskCounter(context)
    for sample in samples:
        if sample.tags:
            yield sample, counter.of(sample)


def class_estimate(figures: ClassFigures, counts: MaskCounts) -> tuple[float, Estimate]:
    """How sure a class's masks are of themselves, and how good that lets them be.

    Args:
        figures: What the stage `verify` found of the class.
        counts: What was counted of the masks, of one image or of many.
    """
    wrong = figures.against * trust(figures.surfaces_told, figures.guessed)
    distinct = 1.0 if figures.distinct is None else figures.distinct
    sure = sureness(counts, wrong, distinct)
    return sure, estimated(sure)


_JUDGED = ("against", "surfaces_told", "guessed", "distinct")
"""Figures of a class that the estimates of its masks take account of."""


class ImageEstimates:
    """How good the masks of single images are likely to be.

    Args:
        context: A run with the stage `evidence`, after `masks`. What the stage `verify` found of
            each class counts if it is finished.

    Raises:
        RunError: What one of them noted is damaged.
    """

    def __init__(self, context: StageContext) -> None:
        self.counter = MaskCounter(context)
        judged = StageDir(context.run.path / "verify")
        known = (judged.summary.get("classes") or {}) if judged.done else {}
        try:
            self.figures = [
                ClassFigures(**{key: known[name][key] for key in _JUDGED} if known else {})
                for name in context.catalog.classes
            ]
        except (KeyError, TypeError) as error:
            raise RunError(
                f"{judged.path / 'done.json'} is damaged ({error!r}); remove it and give the same "
                "`weakseg run` command again"
            ) from error

    def of(self, sample: Sample) -> dict[int, Estimate]:
        """The likely intersection over union of an image's masks, by class; see `MaskCounter`."""
        found = self.counter.of(sample)
        return {k: class_estimate(self.figures[k], counts)[1] for k, counts in found.items()}


def _counted(maps: Tensor, classes: Tensor, mask: Tensor) -> dict[int, MaskCounts]:
    """The counts of an image's masks [h,w], whose classes [n] have maps [n,h',w']."""
    size = (maps.shape[-2], maps.shape[-1])
    strict, wide = (label_map(maps, classes, HALF + own, size) for own in (STEP, -STEP))
    rows = torch.linspace(0, mask.shape[0] - 1, size[0]).round().long()
    columns = torch.linspace(0, mask.shape[1] - 1, size[1]).round().long()
    there = mask[rows][:, columns]
    found = {}
    for own, k in zip(maps, classes.tolist(), strict=True):
        inside = there == k + 1
        found[k] = MaskCounts(
            strict=float((strict == k + 1).sum()),
            wide=float((wide == k + 1).sum()),
            score=float(own[inside].sum()),
            pixels=float(inside.sum()),
            images=1,
            whole=int((mask == k + 1).float().mean() >= WHOLE_IMAGE),
        )
    return found
