"""How good masks are likely to be, estimated without any truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEP = 0.1
"""How far the threshold is moved, up and down, to see how much of a mask hangs on it."""

LEVEL, SLOPE = 1.36, 0.7
"""The log odds of the intersection over union are LEVEL + SLOPE · log odds of `sureness`: fitted to
classes of data sets with truth (`benchmarks/estimates.py`)."""

DEVIATION = 0.21
"""Root mean square error of the estimate, of classes of data sets that it was not fitted to."""


@dataclass(frozen=True)
class Estimate:
    """An intersection over union, as far as it can be told without truth.

    Attributes:
        value: 0..1.
        low: One standard deviation below it, 0..1.
        high: One standard deviation above it, 0..1.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"about {self.value:.0%}, likely {self.low:.0%} to {self.high:.0%}"


@dataclass
class MaskCounts:
    """What was counted of a class's masks.

    Attributes:
        strict: Pixels of its masks if the threshold were a step higher.
        wide: Pixels of its masks if the threshold were a step lower.
        score: Sum of its scores inside its masks.
        pixels: Pixels of its masks.
        images: With its tag.
        whole: Of these, that its mask covers all of.
    """

    strict: float = 0.0
    wide: float = 0.0
    score: float = 0.0
    pixels: float = 0.0
    images: int = 0
    whole: int = 0

    def __iadd__(self, other: MaskCounts) -> MaskCounts:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


def sureness(counts: MaskCounts, wrong_surface: float = 0.0, distinct: float = 1.0) -> float:
    """How sure a class's masks are of themselves, 0..1.

    The product of: how little of them hangs on the threshold; their mean score; the share of them
    whose surface does not speak against the class; how far what they cover is told from what they
    leave; and the share of images that they do not cover whole, as a mask that parts nothing says
    nothing.

    Args:
        counts: What was counted of them.
        wrong_surface: Share of them whose surface speaks against the class, as far as surfaces can
            tell it.
        distinct: How well what they cover is told from what they leave: area under the ROC curve,
            1/2 by guessing.
    """
    if not counts.pixels or not counts.wide:
        return 0.0
    kept = counts.strict / counts.wide
    mean = counts.score / counts.pixels
    parted = 1 - counts.whole / max(1, counts.images)
    told = max(0.0, 2 * distinct - 1)
    return kept * mean * (1 - wrong_surface) * told * parted


def estimated(sure: float) -> Estimate:
    """The likely intersection over union of masks of this `sureness`."""
    inside = min(max(sure, 1e-4), 1 - 1e-4)
    odds = LEVEL + SLOPE * math.log(inside / (1 - inside))
    value = 1 / (1 + math.exp(-odds)) if sure > 0 else 0.0
    return Estimate(value, max(0.0, value - DEVIATION), min(1.0, value + DEVIATION))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate | None:
    """Of a data set: the mean over its classes; errors of one data set's classes go together."""
    if not estimates:
        return None
    return Estimate(
        *(
            sum(getattr(own, name) for own in estimates) / len(estimates)
            for name in ("value", "low", "high")
        )
    )
