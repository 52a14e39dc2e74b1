"""Pixel-adaptive mask refinement: maps that follow an image's edges, by local averaging."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any

import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from weakseg.ops.arguments import finite_maps

_FLAT = 1e-8
"""Keeps the weights of a region of one colour finite, where every neighbour is as near."""


class PAMRSettings(BaseModel):
    """What pixel-adaptive mask refinement computes; the defaults are the papers'."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(default=10, ge=0, le=1000, description="Rounds of averaging.")
    dilations: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(
        default=(1, 2, 4, 8, 12, 24),
        min_length=1,
        description="Distances of the eight neighbours, in pixels.",
    )
    colour_scale: float = Field(
        default=0.3,
        gt=0,
        description="Colour distance of weight 1/e, in local standard deviations.",
    )
    position_scale: float = Field(
        default=0.3,
        gt=0,
        description="Distance of weight 1/e, in deviations of the neighbours' distances.",
    )
    position_weight: float = Field(
        default=0.01, ge=0, description="Weight of position beside colour; 0 leaves it out."
    )
    max_pixels: int = Field(
        default=2**20,
        ge=1024,
        description="Pixels worked on at once; larger images go in strips.",
    )


_DEFAULTS = PAMRSettings()


@torch.no_grad()
def pamr(
    images: Tensor | npt.NDArray[Any],
    maps: Tensor | npt.NDArray[Any],
    settings: PAMRSettings = _DEFAULTS,
) -> Tensor:
    """Maps averaged, again and again, over the neighbours that look alike.

    Each round replaces m_i by Σ_j w_ij·m_j over the eight neighbours at each dilation, pixels
    outside the image taken from its border, with

        w_i = (softmax_j(−⅓·Σ_c (I_ic − I_jc)² / (s·σ_ic)²)
               + ω·softmax_j(−|p_i − p_j|² / (s_p·σ_p)²)) / (1 + ω),

    where σ_ic is the standard deviation of channel c over the neighbours of i and σ_p that of the
    neighbours' distances (Araslanov and Roth, Single-Stage Semantic Segmentation from Image Labels,
    CVPR 2020; with squared distances and position as in Ru et al., Learning Affinity from
    Attention, CVPR 2022). The factor 1/(1 + ω) keeps the weights' sum at 1, so that probabilities
    stay probabilities. An image's result does not depend on the others of its batch. Memory beside
    input and result is bounded by `max_pixels`.

    Args:
        images: Images [B, C, H, W] in any colour scale; integers are taken as they are.
        maps: Maps [B, K, H, W], float, such as class scores.
        settings: Neighbours, scales and rounds.

    Returns:
        Refined maps [B, K, H, W], float32.

    Raises:
        ValueError: Images and maps differ in number or size, lack an axis, or are not finite.

    Example:
        >>> images, maps = torch.rand(2, 3, 32, 32), torch.rand(2, 5, 32, 32)
        >>> pamr(images, maps).shape
        torch.Size([2, 5, 32, 32])
    """
    images, maps = finite_maps(images, "images"), finite_maps(maps, "maps")
    if images.ndim != 4 or maps.ndim != 4:
        raise ValueError(
            "expected images [B, C, H, W] and maps [B, K, H, W], got "
            f"{tuple(images.shape)} and {tuple(maps.shape)}; add the axis of a batch of one"
        )
    if len(images) != len(maps) or images.shape[2:] != maps.shape[2:]:
        raise ValueError(
            "expected images and maps of one number and size, got "
            f"{tuple(images.shape)} and {tuple(maps.shape)}; resize one to the other"
        )
    if 0 in images.shape or not maps.is_floating_point():
        raise ValueError(
            f"expected images with pixels and maps of floats, got {tuple(images.shape)} and "
            f"{maps.dtype}"
        )
    group = max(1, settings.max_pixels // (maps.shape[2] * maps.shape[3]))
    refined = [
        _refine(image.float(), start.float(), settings)
        for image, start in zip(torch.split(images, group), torch.split(maps, group), strict=True)
    ]
    return torch.cat(refined)


def _refine(images: Tensor, maps: Tensor, settings: PAMRSettings) -> Tensor:
    reach = max(settings.dilations)
    images = functional.pad(images, [reach] * 4, mode="replicate")
    height, width = maps.shape[2:]
    rows = max(1, settings.max_pixels // (len(maps) * width))
    strips = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
    held = _weights(images, strips[0], settings) if len(strips) == 1 else None
    for _ in range(settings.iterations):
        padded = functional.pad(maps, [reach] * 4, mode="replicate")
        maps = torch.zeros_like(maps)
        for strip in strips:
            weights = _weights(images, strip, settings) if held is None else held
            here = maps[:, :, strip]
            for k, seen in enumerate(_neighbours(padded, strip, settings.dilations)):
                here.addcmul_(weights[:, k : k + 1], seen)
    return maps


def _weights(padded: Tensor, strip: slice, settings: PAMRSettings) -> Tensor:
    """Each neighbour's weight [B, 8·D, h, W] at the rows of a strip."""
    reach = max(settings.dilations)
    count = 8 * len(settings.dilations)
    centre = padded[:, :, strip.start + reach : strip.stop + reach, reach : padded.shape[3] - reach]
    total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    for seen in _neighbours(padded, strip, settings.dilations):
        # Differences from the centre: squares of the values themselves would cancel.
        difference = seen - centre
        total += difference
        squares.addcmul_(difference, difference)
    variance = (squares - total.square() / count).clamp_(min=0) / (count - 1)
    sharpness = 1 / (settings.colour_scale * (variance.sqrt() + _FLAT))
    likeness = centre.new_empty(len(centre), count, *centre.shape[2:])
    for k, seen in enumerate(_neighbours(padded, strip, settings.dilations)):
        likeness[:, k] = -((seen - centre) * sharpness).square().mean(1)
    weights = torch.softmax(likeness, 1)
    if settings.position_weight > 0:
        near = _nearness(settings).to(weights.device)[:, None, None]
        weights += settings.position_weight * near
        weights /= 1 + settings.position_weight
    return weights


def _nearness(settings: PAMRSettings) -> Tensor:
    """Softmax [8·D] of the neighbours' squared distances from the pixel."""
    offsets = torch.tensor(list(_offsets(settings.dilations)), dtype=torch.float32)
    distance = offsets.square().sum(1).sqrt()
    return torch.softmax(-(distance / (settings.position_scale * distance.std())).square(), 0)


def _offsets(dilations: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    for dilation, (dy, dx) in product(dilations, product((-1, 0, 1), repeat=2)):
        if dy or dx:
            yield dy * dilation, dx * dilation


def _neighbours(padded: Tensor, strip: slice, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """The rows of a strip as seen from each offset, without copying."""
    reach = max(dilations)
    width = padded.shape[3] - 2 * reach
    for dy, dx in _offsets(dilations):
        rows = slice(strip.start + reach + dy, strip.stop + reach + dy)
        yield padded[:, :, rows, reach + dx : reach + dx + width]
