"""Stage `cams`: class activation maps of every image, kept at stride 4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from weakseg.data.images import image_size
from weakseg.ops.cam import multi_scale_cams, normalized
from weakseg.rundir import StageContext
from weakseg.stages.classify import load_network
from weakseg.stages.maps import BRANCHES
from weakseg.stages.reading import image_batches
from weakseg.training.device import Inference
from weakseg.training.memory import kept_memory
from weakseg.types import Sample

_MAX_PIXELS = 2_000_000
"""Most pixels of a batch at scale 1, which bounds memory."""


@kept_memory()
def cams(context: StageContext) -> Mapping[str, object]:
    """Compute the maps of every image that has none yet; writes `<id>.npz` (see `load_maps`)."""
    config = context.config
    settings = config.cams
    pending = [s for s in context.catalog if not context.dir.file(f"{s.id}.npz").is_file()]
    inference = Inference(config.device, config.precision)
    network = load_network(context).to(inference.device)
    network = network.to(memory_format=torch.channels_last)

    def forward(images: Tensor) -> list[Tensor]:
        shared = network.encode(images)  # in float32: most of bf16's error, little of its gain
        with inference.autocast():
            return [branch.cams for branch in network.branches(shared) if branch is not None]

    total, done = len(context.catalog), len(context.catalog) - len(pending)
    with context.track("cams", total, done=done) as advance:
        for samples, images in map_batches(context, pending):
            pixels = images.to(inference.device, memory_format=torch.channels_last).float() / 255
            maps = multi_scale_cams(forward, pixels, settings)
            for place, sample in enumerate(samples):
                classes = sorted(sample.tags)
                arrays = {
                    name: normalized(branch[place, classes]).cpu().numpy().astype(np.float16)
                    for name, branch in zip(BRANCHES, maps, strict=False)
                }
                context.dir.write_npz(
                    f"{sample.id}.npz",
                    classes=np.array(classes, np.int64),
                    size=np.array(image_size(sample.image), np.int64),
                    **arrays,
                )
            advance(len(samples))
    return {"images": total, "maps": sum(len(sample.tags) for sample in context.catalog)}


def map_batches(
    context: StageContext, samples: Sequence[Sample], pixels: int = _MAX_PIXELS
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Samples of one size and their images uint8 [B,3,H,W], resized as for all maps.

    Args:
        context: The run.
        samples: The images.
        pixels: Most pixels of a batch.
    """
    settings = context.config.cams
    return image_batches(
        samples,
        context.config.fit,
        long_side=settings.long_side,
        most=settings.batch_size,
        pixels=pixels,
    )
