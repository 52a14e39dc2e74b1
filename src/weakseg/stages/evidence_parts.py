"""What maps cover without evidence, and what they leave out: who is right is asked of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional

from weakseg.ops.cams import upsampled
from weakseg.ops.propagation import HALF
from weakseg.ops.thresholds import parted_at_half
from weakseg.processors import one_thread
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import (
    ImageMaps,
    background_scores,
    chosen_kind,
    chosen_map,
    map_title,
    stage_before_evidence,
)
from weakseg.runs.processes import by_first
from weakseg.types import Sample

_FEW = 20
"""Positions of a kind below which an image does not say how they are."""

_CELLS = 1
"""Which words tell what maps cover from what they leave out: those of cells of 8 pixels."""


@dataclass(frozen=True)
class MapsBefore:
    """The maps that are weighed.

    Attributes:
        context: The run.
        stage: The stage that kept them.
        middle: Where they are parted.
    """

    context: StageContext
    stage: str
    middle: float

    @classmethod
    def of(cls, context: StageContext) -> MapsBefore:
        """Those of a run."""
        stage = stage_before_evidence(context)
        title = map_title(stage, chosen_kind(context, stage))
        return cls(context, stage, by_first(lambda: background_scores(context, stage)[title]))

    def load(self, sample: Sample) -> tuple[ImageMaps, Tensor]:
        """What is kept of an image, and its maps [n,h,w], brought to where one half parts them."""
        kept = ImageMaps.load(self.context.run.path, self.stage, sample.id)
        return kept, parted_at_half(chosen_map(self.context, self.stage, kept), self.middle)


@dataclass
class Parts:
    """What a class's maps cover without evidence, and what they leave out, in some images.

    Attributes:
        compared: Images that have enough of both.
        supported: Of these, in how many what is covered has the greater mean evidence.
        inside: The words of what is covered, of each image, integers [n].
        outside: The words of what no map of the image covers.
    """

    compared: int = 0
    supported: int = 0
    inside: list[Tensor] = field(default_factory=list)
    outside: list[Tensor] = field(default_factory=list)


@one_thread()
def compared_parts(
    maps_before: MapsBefore,
    samples: Sequence[Sample],
    words: Sequence[Sequence[Tensor]],
    found: Iterable[Tensor],
    thresholds: Tensor,
) -> list[Parts]:
    """What the maps of each class cover without evidence, and what they leave out."""
    parts = [Parts() for _ in thresholds]
    for sample, own, said in zip(samples, words, found, strict=True):
        if not sample.tags:
            continue
        kept, maps = maps_before.load(sample)
        covered = upsampled(maps, (said.shape[-2], said.shape[-1])) > HALF
        cells = own[_CELLS]
        for k, cover in zip(kept.classes.tolist(), covered, strict=True):
            each = said[k if len(said) > 1 else 0]
            weak = each < thresholds[k]
            inside, outside = cover & weak, ~covered.any(dim=0) & weak
            if min(int(inside.sum()), int(outside.sum())) < _FEW:
                continue
            parts[k].compared += 1
            parts[k].supported += bool(each[inside].mean() > each[outside].mean())
            for listed, where in ((parts[k].inside, inside), (parts[k].outside, outside)):
                share = functional.interpolate(
                    where[None, None].float(), size=cells.shape, mode="area"
                )[0, 0]
                listed.append(cells[share > 0.5])
    return parts
