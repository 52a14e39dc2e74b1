"""What every format is written from: images with their masks, and what all of them share."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from weakseg.data.rle import Mask
from weakseg.types import IGNORE, DataError, Sample


@dataclass(frozen=True)
class Labelled:
    """An image and its mask.

    Attributes:
        sample: The image.
        labels: uint8 [H,W], upright: 0 background, k + 1 class k, 255 ignored.
        confidences: How sure each class's mask is, 0..1, per index k + 1; empty if not known.
        turned: Whether the image's EXIF orientation turns its pixels to be upright.
    """

    sample: Sample
    labels: npt.NDArray[np.uint8]
    confidences: Mapping[int, float]
    turned: bool = False

    @property
    def name(self) -> str:
        """The image's path below its image folder, with its suffix and `/` between its parts."""
        count = self.sample.id.count("/") + 1
        return "/".join(self.sample.image.parts[-count:])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.labels.shape
        return height, width

    @property
    def file(self) -> str:
        """The image's path below a folder of an export: its id and its suffix."""
        return self.sample.id + self.sample.image.suffix

    @cached_property
    def ignored(self) -> bool:
        """Whether there are ignored pixels."""
        return bool((self.labels == IGNORE).any())

    @cached_property
    def indices(self) -> list[int]:
        """The indices of the classes that have pixels."""
        present = np.flatnonzero(np.bincount(self.labels.ravel(), minlength=IGNORE + 1))
        return [int(index) for index in present if 0 < index < IGNORE]

    def masks(self) -> Iterator[tuple[int, Mask, float | None]]:
        """Index, mask [H,W] and confidence (None: not known) of each class that has pixels.

        A class has one mask in an image, however many regions it has: masks made from tags know
        classes, not instances.
        """
        for index in self.indices:
            known = self.confidences.get(index)
            yield index, self.labels == index, None if known is None else round(known, 4)


@dataclass(frozen=True)
class Job:
    """What a format is told about all images.

    Attributes:
        classes: The names of mask indices 1, 2, …
        count: How many images there are.
        confident: Whether masks have confidences.
        suffixes: The suffixes that images have.
        image_root: What stands before each image's path in a URL, or None.
        layout: How files are arranged, where a format has several ways, or None.
    """

    classes: tuple[str, ...]
    count: int
    confident: bool
    suffixes: frozenset[str] = frozenset()
    image_root: str | None = None
    layout: str | None = None


def xml_text(text: str) -> str:
    """`text`, which XML can hold.

    Raises:
        DataError: It has characters that XML cannot hold.
    """
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cs") or c in "\ufffe\uffff"]
    if bad:
        raise DataError(
            f"{text!r} has the character {bad[0]!r}, which XML cannot hold; rename it, or export "
            "to coco or label-studio"
        )
    return text


def xml_file(root: ElementTree.Element) -> bytes:
    """A small XML file."""
    ElementTree.indent(root)
    return b"%s\n" % ElementTree.tostring(root, encoding="utf-8")
