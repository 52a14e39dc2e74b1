"""Losses on tags and between the two branches."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Maps = Literal["raw", "normalized"]


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Multi-label soft-margin loss: the mean binary cross entropy of each class's sigmoid.

    Args:
        logits: Class scores [B,K].
        tags: What is in each image [B,K], 0 or 1.

    Returns:
        The loss, a scalar.
    """
    return nn.functional.multilabel_soft_margin_loss(logits, tags.to(logits.dtype))


def cross_pseudo_supervision(
    spotlight: Tensor,
    compensation: Tensor,
    tags: Tensor,
    *,
    maps: Maps = "normalized",
    mutual: bool = True,
) -> Tensor:
    """Mean distance of the branches' maps, by which each corrects the other.

    L_cps = mean |M_S − M_C|. Activation Modulation and Recalibration (AAAI 2022), equation 8.

    Args:
        spotlight: Maps of the spotlight branch [B,K,h,w], not negative.
        compensation: Maps of the compensation branch [B,K,h,w], not negative.
        tags: What is in each image [B,K], 0 or 1; used by `normalized` maps only.
        maps: `raw`: the maps as they are, over all classes (the paper). Raw maps can approach each
            other by shrinking alone. `normalized`: each map divided by its maximum, over the tags
            of the image only, since a map of an absent class is noise.
        mutual: True: both branches move; False: the spotlight's maps are a fixed target.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: The maps differ in shape.
    """
    if spotlight.shape != compensation.shape:
        raise ValueError(
            f"expected maps of one shape, got {tuple(spotlight.shape)} "
            f"and {tuple(compensation.shape)}"
        )
    if not mutual:
        spotlight = spotlight.detach()
    if maps == "raw":
        return (spotlight - compensation).abs().mean()
    distance = (_normalized(spotlight) - _normalized(compensation)).abs().mean(dim=(2, 3))
    tags = tags.to(distance.dtype)
    return (distance * tags).sum() / tags.sum().clamp_min(1)


def _normalized(maps: Tensor) -> Tensor:
    peak = maps.detach().amax(dim=(2, 3), keepdim=True)
    return maps / peak.clamp_min(torch.finfo(maps.dtype).eps)
