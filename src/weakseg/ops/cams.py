"""Class activation maps: over scales and mirror images, weighted, and turned into labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from weakseg.ops.arguments import one_of
from weakseg.ops.cam_methods import CAM_METHODS

STRIDE = 4
"""Pixels of the resized image per cell of the grid on which maps are kept."""

LEAST_SIDE = 32
"""Minimum side of what a network sees, in pixels: one cell of the coarsest grid."""

_FORWARD_PIXELS = 1_000_000
"""Maximum pixels that go through the network at once; a larger image goes alone."""

FAINT = 12.0
"""Highest score of a class anywhere in an image below which bf16 is not enough for its map."""

UNLIKELY = 0.5
"""The same of maps that are probabilities."""

Forward = Callable[[Tensor], Sequence[Tensor]]


class CamSettings(BaseModel):
    """How class activation maps are computed.

    Attributes:
        long_side: Images are resized to about this long side before all else (`network_size`), so
            that the network sees objects of the sizes that it was trained on, whatever the camera.
        scales: Multiples of that size at which the network looks.
        mirror: Whether it also sees the mirror image.
        method: A row of `CAM_METHODS`; maps that are probabilities are as they are learnt.
        xi: Weight ξ of the spotlight's map in the weighted map.
        batch_size: Images of equal size computed together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    long_side: int = Field(512, ge=32, description="long side to which images are resized (pixels)")
    scales: tuple[float, ...] = Field((0.5, 1.0, 1.5), min_length=1, description="multiples of it")
    mirror: bool = Field(True, description="use the mirror image, too")
    method: Annotated[str, one_of(CAM_METHODS)] = Field(
        "cam", description="how maps are made: cam, layer-cam, … (a row of CAM_METHODS)"
    )
    xi: float = Field(0.5, ge=0, le=1, description="weight of the spotlight in the weighted map")
    batch_size: int = Field(8, ge=1, description="images of equal size computed together")


def working_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Height and width of an image resized to this long side; no side is under 8 pixels."""
    scale = long_side / max(height, width)
    return max(8, round(height * scale)), max(8, round(width * scale))


def network_size(height: int, width: int, long_side: int, cell: int = 32) -> tuple[int, int]:
    """Height and width in which a network sees an image: about this long side, multiples of `cell`.

    So cells of the coarsest grid cover the image to its edges, also at half the size, and maps
    are enlarged without a shift. And images of many a camera fall into few sizes: networks compute
    them in full batches, without preparing anew for each size. The aspect changes by a few percent.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        long_side: About the long side that is wanted, in pixels.
        cell: What the network's sides are best multiples of (`Backbone.cell`), in pixels.
    """
    scale = long_side / max(height, width)
    rows, columns = (max(1, round(side * scale / cell)) for side in (height, width))
    return rows * cell, columns * cell


def grid_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the stride-4 grid of an image."""
    return -(-height // STRIDE), -(-width // STRIDE)


@torch.no_grad()
def multi_scale_cams(forward: Forward, images: Tensor, settings: CamSettings) -> list[Tensor]:
    """Class activation maps summed over scales and mirror images.

    Args:
        forward: From images [N,C,H,W] in 0..1 to the maps [N,K,h,w] of each branch, not negative.
        images: Images of one size [B,C,H,W] in 0..1.
        settings: Scales and mirror.

    Returns:
        Of each branch the summed maps float32 [B,K,⌈H/4⌉,⌈W/4⌉], not normalized.

    Raises:
        ValueError: The images are not [B,C,H,W].
    """
    if images.ndim != 4:
        raise ValueError(f"expected images [B,C,H,W], got {tuple(images.shape)}")
    height, width = images.shape[-2:]
    size = grid_size(height, width)
    sums: list[Tensor] = []
    for scale in settings.scales:
        scaled = resized_images(images, scale)
        views = torch.cat([scaled, scaled.flip(-1)]) if settings.mirror else scaled
        if images.is_contiguous(memory_format=torch.channels_last):
            views = views.contiguous(memory_format=torch.channels_last)
        for index, maps in enumerate(_forward_in_pieces(forward, views)):
            both = maps[: len(images)] + maps[len(images) :].flip(-1) if settings.mirror else maps
            full = functional.interpolate(both, size=size, mode="bilinear", align_corners=False)
            if index == len(sums):
                sums.append(full)
            else:
                sums[index] += full
    return sums


@torch.no_grad()
def careful_cams(
    exact: Forward,
    quick: Forward,
    images: Tensor,
    tags: Tensor,
    settings: CamSettings,
    *,
    faint: Sequence[float],
) -> list[Tensor]:
    """As `multi_scale_cams`, by a quick network where that makes next to no difference.

    A map is divided by its maximum in the end, and with it the error of a number format. So images
    are looked at exactly where a tag's score is faint everywhere, and all of them at the smallest
    scale, which costs little, makes up as much of the map as any other scale, and tells which are
    faint.

    Args:
        exact: From images [N,C,H,W] to the maps [N,K,h,w] of each branch, not negative.
        quick: The same, in a coarser number format.
        images: Images of one size [B,C,H,W].
        tags: What is in each image, bool [B,K].
        settings: Scales and mirror.
        faint: Of each branch the highest score below which a map is faint.

    Returns:
        As `multi_scale_cams`.
    """
    first, *others = sorted(settings.scales)
    sums = multi_scale_cams(exact, images, settings.model_copy(update={"scales": (first,)}))
    if not others:
        return sums
    rest = settings.model_copy(update={"scales": tuple(others)})
    peaks = torch.stack([total.amax(dim=(2, 3)) for total in sums]) / (2 if settings.mirror else 1)
    limits = torch.tensor(faint, device=peaks.device)[:, None, None]
    weak = ((peaks < limits) & tags).any(dim=2).any(dim=0)
    laid = torch.contiguous_format
    if images.is_contiguous(memory_format=torch.channels_last):
        laid = torch.channels_last
    for forward, chosen in ((quick, ~weak), (exact, weak)):
        places = chosen.nonzero()[:, 0]
        if len(places):
            some = images[places].contiguous(memory_format=laid)
            for total, part in zip(sums, multi_scale_cams(forward, some, rest), strict=True):
                total[places] += part
    return sums


def _forward_in_pieces(forward: Forward, views: Tensor) -> list[Tensor]:
    """The maps of all views, so few at a time that memory does not grow with their number."""
    piece = max(1, _FORWARD_PIXELS // (views.shape[-2] * views.shape[-1]))
    outputs = [[maps.float() for maps in forward(part)] for part in torch.split(views, piece)]
    return [torch.cat(branch) for branch in zip(*outputs, strict=True)]


def resized_images(images: Tensor, scale: float) -> Tensor:
    """Images [B,C,H,W] at a multiple of their size; no side is under 32 pixels."""
    height, width = images.shape[-2:]
    size = max(LEAST_SIDE, round(height * scale)), max(LEAST_SIDE, round(width * scale))
    if size == (height, width):
        return images
    return functional.interpolate(
        images, size=size, mode="bilinear", align_corners=False, antialias=True
    )


def normalized(maps: Tensor) -> Tensor:
    """Each map divided by its own maximum.

    Args:
        maps: Class activation maps [...,h,w], not negative.

    Returns:
        Maps in 0..1 of the same shape; a map of zeros stays so.
    """
    return maps / maps.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-5)


def weighted_cam(spotlight: Tensor, compensation: Tensor, xi: float) -> Tensor:
    """The recalibrated map M_W = ξ·M_S + (1−ξ)·M_C, of maps normalized first.

    Activation Modulation and Recalibration (AAAI 2022), equation 10.

    Args:
        spotlight: Maps [...,h,w] of the spotlight branch, not negative.
        compensation: Maps [...,h,w] of the compensation branch.
        xi: Weight ξ of the spotlight, 0..1.

    Returns:
        Maps in 0..1 of the same shape, each with maximum 1.
    """
    return normalized(xi * normalized(spotlight) + (1 - xi) * normalized(compensation))


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [n,h,w] at an image's full size [n,H,W], bilinear, float32."""
    return functional.interpolate(
        maps[None].float(), size=size, mode="bilinear", align_corners=False
    )[0]


def label_map(maps: Tensor, classes: Tensor, threshold: float, size: tuple[int, int]) -> Tensor:
    """Label of each pixel: the class of the highest map, background where none reaches a threshold.

    One class is upsampled at a time, so that many classes need no more memory than two.

    Args:
        maps: Maps [n,h,w] in 0..1.
        classes: Their classes, counted from 0, int64 [n].
        threshold: Score of the background, 0..1.
        size: Height and width of the image.

    Returns:
        Mask indices uint8 [H,W]: 0 background, k + 1 class k.
    """
    best = torch.full(size, threshold, device=maps.device)
    labels = torch.zeros(size, dtype=torch.uint8, device=maps.device)
    for map_, index in zip(maps, classes.tolist(), strict=True):
        full = upsampled(map_[None], size)[0]
        # The first class may equal the threshold; a later one must beat the one before.
        higher = (full > best) | ((full == best) & (labels == 0))
        labels[higher] = index + 1
        best = torch.maximum(best, full)
    return labels
