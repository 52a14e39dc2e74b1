"""Random geometry of training images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as geometry

from weakseg.types import IGNORE


class AugmentSettings(BaseModel):
    """How training images are varied.

    Attributes:
        crop: Side of the square that the network sees, in pixels.
        long_side: The image's long side is resized to a random length in this range, in pixels.
        flip: Probability of a mirror image.
        fill: Gray value 0..255 around images smaller than the crop.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: int = Field(288, ge=32, description="side of the square that the network sees (pixels)")
    long_side: tuple[int, int] = Field((288, 480), description="range of the long side (pixels)")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    fill: int = Field(128, ge=0, le=255, description="gray value around small images")

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSettings:
        low, high = self.long_side
        if not 16 <= low <= high:
            raise ValueError(f"long_side must be two lengths, 16 ≤ low ≤ high, got {low}, {high}")
        return self


def augment(image: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """A random view of an image: resized, cropped or padded, mirrored.

    Args:
        image: RGB image, uint8 [3,H,W].
        settings: The ranges.
        generator: Where the randomness comes from; the same state gives the same view.

    Returns:
        The view, uint8 [3,crop,crop].
    """
    height, width = image.shape[-2:]
    view = _draw(height, width, settings, generator)
    return _picture(image, view, InterpolationMode.BILINEAR, settings.fill)


def augment_pair(
    image: Tensor, labels: Tensor, settings: AugmentSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same random view of an image and of its labels.

    Args:
        image: RGB image, uint8 [3,H,W].
        labels: Its mask indices, uint8 [H',W'], on the image's grid or a coarser one.
        settings: The ranges.
        generator: Where the randomness comes from; the image's view is that of `augment`.

    Returns:
        The image's view uint8 [3,crop,crop], and the labels' uint8 [crop,crop], 255 beyond the
        image.
    """
    height, width = image.shape[-2:]
    view = _draw(height, width, settings, generator)
    if labels.shape != (height, width):
        labels = geometry.resize(labels[None], [height, width], _NEAREST)[0]
    return (
        _picture(image, view, InterpolationMode.BILINEAR, settings.fill),
        _picture(labels[None], view, _NEAREST, IGNORE)[0],
    )


_NEAREST = InterpolationMode.NEAREST_EXACT


class _View(NamedTuple):
    """A window of an image, the size it is brought to, and where that lies in the crop."""

    rows: slice
    columns: slice
    height: int
    width: int
    top: int
    left: int
    crop: int
    mirrored: bool


def _draw(height: int, width: int, settings: AugmentSettings, generator: torch.Generator) -> _View:
    low, high = settings.long_side
    side = int(torch.randint(low, high + 1, (1,), generator=generator))
    top, left, flip = torch.rand(3, generator=generator).tolist()
    scale = side / max(height, width)
    crop = settings.crop
    # Only the window that the crop shows is resized: cheaper, and the same picture.
    (y0, y1), (x0, x1) = (
        _window(max(1, round(length * scale)), crop, place)
        for length, place in ((height, top), (width, left))
    )
    return _View(
        slice(int(y0 / scale), max(int(y0 / scale) + 1, round(y1 / scale))),
        slice(int(x0 / scale), max(int(x0 / scale) + 1, round(x1 / scale))),
        height=y1 - y0,
        width=x1 - x0,
        top=int((crop - (y1 - y0) + 1) * top) if y1 - y0 < crop else 0,
        left=int((crop - (x1 - x0) + 1) * left) if x1 - x0 < crop else 0,
        crop=crop,
        mirrored=flip < settings.flip,
    )


def _picture(picture: Tensor, view: _View, mode: InterpolationMode, fill: int) -> Tensor:
    seen: Tensor = geometry.resize(
        picture[:, view.rows, view.columns], [view.height, view.width], mode, antialias=True
    )
    if seen.shape[-2:] != (view.crop, view.crop):
        canvas = seen.new_full((len(seen), view.crop, view.crop), fill)
        bottom, right = view.top + view.height, view.left + view.width
        canvas[:, view.top : bottom, view.left : right] = seen
        seen = canvas
    return seen.flip(-1) if view.mirrored else seen


def _window(length: int, crop: int, place: float) -> tuple[int, int]:
    """Start and end of a crop's window in a side of this length; all of a shorter side."""
    if length <= crop:
        return 0, length
    start = int((length - crop + 1) * place)
    return start, start + crop
