"""Stage `cams`: class activation maps of every image, kept at stride 4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from weakseg.data.datasets import BatchesOfOneSize, WholeImages
from weakseg.data.images import image_size
from weakseg.ops.cam import multi_scale_cams, normalized, working_size
from weakseg.rundir import StageContext
from weakseg.stages.classify import load_network, reading_workers
from weakseg.stages.maps import BRANCHES
from weakseg.training.fit import accelerator_for
from weakseg.training.memory import kept_memory, release_memory
from weakseg.types import Sample

_RELEASED = 16
"""Images after which freed memory goes back: each release costs what fetching it again costs."""

_MAX_PIXELS = 2_000_000
"""Most pixels of a batch at scale 1, which bounds memory."""


@kept_memory()
def cams(context: StageContext) -> Mapping[str, object]:
    """Compute the maps of every image that has none yet; writes `<id>.npz` (see `load_maps`)."""
    config = context.config
    settings = config.cams
    pending = [s for s in context.catalog if not context.dir.file(f"{s.id}.npz").is_file()]
    accelerator = accelerator_for(config.device, config.precision)
    network = load_network(context).to(accelerator.device)
    network = network.to(memory_format=torch.channels_last)

    def forward(images: Tensor) -> list[Tensor]:
        with accelerator.autocast():
            return [branch.cams for branch in network(images) if branch is not None]

    total, done = len(context.catalog), len(context.catalog) - len(pending)
    with context.track("cams", total, done=done) as advance:
        for samples, images in image_batches(context, pending):
            pixels = images.to(accelerator.device, memory_format=torch.channels_last).float() / 255
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


def image_batches(
    context: StageContext, samples: list[Sample], most: int = _MAX_PIXELS
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Samples of one size and their images, resized for maps.

    Args:
        context: The run.
        samples: The images.
        most: Most pixels of a batch.

    Yields:
        Some samples and their images uint8 [B,3,H,W].
    """
    settings = context.config.cams
    sizes = [working_size(*image_size(s.image), settings.long_side) for s in samples]
    batches = BatchesOfOneSize(sizes, settings.batch_size, most)
    workers = reading_workers(context.config.fit)
    loader = DataLoader(
        WholeImages(samples, sizes),
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )
    done = 0
    for indices, images in zip(batches, loader, strict=True):
        yield [samples[index] for index in indices], images
        before, done = done, done + len(indices)
        if done // _RELEASED > before // _RELEASED:
            release_memory()
