"""Random geometry of training images."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torchvision.transforms.v2 import functional as geometry


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
    low, high = settings.long_side
    side = int(torch.randint(low, high + 1, (1,), generator=generator))
    top, left, flip = torch.rand(3, generator=generator).tolist()
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    crop = settings.crop
    # Only the window that the crop shows is resized: cheaper, and the same picture.
    (y0, y1), (x0, x1) = (
        _window(length, crop, place) for length, place in zip(size, (top, left), strict=True)
    )
    source = image[
        :,
        int(y0 / scale) : max(int(y0 / scale) + 1, round(y1 / scale)),
        int(x0 / scale) : max(int(x0 / scale) + 1, round(x1 / scale)),
    ]
    view: Tensor = geometry.resize(source, [y1 - y0, x1 - x0], antialias=True)
    if view.shape[-2:] != (crop, crop):
        canvas = view.new_full((3, crop, crop), settings.fill)
        y = int((crop - view.shape[-2] + 1) * top)
        x = int((crop - view.shape[-1] + 1) * left)
        canvas[:, y : y + view.shape[-2], x : x + view.shape[-1]] = view
        view = canvas
    return view.flip(-1) if flip < settings.flip else view


def _window(length: int, crop: int, place: float) -> tuple[int, int]:
    """Start and end of a crop's window in a side of this length; all of a shorter side."""
    if length <= crop:
        return 0, length
    start = int((length - crop + 1) * place)
    return start, start + crop
