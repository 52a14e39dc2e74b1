"""How sure a run is of the masks it made."""

from __future__ import annotations

from torch import Tensor

from weakseg.ops.cams import upsampled
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps, chosen_map, last_stage


def mask_confidences(context: StageContext, sample_id: str, labels: Tensor) -> dict[int, float]:
    """The confidence of each class's mask in an image: the mean of its map inside the mask.

    The map is the one the masks were made of. A mask that follows its map closely down to a low
    threshold scores lower than one that keeps to the map's heights; compare the images of one run
    by it, not runs.

    Args:
        context: The run, its stage `masks` finished.
        sample_id: The image.
        labels: Its mask [H,W] at the image's full size: 0 background, k + 1 class k.

    Returns:
        Per mask index k + 1 a confidence 0..1; only of classes that have both pixels and a map.

    Raises:
        RunError: The maps are missing or damaged.
    """
    stage = last_stage(context)
    kept = ImageMaps.load(context.run.path, stage, sample_id)
    height, width = labels.shape
    found = {}
    indices = (kept.classes + 1).tolist()
    for map_, index in zip(chosen_map(context, stage, kept), indices, strict=True):
        inside = labels == index
        if bool(inside.any()):
            found[index] = float(upsampled(map_[None], (height, width))[0][inside].mean())
    return found
