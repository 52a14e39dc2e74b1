"""What a run's own figures say of its masks, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from weakseg.metrics.estimates import Estimate

HARDLY_TOLD, NOT_TOLD = 0.25, 0.1
"""Of the way from guessing to certainty: below it, tags are told hardly, or not."""

TOLD_BY_SURFACES = 0.5
"""The same: from it on, what surfaces say of masks counts, being more right than wrong."""

HARDLY_DISTINCT, NOT_DISTINCT = 0.5, 0.25
"""The same: below it, what masks cover differs hardly, or not, from what they leave out."""

MOST = 0.5
"""Share of a class's images that makes a finding one about the class."""

SIGNIFICANT = 0.05
"""Probability below which a finding is not laid to chance."""

WHOLE_IMAGE = 0.95
"""Share of an image from which on a mask is one of all of it."""

Severity = Literal["red", "yellow"]


class VerifySettings(BaseModel):
    """How a run judges itself.

    Attributes:
        images: Maximum images that are looked at, evenly chosen; 0: none, no verdict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(600, ge=0, description="maximum images that verdicts are based on; 0: off")


@dataclass(frozen=True)
class Verdict:
    """What is wrong, in words.

    Attributes:
        severity: `red`: do not use these masks; `yellow`: look at them first.
        about: The class, or the run.
        text: What was found, and what may help.
    """

    severity: Severity
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.severity.upper()} {self.about}: {self.text}"


@dataclass
class ClassFigures:
    """What was counted of a class among the images looked at.

    Attributes:
        images: That show it.
        empty_maps: Of these, whose map is zero everywhere.
        without_mask: Of these, that have no pixel of it.
        whole_image: Of these, that it covers all of.
        told: Average precision of its tag on images held out, by the pretrained network's features;
            None: too few images.
        guessed: The same of guessing.
        surfaces_told: The same by surfaces alone: visual words.
        against: Share of its masks where the surface is rather one of images without the tag.
        against_outside: The same of what its masks leave of the same images.
        against_by_chance: Probability that the former would be the greater in so many images by
            chance alone.
        distinct: How well surfaces tell what its masks cover from what no mask of the same images
            covers: the probability that of two places the right one has more of it (ROC); None: too
            few images, or nothing on one side.
        by_others: How strongly small surfaces tell it from other classes' images, where no image
            is without a tag; 0 where some are.
        sureness: How sure its masks are of themselves, 0..1.
        estimate: What the intersection over union of its masks is likely to be; None: no images.
    """

    images: int = 0
    empty_maps: int = 0
    without_mask: int = 0
    whole_image: int = 0
    told: float | None = None
    guessed: float = 0.0
    surfaces_told: float | None = None
    against: float = 0.0
    against_outside: float = 0.0
    against_by_chance: float = 1.0
    distinct: float | None = None
    by_others: float = 0.0
    sureness: float = 0.0
    estimate: Estimate | None = None


def verdicts(figures: Mapping[str, ClassFigures]) -> list[Verdict]:
    """What the figures of a run's classes mean, the worst first."""
    found = [
        Verdict(severity, name, text)
        for name, own in figures.items()
        if own.images
        for severity, text in _of_class(name, own)
    ]
    return sorted(found, key=lambda verdict: verdict.severity != "red")


def verdicts_of_run(summaries: Mapping[str, Mapping[str, Any]]) -> tuple[Verdict, ...]:
    """What a run says of its masks and of its network, the worst first.

    Args:
        summaries: What its stages returned, by name; of `segment` and `verify` something is told.
    """
    found = [Verdict(**each) for each in summaries.get("verify", {}).get("verdicts") or ()]
    if missed := summaries.get("segment", {}).get("not_learnt"):
        text = (
            f"it finds hardly any of {', '.join(missed)} even in images that it learnt from; "
            "train it longer (segment.fit.least_steps), or let classes count alike "
            "(segment.task.balance=1)"
        )
        found.insert(0, Verdict("red", "the network", text))
    return tuple(found)


def _of_class(name: str, own: ClassFigures) -> Iterable[tuple[Severity, str]]:
    many = MOST * own.images
    if own.empty_maps >= many:
        yield (
            "red",
            f"its maps are zero in {own.empty_maps} of {own.images} images: training came to "
            "nothing; try a lower fit.lr or more fit.epochs",
        )
        return
    if own.without_mask >= many:
        yield (
            "red",
            f"{own.without_mask} of {own.images} images that show it have no pixel of it; another "
            "class may take its place, or refine.threshold is too high",
        )
    told = trust(own.told, own.guessed)
    if own.told is None:
        yield (
            "yellow",
            f"in {own.images} image{'s' * (own.images != 1)} only, or in nearly all: whether it "
            "can be told apart is not known; add images with and without it",
        )
    elif told < HARDLY_TOLD:
        yield (
            "red" if told < NOT_TOLD else "yellow",
            f"images with and without it {'cannot' if told < NOT_TOLD else 'can hardly'} be told "
            f"apart (average precision {own.told:.2f} on images held out, guessing has "
            f"{own.guessed:.2f}): its masks are guesses; check its tags, add images with and "
            "without it",
        )
    # Masks of the thing itself leave outside what also occurs without the tag.
    by_surfaces = trust(own.surfaces_told, own.guessed) >= TOLD_BY_SURFACES
    beyond_chance = own.against_by_chance < SIGNIFICANT
    if by_surfaces and own.against >= own.against_outside and beyond_chance:
        yield (
            "red",
            f"{own.against:.0%} of its masks cover surfaces that occur rather in images without "
            f"{name} (of the rest of the same images {own.against_outside:.0%} do): they do not "
            "keep to it; try a larger cams.long_side, refine.kind=none with "
            "spread.spreading=false, more images of the same things without it",
        )
    distinct = 1.0 if own.distinct is None else 2 * own.distinct - 1
    if distinct < HARDLY_DISTINCT:
        cannot = distinct < NOT_DISTINCT
        yield (
            "red" if cannot else "yellow",
            f"what its masks cover {'cannot' if cannot else 'can hardly'} be told from what they "
            f"leave of the same images ({own.distinct:.2f}, guessing has 0.50): they may lie "
            "beside it; look at them, add images without any tag, try a larger cams.long_side",
        )
    if own.by_others >= MOST:
        yield (
            "yellow",
            "small surfaces tell it, and every image has a tag: what all images show, as what it "
            "lies on, cannot be ruled out; look at its masks, add images without any tag",
        )
    if own.whole_image >= many:
        yield (
            "yellow",
            f"its masks cover the whole image in {own.whole_image} of {own.images} images",
        )


def trust(precision: float | None, guessed: float) -> float:
    """Of the way from guessing to certainty how much, 0..1; 0 where it is not known."""
    if precision is None:
        return 0.0
    return min(1.0, max(0.0, (precision - guessed) / max(1e-6, 1 - guessed)))
