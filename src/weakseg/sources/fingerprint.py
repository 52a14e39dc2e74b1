"""What a data set is like, in a few numbers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from weakseg.data.decode import ImageFacts
from weakseg.types import Catalog


class Spread(BaseModel):
    """Smallest, middle and largest of some numbers; all 0 if there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: float = Field(description="The minimum.")
    median: float = Field(description="The median.")
    largest: float = Field(description="The maximum.")


class Fingerprint(BaseModel):
    """Counts and sizes of a catalog.

    Lists over classes are in the catalog's order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...] = Field(description="Class names in the order of their mask indices.")
    images: int = Field(description="How many samples there are.")
    readable: int = Field(description="How many of them could be decoded; sizes are of these.")
    untagged: int = Field(description="Samples without any tag.")
    masks: int = Field(description="Samples with a truth mask.")
    counts: dict[str, int] = Field(description="Images per class.")
    cooccurrence: tuple[tuple[int, ...], ...] = Field(
        description="[K][K]: images that have both classes; on the diagonal those of one class."
    )
    tags_per_image: Spread = Field(description="Tags of an image.")
    height: Spread = Field(description="Upright heights, pixels.")
    width: Spread = Field(description="Upright widths, pixels.")
    short_side: Spread = Field(description="Shorter sides, pixels.")
    long_side: Spread = Field(description="Longer sides, pixels.")
    aspect: Spread = Field(description="Longer side / shorter side.")
    megapixels: Spread = Field(description="Areas, millions of pixels.")
    modes: dict[str, int] = Field(description="Images per pixel format, as Pillow names it.")
    formats: dict[str, int] = Field(description="Images per file format, as Pillow names it.")
    rotated: int = Field(description="Images that their EXIF orientation turns or mirrors.")


def take_fingerprint(catalog: Catalog, known: Sequence[ImageFacts]) -> Fingerprint:
    """The fingerprint of a catalog.

    Args:
        catalog: The samples.
        known: What each of its images that are not broken turned out to be.

    Returns:
        Its fingerprint.
    """
    size = len(catalog.classes)
    together = [[0] * size for _ in range(size)]
    for sample in catalog:
        for first in sample.tags:
            for second in sample.tags:
                together[first][second] += 1
    sides = [sorted((fact.height, fact.width)) for fact in known]
    return Fingerprint(
        classes=catalog.classes,
        images=len(catalog),
        readable=len(known),
        untagged=sum(not sample.tags for sample in catalog),
        masks=sum(sample.has_truth for sample in catalog),
        counts={name: together[i][i] for i, name in enumerate(catalog.classes)},
        cooccurrence=tuple(map(tuple, together)),
        tags_per_image=_spread(len(sample.tags) for sample in catalog),
        height=_spread(fact.height for fact in known),
        width=_spread(fact.width for fact in known),
        short_side=_spread(short for short, _ in sides),
        long_side=_spread(long for _, long in sides),
        aspect=_spread(round(long / short, 3) for short, long in sides),
        megapixels=_spread(round(short * long / 1e6, 3) for short, long in sides),
        modes=dict(sorted(Counter(fact.mode for fact in known).items())),
        formats=dict(sorted(Counter(fact.format for fact in known).items())),
        rotated=sum(fact.orientation != 1 for fact in known),
    )


def _spread(values: Iterable[float]) -> Spread:
    numbers = list(values) or [0]
    return Spread(smallest=min(numbers), median=statistics.median(numbers), largest=max(numbers))
