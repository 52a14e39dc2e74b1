"""Random views of training images and their masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
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


class MaskAugmentSettings(AugmentSettings):
    """How training images and their masks are varied.

    Attributes:
        color: Brightness, contrast and saturation are multiplied by random factors in
            1 − color .. 1 + color.
    """

    long_side: tuple[int, int] = Field((240, 960), description="range of the long side (pixels)")
    color: float = Field(0.3, ge=0, lt=1, description="strength of brightness, contrast, colour")


@dataclass(frozen=True)
class View:
    """Where a random view lies in its image.

    Attributes:
        scale: Pixels of the resized image per pixel of the image.
        rows: First and last (exclusive) row of the window, in the resized image.
        columns: The same of its columns.
        top: Share of the canvas's free rows that are above the window, if there are any.
        left: Share of its free columns that are to the left.
        mirrored: Whether it is a mirror image.
    """

    scale: float
    rows: tuple[int, int]
    columns: tuple[int, int]
    top: float
    left: float
    mirrored: bool

    def of(self, pixels: Tensor, crop: int, fill: int, *, labels: bool = False) -> Tensor:
        """The view of an image.

        Args:
            pixels: uint8 [C,H,W].
            crop: Side of the view, in pixels.
            fill: What is around a window that is smaller.
            labels: Whether the pixels are labels, of which none lies between two others.

        Returns:
            uint8 [C,crop,crop].
        """
        (y0, y1), (x0, x1), scale = self.rows, self.columns, self.scale
        # Only the window that the crop shows is resized: cheaper, and the same picture.
        source = pixels[
            :,
            int(y0 / scale) : max(int(y0 / scale) + 1, round(y1 / scale)),
            int(x0 / scale) : max(int(x0 / scale) + 1, round(x1 / scale)),
        ]
        how = InterpolationMode.NEAREST_EXACT if labels else InterpolationMode.BILINEAR
        view: Tensor = geometry.resize(source, [y1 - y0, x1 - x0], how, antialias=not labels)
        if view.shape[-2:] != (crop, crop):
            canvas = view.new_full((len(pixels), crop, crop), fill)
            y = int((crop - view.shape[-2] + 1) * self.top)
            x = int((crop - view.shape[-1] + 1) * self.left)
            canvas[:, y : y + view.shape[-2], x : x + view.shape[-1]] = view
            view = canvas
        return view.flip(-1) if self.mirrored else view


def random_view(
    size: tuple[int, int], settings: AugmentSettings, generator: torch.Generator
) -> View:
    """Draws a view of an image of this height and width."""
    low, high = settings.long_side
    side = int(torch.randint(low, high + 1, (1,), generator=generator))
    top, left, flip = torch.rand(3, generator=generator).tolist()
    scale = side / max(size)
    rows, columns = (
        _window(max(1, round(length * scale)), settings.crop, place)
        for length, place in zip(size, (top, left), strict=True)
    )
    return View(scale, rows, columns, top, left, flip < settings.flip)


def augment(image: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """A random view of an image: resized, cropped or padded, mirrored.

    Args:
        image: uint8 [C,H,W].
        settings: The ranges.
        generator: Where the randomness comes from; the same state gives the same view.

    Returns:
        The view, uint8 [C,crop,crop].
    """
    height, width = image.shape[-2:]
    view = random_view((height, width), settings, generator)
    return view.of(image, settings.crop, settings.fill)


def augment_pair(
    image: Tensor, mask: Tensor, settings: MaskAugmentSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random view of an image and the same view of its mask; the image's colours vary, too.

    Args:
        image: uint8 [C,H,W].
        mask: Its labels, uint8 [H',W']; of an image decoded at a part of its size, the full mask.
        settings: The ranges.
        generator: Where the randomness comes from; the same state gives the same view.

    Returns:
        The views, uint8 [C,crop,crop] and [crop,crop]; 255 where there is no image.
    """
    height, width = image.shape[-2:]
    labels = resized_labels(mask, (height, width))[None]
    view = random_view((height, width), settings, generator)
    shown = view.of(image, settings.crop, settings.fill)
    brightness, contrast, saturation = (
        1 + settings.color * (2 * torch.rand(3, generator=generator) - 1)
    ).tolist()
    if settings.color and len(shown) in (1, 3):
        shown = geometry.adjust_brightness(shown, brightness)
        shown = geometry.adjust_contrast(shown, contrast)
        shown = geometry.adjust_saturation(shown, saturation)
    elif settings.color:  # bands have no saturation
        middle = contrast * (shown.float() - shown.float().mean()) + shown.float().mean()
        shown = (brightness * middle).round().clamp(0, 255).to(torch.uint8)
    return shown, view.of(labels, settings.crop, IGNORE, labels=True)[0]


def resized_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels [H,W] at another size: of each pixel the nearest, none between two others."""
    if labels.shape == size:
        return labels
    resized: Tensor = geometry.resize(labels[None], list(size), InterpolationMode.NEAREST_EXACT)[0]
    return resized


def _window(length: int, crop: int, place: float) -> tuple[int, int]:
    """Start and end of a crop's window in a side of this length; all of a shorter side."""
    if length <= crop:
        return 0, length
    start = int((length - crop + 1) * place)
    return start, start + crop
