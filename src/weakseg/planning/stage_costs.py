"""What each stage of a run will take: what it does with each image, times what that costs here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from weakseg.config.run_config import RunConfig
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import MachineCosts, TrainingCost
from weakseg.planning.plan_file import StageEstimate
from weakseg.training.fit import FitSettings

_START = 1.5
"""Seconds in which a stage loads its networks and starts what reads images."""

_GATHERING = 128
"""Images of which visual words are made."""

_AGREEMENT = 100
"""Images of either kind on which the segmentation network is compared with the masks."""

_FORWARD_PIXELS = 1_000_000
"""Pixels that go through a network at once (`weakseg.ops.cams`)."""

_TRAINED = {
    "classify": "tag_training",
    "recalibrate": "recalibration",
    "relate": "relation_training",
    "segment": "mask_training",
}


def steps_of(settings: FitSettings, images: int, dry_run: int | None = None) -> int:
    """How many steps a training has."""
    steps = settings.passes(images) * max(1, -(-images // settings.batch_size))
    limits = (limit for limit in (settings.steps, dry_run) if limit is not None)
    return min([steps, *limits])


def stage_costs(
    config: RunConfig, facts: DataFacts, costs: MachineCosts, stages: Collection[str]
) -> tuple[StageEstimate, ...]:
    """Time and memory of stages, for a machine that has nothing else to do.

    Args:
        config: All settings.
        facts: The data.
        costs: What this machine needs for each kind of work.
        stages: Names, in their order; those that are not known take the time of their start.
    """
    work = _Work(config, facts, costs)
    seconds = work.seconds()
    return tuple(
        StageEstimate(
            stage=name,
            minutes=round((_START + seconds.get(name, 0.0)) / 60, 2),
            gigabytes=round((costs.base_bytes + work.held(name)) / 1e9, 2),
        )
        for name in stages
    )


@dataclass(frozen=True)
class _Work:
    config: RunConfig
    facts: DataFacts
    costs: MachineCosts

    def seconds(self) -> Mapping[str, float]:
        """Of each stage, without its start."""
        config, facts, costs = self.config, self.facts, self.costs
        images, once = facts.images, self._pixels(config.cams.long_side) / costs.pixels
        here = max(1, costs.processors)
        maps = self._looked(once * self._maps(config.cams.scales, config.cams.mirror))
        wide = once * sum(costs.details * s**2 for s in config.spread.scales)
        wide += once**2 * sum(costs.affinity * s**4 for s in config.spread.scales)
        wide = wide if config.spread.spreading else 0.0
        last = once * costs.exact_maps / 2 if config.spread.prototypes else 0.0
        shown = min(images, config.prototypes.images * facts.classes)
        words = self._looked(once * costs.words)
        crf = self._pixels(config.seeds.long_side) / costs.crf_pixels * costs.crf
        refined = 0.0
        if config.refine.row.shares is not None:
            refined = self._pixels(config.refine.long_side) / costs.crf_pixels * costs.crf / 2
        tags = max(1.0, facts.tags / images) / costs.tags
        label = self._pixels(config.segment.long_side) / costs.pixels * costs.label
        tried = label * sum(s**2 for s in config.predict.scales)
        return {
            "check": images * (costs.read_whole + costs.mask) / here,
            "classify": self._trained("classify"),
            "cams": images * maps,
            "spread": images * self._looked(wide + last) + shown * self._looked(last),
            "recalibrate": self._trained("recalibrate") + images * costs.mask / here,
            "weigh": images * (maps + wide),
            "evidence": (images + min(images, _GATHERING)) * words,
            "seeds": images * crf / here,
            "relate": self._trained("relate"),
            "walk": images * (self._looked(once * costs.boundary) + once * tags * costs.walk),
            "masks": images * (costs.mask + refined) / here,
            "verify": min(images, config.verify.images) * (words + costs.mask),
            "evaluate": facts.truth * (_KINDS * costs.score + costs.mask),
            "segment": self._trained("segment") + 2 * min(_AGREEMENT, images) * label,
            "validate": facts.tried * (self._looked(tried) + costs.mask),
        }

    def held(self, stage: str) -> float:
        """Bytes that a stage needs beside what the process holds anyway."""
        config, costs = self.config, self.costs
        if stage in _TRAINED:
            settings, crop = self._training(stage)
            piece = settings.batch_size // settings.accumulate
            return piece * self._training_cost(stage).bytes * (crop / costs.crop) ** 2
        if stage not in ("cams", "spread", "weigh", "evidence", "walk", "validate", "verify"):
            return 0.0
        largest = self._pixels(config.cams.long_side * max(config.cams.scales))
        held = max(largest, _FORWARD_PIXELS) * costs.forward_bytes
        if stage in ("spread", "weigh") and config.spread.spreading:
            stride = config.backbone.output_stride
            cells = self._pixels(config.cams.long_side * max(config.spread.scales)) / stride**2
            held += 2 * 4 * cells**2
        return held

    def _pixels(self, long_side: float) -> float:
        """Of an image of this long side."""
        return long_side**2 / self.facts.aspect

    def _maps(self, scales: Sequence[float], mirror: bool) -> float:
        """Seconds for the maps of an image: exact at the smallest scale, quick at others."""
        first, *others = sorted(scales)
        seconds = self.costs.exact_maps * first**2
        seconds += self.costs.quick_maps * sum(scale**2 for scale in others)
        return seconds if mirror else seconds / 2

    def _looked(self, seconds: float, read: float | None = None) -> float:
        """Seconds of an image that other processes read meanwhile."""
        costs = self.costs
        read = costs.read_whole if read is None else read
        if costs.device == "cpu":  # the same processors read and compute
            return seconds + read / costs.processors
        return max(seconds, read / max(1, min(8, costs.processors - 1)))

    def _training(self, stage: str) -> tuple[FitSettings, int]:
        """How a stage learns, and the side of its views."""
        if stage == "classify":
            return self.config.fit, self.config.augment.crop
        section = getattr(self.config, stage)
        augment = getattr(section, "augment", self.config.augment)
        return section.fit, augment.crop

    def _training_cost(self, stage: str) -> TrainingCost:
        found: TrainingCost = getattr(self.costs, _TRAINED[stage])
        return found

    def _trained(self, stage: str) -> float:
        settings, crop = self._training(stage)
        views = settings.batch_size * steps_of(settings, self.facts.images, self.config.dry_run)
        seconds = self._training_cost(stage).seconds * (crop / self.costs.crop) ** 2
        return views * self._looked(seconds, self.costs.read_view)


_KINDS = 8
"""Kinds of maps that are scored where there is truth: two branches and both, raw and spread;
evidence; walk."""


def total_minutes(stages: Sequence[StageEstimate]) -> float:
    """Of all stages together."""
    return round(sum(stage.minutes for stage in stages), 1)


def most_gigabytes(stages: Sequence[StageEstimate]) -> float:
    """Of the stage that needs most."""
    return max((stage.gigabytes for stage in stages), default=0.0)
