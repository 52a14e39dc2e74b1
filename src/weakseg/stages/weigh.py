"""Stage `weigh`: the compensation branch's maps, and both branches' weighted maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.ops.cams import grid_size, normalized, resized_images, weighted_cam
from weakseg.ops.propagation import spread_over_scales
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import SPREAD, ImageMaps
from weakseg.runs.processes import own_share
from weakseg.stages.cams import MapNetwork, examples, map_batches
from weakseg.stages.recalibrate import load_branches
from weakseg.training.device import Inference
from weakseg.training.memory import kept_memory

_MAX_PIXELS = 500_000
"""Maximum pixels of a batch: features are taken at larger scales, too."""


@kept_memory()
def weigh(context: StageContext) -> Mapping[str, object]:
    """Compute and weigh the maps of every image that has none yet; writes `<id>.npz`.

    The compensation branch's maps are taken like the spotlight's and, if set, spread along the same
    network's features. They are weighted with the spotlight's of the same kind:
    M_W = ξ·M_S + (1−ξ)·M_C (Activation Modulation and Recalibration, AAAI 2022, equation 10).
    """
    config, catalog = context.config, context.catalog
    inference = Inference(config.device, config.precision)
    network = load_branches(context).to(inference.device)
    moved = config.amr.supervision == "maps"  # the spotlight learnt on, too
    own = MapNetwork(
        network,
        inference,
        (images for _, images in map_batches(context, examples(context))),
        ("compensation", "spotlight") if moved else ("compensation",),
        config.cams.method,
    )
    share = own_share(catalog.samples)
    pending = [s for s in share if not context.dir.image_file(s.id, ".npz").is_file()]
    with context.track("weigh", len(share), done=len(share) - len(pending)) as advance:
        for samples, images in map_batches(context, pending, _MAX_PIXELS):
            maps = own.maps(images, [sample.tags for sample in samples], config.cams)
            details: list[Tensor] = []
            if config.spread.spreading:
                pixels = images.to(inference.device, memory_format=torch.channels_last)
                details = [
                    network.details(resized_images(pixels.float() / 255, scale))
                    for scale in config.spread.scales
                ]
            for place, sample in enumerate(samples):
                kept = ImageMaps.load(context.run.path, "cams", sample.id)
                classes = kept.classes.tolist()
                found = [normalized(branch[place, classes]) for branch in maps]
                if not moved:
                    found.append(_alike(kept.maps["spotlight"], found[0]))
                kinds = _weighted(found[0], found[1], config.cams.xi)
                if details:
                    size = grid_size(images.shape[-2], images.shape[-1])
                    features = [each[place] for each in details]
                    wide = [
                        spread_over_scales(map_, features, size, config.spread.power)
                        if classes
                        else map_
                        for map_ in found[: len(maps)]
                    ]
                    if not moved:
                        spread = ImageMaps.load(context.run.path, "spread", sample.id)
                        wide.append(_alike(spread.maps["spotlight"], wide[0]))
                    both = _weighted(wide[0], wide[1], config.cams.xi)
                    kinds |= {f"{name}{SPREAD}": value for name, value in both.items()}
                ImageMaps(kept.classes, kept.size, kinds).save(context.dir, sample.id)
            advance(len(samples))
    return {"images": len(catalog)}


def _alike(spotlight: Tensor, compensation: Tensor) -> Tensor:
    """The spotlight's maps on the compensation's grid: another program's have one of their own."""
    spotlight = spotlight.to(compensation.device)
    if not len(spotlight) or spotlight.shape == compensation.shape:
        return spotlight
    return functional.interpolate(
        spotlight[None],
        size=compensation.shape[-2:],
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0]


def _weighted(compensation: Tensor, spotlight: Tensor, xi: float) -> dict[str, Tensor]:
    weighted = compensation
    if len(compensation):  # the maximum of no map is not known
        weighted = weighted_cam(spotlight, compensation, xi)
    return {"compensation": compensation.clamp(0, 1), "weighted": weighted.clamp(0, 1)}
