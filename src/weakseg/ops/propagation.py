"""Activation maps spread once along the likeness of features: no training, one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from weakseg.ops.arguments import finite_maps

HALF = 0.5
"""Background score of maps normalized to 0..1 by minimum and maximum: the middle."""


class SpreadSettings(BaseModel):
    """How maps are improved without training.

    Attributes:
        prototypes: Whether the maps are averaged with those of local prototypes.
        spreading: Whether they are spread along the likeness of features, then min-max normalized.
        power: Of the likeness.
        scales: Multiples of the maps' long side at which features are taken for spreading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prototypes: bool = Field(True, description="average with maps of local prototypes")
    spreading: bool = Field(True, description="spread along the likeness of features")
    power: float = Field(2.0, gt=0, le=16, description="of the likeness")
    scales: tuple[float, ...] = Field(
        (0.75, 1.0, 1.5), min_length=1, description="sizes at which features are taken"
    )

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self.prototypes or self.spreading


def feature_affinity(features: Tensor, power: float = 2.0) -> Tensor:
    """How alike the positions of an image are, as the weights of an average.

    A = relu(F̂ᵀF̂)^p with each row divided by its sum, where F̂ are the features minus their mean
    over the positions, at unit length. The mean holds what all positions share, the image's style;
    without it every two positions would be alike.

    Args:
        features: Features [C,h,w] of one image.
        power: p; more gives less to what is merely similar.

    Returns:
        Weights float32 [h·w,h·w], rows summing to 1.

    Raises:
        ValueError: The features are not [C,h,w].
    """
    if features.ndim != 3:
        raise ValueError(f"expected features [C,h,w], got {tuple(features.shape)}")
    flat = features.float().flatten(1)
    unit = functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=0)
    likeness = (unit.T @ unit).relu_().pow_(power)
    # A position without any feature is like itself alone.
    likeness.fill_diagonal_(1)
    return likeness.div_(likeness.sum(dim=1, keepdim=True))


def spread(maps: Tensor, features: Tensor, power: float = 2.0) -> Tensor:
    """Maps in which each position takes the mean of the positions whose features are like its own.

    Args:
        maps: Activation maps [n,h',w'], not negative.
        features: Features [C,h,w] of the same image; the answer is on their grid.
        power: See `feature_affinity`.

    Returns:
        Maps float32 [n,h,w], not negative.

    Raises:
        ValueError: The shapes are not as said.

    Example:
        >>> spread(torch.rand(2, 30, 40), torch.rand(80, 8, 10)).shape
        torch.Size([2, 8, 10])
    """
    maps, features = finite_maps(maps, "maps"), finite_maps(features, "features")
    if maps.ndim != 3:
        raise ValueError(f"expected maps [n,h,w], got {tuple(maps.shape)}")
    size = (features.shape[-2], features.shape[-1])
    weights = feature_affinity(features, power)
    if not len(maps):
        return maps.new_zeros(0, *size)
    if maps.shape[-2:] != size:
        maps = functional.interpolate(maps[None].float(), size=size, mode="area")[0]
    return (maps.float().flatten(1) @ weights.T).view(len(maps), *size)


def spread_over_scales(
    maps: Tensor, details: Sequence[Tensor], size: tuple[int, int], power: float = 2.0
) -> Tensor:
    """The mean of maps spread along features of several sizes of the image, min-max normalized.

    Args:
        maps: Activation maps [n,h',w'], not negative.
        details: Features [C,h_i,w_i] of the same image at each size.
        size: Height and width of the answer.
        power: See `feature_affinity`.

    Returns:
        Maps float32 [n,h,w] in 0..1.
    """
    wide = [
        functional.interpolate(
            spread(maps, features, power)[None], size=size, mode="bilinear", align_corners=False
        )[0]
        for features in details
    ]
    return min_max_normalized(torch.stack(wide).mean(dim=0))


def min_max_normalized(maps: Tensor) -> Tensor:
    """Each map brought to 0..1 by its own minimum and maximum.

    A spread map never reaches 0: every position takes a little of every other.

    Args:
        maps: Maps [...,h,w].

    Returns:
        Maps of the same shape; a map of one value becomes 0.
    """
    low = maps.amin(dim=(-2, -1), keepdim=True)
    return (maps - low) / (maps.amax(dim=(-2, -1), keepdim=True) - low).clamp_min(1e-5)
