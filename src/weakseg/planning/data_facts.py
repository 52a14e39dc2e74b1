"""What a plan needs to know of a data set."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from weakseg.data.decode import image_size
from weakseg.data.images import read_sample
from weakseg.types import Catalog, Sample

_SIZED = 500
"""Maximum images whose size is looked at: the median of so many is that of all."""

_LOOKED_AT = 16
"""Images that are decoded to see whether they have colours."""

_GRAY_SIDE = 64
"""Long side in which they are looked at, in pixels, about: JPEGs are decoded smaller."""


class DataFacts(BaseModel):
    """A data set in a few numbers; sizes are medians, in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(ge=1, description="Images that are learnt from.")
    classes: int = Field(ge=1, description="K.")
    counts: tuple[int, ...] = Field(description="Images of each class, the rarest first.")
    tags: int = Field(ge=0, description="Tags of all images together.")
    untagged: int = Field(ge=0, description="Images without any tag.")
    truth: int = Field(0, ge=0, description="Images with a true mask.")
    tried: int = Field(0, ge=0, description="Images of the split that the network is tried on.")
    long_side: int = Field(ge=1, description="Longer side.")
    short_side: int = Field(ge=1, description="Shorter side.")
    gray: bool = Field(False, description="Whether all images that were looked at are gray.")

    @property
    def aspect(self) -> float:
        """Longer side / shorter side, from 1."""
        return self.long_side / self.short_side

    @property
    def class_share(self) -> float:
        """Share of the images that have the class in the middle, by number of images; above 0."""
        return max(1, statistics.median_low(self.counts)) / self.images

    @classmethod
    def of(cls, catalog: Catalog, validation: Catalog | None = None) -> DataFacts:
        """Looks at some of the images.

        Args:
            catalog: The samples, at least one; at least one of them has a tag.
            validation: The split that the segmentation network is tried on.

        Raises:
            FileError: An image cannot be read.
        """
        found = Counter(tag for sample in catalog for tag in sample.tags)
        sizes = [sorted(image_size(s.image)) for s in evenly(catalog.samples, _SIZED)]
        return cls(
            images=len(catalog),
            classes=len(catalog.classes),
            counts=tuple(sorted(found[k] for k in range(len(catalog.classes)))),
            tags=found.total(),
            untagged=sum(not sample.tags for sample in catalog),
            truth=sum(sample.has_truth for sample in catalog),
            tried=len(validation) if validation else 0,
            long_side=statistics.median_low(long for _, long in sizes),
            short_side=statistics.median_low(short for short, _ in sizes),
            gray=all(
                _is_gray(read_sample(sample, max_side=_GRAY_SIDE))
                for sample in evenly(catalog.samples, _LOOKED_AT)
            ),
        )


def evenly(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many samples, evenly chosen from the first to the last."""
    count = min(most, len(samples))
    return [samples[place * len(samples) // count] for place in range(count)]


def _is_gray(image: Tensor) -> bool:
    """Whether the channels of an image uint8 [3,H,W] are the same."""
    return bool((image == image[:1]).all())
