"""How sure a run is of the masks it made."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from weakseg.ops.cam import upsampled, weighted_cam
from weakseg.stages.maps import load_maps


def mask_confidences(run: Path, sample_id: str, labels: Tensor, *, xi: float) -> dict[int, float]:
    """The confidence of each class's mask in an image: the mean of its map inside the mask.

    The map is the weighted one (of a plain CAM network its only one), whose maximum over the image
    is 1. A mask that follows its map closely down to a low threshold scores lower than one that
    keeps to the map's heights; compare the images of one run by it, not runs.

    Args:
        run: The run's folder, its stage `cams` finished.
        sample_id: The image.
        labels: Its mask [H,W] at the image's full size: 0 background, k + 1 class k.
        xi: Weight ξ of the spotlight in the weighted map, 0..1.

    Returns:
        Per mask index k + 1 a confidence 0..1; only of classes that have both pixels and a map.

    Raises:
        RunError: The maps are missing or damaged.
    """
    kept = load_maps(run, sample_id)
    maps = kept["spotlight"]
    if "compensation" in kept:
        maps = weighted_cam(maps, kept["compensation"], xi)
    height, width = labels.shape
    found = {}
    for map_, index in zip(maps, (kept["classes"] + 1).tolist(), strict=True):
        inside = labels == index
        if bool(inside.any()):
            found[index] = float(upsampled(map_[None], (height, width))[0][inside].mean())
    return found
