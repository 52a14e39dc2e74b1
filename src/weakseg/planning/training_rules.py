"""How long to train: steps that follow from the data, never from a number of epochs."""

from __future__ import annotations

import math

from weakseg.planning.choices import Choice
from weakseg.planning.data_facts import DataFacts
from weakseg.training.fit import FitSettings

BATCH, SEGMENT_BATCH = 16, 8
"""Images a step: those that the default learning rates are for."""

_MOST = 0.9
"""What counts as nearly all: of momentum's memory that is filled, of an image that was seen."""

_ENOUGH_IMAGES = 20_000
"""Images of one kind from which on more teach nothing that these do not (`docs/scale.md`): a
training does not go through more of them."""

_SHARES = {"recalibrate": (1, 3), "relate": (1, 2)}
"""Steps of the trainings that go on from the classifier, as shares of its own: those that the
defaults give them, 2 and 3 passes of 6."""


def settled_steps(momentum: float, warmup: float) -> int:
    """Fewest steps after which a training has settled, however few images there are.

    The learning rate rises over a share of the steps so that the first gradients, of a head that
    knows nothing yet, cannot undo what the network knew. For that the rise has to last until
    momentum, a mean over the last steps, is filled to nine tenths: n steps with 1 − mⁿ ≥ 0.9.

    Args:
        momentum: m, 0..1.
        warmup: The share of the steps, above 0.

    Example:
        >>> settled_steps(0.9, 0.05)
        440
    """
    filled = math.ceil(math.log(1 - _MOST) / math.log(momentum))
    return round(filled / warmup)


def seen_share(crop: int, long_sides: tuple[int, int], aspect: float) -> float:
    """Share of an image that a random view shows, on the average over the sizes.

    Args:
        crop: Side of the view, in pixels.
        long_sides: Range of the image's long side, in pixels.
        aspect: Longer side / shorter side.
    """
    low, high = long_sides
    sides = [low + (high - low) * place / 16 for place in range(17)]
    shares = [min(1.0, crop / side) * min(1.0, crop * aspect / side) for side in sides]
    return sum(shares) / len(shares)


def passes_to_see(share: float) -> int:
    """Passes after which nine tenths of an image were in some view, each showing such a share."""
    if share >= _MOST:
        return 1
    return math.ceil(math.log(1 - _MOST) / math.log(1 - share))


def classify_steps(facts: DataFacts, share: float, batch: int = BATCH) -> tuple[int, str]:
    """Steps of learning from tags, and why.

    Args:
        facts: The data.
        share: Share of an image that a view shows.
        batch: Images a step.
    """
    fit = FitSettings()
    settled = settled_steps(fit.momentum, fit.warmup)
    met = 1 - (1 - min(1.0, facts.class_share)) ** batch
    by_class = math.ceil(settled / met)
    passes, seen = passes_to_see(share), min(facts.images, _ENOUGH_IMAGES)
    by_images = math.ceil(passes * seen / batch)
    if by_images > by_class:
        return by_images, (
            f"{passes} passes over {_told(facts)}, until views of {share:.0%} of an image have "
            f"shown nearly all of it"
        )
    return by_class, (
        f"a training settles in {settled} steps, and a class of usual frequency "
        f"({facts.class_share:.0%} of the images) is in {met:.0%} of the batches"
    )


def segment_steps(facts: DataFacts, share: float, batch: int = SEGMENT_BATCH) -> tuple[int, str]:
    """Steps of learning from masks, where every pixel is an example, and why.

    Args:
        facts: The data.
        share: Share of an image that a view shows.
        batch: Images a step.
    """
    fit = FitSettings()
    settled = settled_steps(fit.momentum, fit.warmup)
    passes, seen = passes_to_see(share), min(facts.images, _ENOUGH_IMAGES)
    by_images = math.ceil(passes * seen / batch)
    if by_images > settled:
        return by_images, (
            f"{passes} passes over {_told(facts)}, until views of {share:.0%} of an image have "
            f"shown nearly all of it"
        )
    return settled, f"a training settles in {settled} steps, however few images there are"


def step_choices(facts: DataFacts, share: float, segment_share: float) -> list[Choice]:
    """How many steps each training takes.

    Args:
        facts: The data.
        share: Share of an image that a view of the classifier's training shows.
        segment_share: The same of the segmentation network's.
    """
    steps, why = classify_steps(facts, share)
    choices = [*_steps("fit", steps, why)]
    for name, (part, of) in _SHARES.items():
        share_told = f"{part}/{of} of the classifier's steps, from which it goes on"
        choices += _steps(f"{name}.fit", max(1, round(steps * part / of)), share_told)
    return [*choices, *_steps("segment.fit", *segment_steps(facts, segment_share))]


def _steps(section: str, steps: int, why: str) -> list[Choice]:
    return [
        Choice(f"{section}.least_steps", steps, why),
        Choice(f"{section}.steps", steps, "no more, however many passes that is"),
    ]


def _told(facts: DataFacts) -> str:
    if facts.images > _ENOUGH_IMAGES:
        return f"{_ENOUGH_IMAGES} images' worth: more of one kind teach nothing new"
    return f"{facts.images} images"
