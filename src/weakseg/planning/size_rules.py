"""How large images are worked on: the sizes to try, and what follows from the one that is taken."""

from __future__ import annotations

import math

from weakseg.planning.choices import Choice
from weakseg.planning.data_facts import DataFacts

SIDES = (320, 448, 640)
"""Long sides to try, in pixels: each has twice the pixels of the one before, so that one step is
one doubling of the time. Below, what ImageNet's networks were trained on (224 pixels) is reached;
above, CPUs take hours."""

USUAL_SIDE = 448
"""What is taken where nothing can be tried."""

_CELL = 32
"""Sides are multiples of the coarsest cell of a network."""

SMALLEST_SIDE = 224
"""Side of the images that the pretrained networks learnt from."""

_CROP = 4 / 7
"""Side of a view over the working size. A view is a third of an image at the working size, and all
of it at the smallest: a network learns things by their parts and whole, and a step costs a third of
what whole images would."""


def sides_to_try(facts: DataFacts) -> tuple[int, ...]:
    """Long sides that are worth trying, in pixels, the smallest first; at least one.

    An enlarged image shows nothing new: none is larger than the images are.
    """
    own = max(SMALLEST_SIDE, _CELL * math.ceil(facts.long_side / _CELL))
    fitting = tuple(side for side in SIDES if side <= own)
    return fitting or (own,)


def usual_side(facts: DataFacts) -> int:
    """The long side where none can be tried, in pixels."""
    return max(side for side in sides_to_try(facts) if side <= USUAL_SIDE)


def crop_of(side: int, aspect: float) -> int:
    """Side of a training view, a multiple of 32, in pixels.

    Args:
        side: Long side that is worked on, in pixels.
        aspect: Longer side / shorter side; a view is no wider than the image's short side, or it
            would show what is none of the image.
    """
    wanted = min(_CROP * side, side / aspect)
    return max(2 * _CELL, _CELL * round(wanted / _CELL))


def size_choices(side: int, facts: DataFacts, why: str) -> list[Choice]:
    """All that follows from the long side that is worked on.

    Args:
        side: In pixels.
        facts: The data.
        why: Why this side.
    """
    crop = crop_of(side, facts.aspect)
    low = min(crop, side)
    cut = (
        f"a view shows a third of an image of {side} pixels, or all of a smaller one, and no more "
        "than its short side"
    )
    seeds = min(250, side)
    one_of_four = "what learns from seeds sees one pixel of four, and needs no more"
    return [
        Choice("cams.long_side", side, why),
        Choice("augment.crop", crop, cut),
        Choice("augment.long_side", [low, side], "from the view itself to the working size"),
        Choice("relate.augment.crop", crop, "as the classifier, whose features it has"),
        Choice("relate.augment.long_side", [low, side], "as the classifier"),
        Choice("seeds.long_side", seeds, one_of_four),
        Choice("segment.augment.crop", crop, "as the classifier, from which it goes on"),
        Choice(
            "segment.augment.long_side",
            [side // 2, 2 * side],
            "things of half and of twice their usual size are to be known, too",
        ),
        Choice("segment.long_side", side, "the working size"),
    ]
