"""Stage `walk`: maps walk at random up to the boundaries that `relate` learnt."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from weakseg.ops.cams import grid_size, upsampled
from weakseg.ops.walk import walked_scores
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps, chosen_map, map_stage
from weakseg.runs.processes import own_share
from weakseg.stages.cams import map_batches
from weakseg.stages.classify import load_network
from weakseg.stages.evidence import evidence_strengths
from weakseg.stages.relate import boundaries, load_relations
from weakseg.training.device import Inference

_MAX_PIXELS = 500_000
"""Maximum pixels of a batch: their mirror images and the relation network come on top."""


def walk(context: StageContext) -> Mapping[str, object]:
    """Walk the maps of every image that has no result; writes `<id>.npz` (see `ImageMaps`).

    The walk grows maps to whole things. A class that surfaces tell, with strength w (stage
    `evidence`), ends where its surface does, whatever it lies on: from w = 1/2 on, where surfaces
    are rather right than wrong, it does not walk, and below it its maps are
    walked^(1 − 2w) · before^(2w). Beside the maps `walk` it keeps the `boundary` probabilities
    [h,w].
    """
    config, catalog = context.config, context.catalog
    own = own_share(catalog.samples)
    pending = [s for s in own if not context.dir.image_file(s.id, ".npz").is_file()]
    inference = Inference(config.device, config.precision)
    network = load_network(context).to(inference.device)
    network = network.to(memory_format=torch.channels_last)
    net = load_relations(context).to(inference.device)
    stage = map_stage(context)
    settled = (2 * evidence_strengths(context)).clamp(max=1)
    with context.track("walk", len(own), done=len(own) - len(pending)) as advance:
        for samples, images in map_batches(context, pending, _MAX_PIXELS):
            pixels = images.to(inference.device, memory_format=torch.channels_last)
            grid = grid_size(pixels.shape[-2], pixels.shape[-1])
            with inference.autocast():
                features = network.pyramid(torch.cat([pixels, pixels.flip(-1)]))
            found = boundaries([x.float() for x in features], net, grid)
            for boundary, sample in zip(found, samples, strict=True):
                kept = ImageMaps.load(context.run.path, stage, sample.id)
                start = chosen_map(context, stage, kept).to(boundary.device)
                stays = settled[kept.classes].to(boundary.device)
                walked = _walked(start, boundary, stays, context)
                maps = ImageMaps(kept.classes, kept.size, {"walk": walked}, boundary)
                maps.save(context.dir, sample.id)
            advance(len(samples))
    return {"images": len(catalog)}


def _walked(maps: Tensor, boundary: Tensor, stays: Tensor, context: StageContext) -> Tensor:
    """Maps [n,h',w'] after the walk, [n,h,w] on the boundary's grid.

    The share `stays` [n] of each class does not walk.
    """
    if not len(maps):
        return maps.new_zeros(0, *boundary.shape)
    if maps.shape[-2:] != boundary.shape:
        maps = upsampled(maps, (boundary.shape[0], boundary.shape[1])).clamp(0, 1)
    walked = walked_scores(maps, boundary, context.config.walk)
    stays = stays[:, None, None]
    return walked ** (1 - stays) * maps**stays
