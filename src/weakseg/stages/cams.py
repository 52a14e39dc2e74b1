"""Stage `cams`: class activation maps of every image, kept at stride 4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from weakseg.data.datasets import BatchesOfOneSize, WholeImages
from weakseg.data.images import image_size
from weakseg.ops.cam import multi_scale_cams, normalized, working_size
from weakseg.rundir import StageContext
from weakseg.stages.classify import load_network, reading_workers
from weakseg.training.fit import accelerator_for
from weakseg.training.memory import kept_memory
from weakseg.types import RunError

BRANCHES = ("spotlight", "compensation")
_MAX_PIXELS = 2_000_000
"""Most pixels of a batch at scale 1, which bounds memory."""


@kept_memory()
def cams(context: StageContext) -> Mapping[str, object]:
    """Compute the maps of every image that has none yet; writes `<id>.npz` (see `load_cams`)."""
    config = context.config
    settings = config.cams
    pending, sizes, full = [], [], []
    for sample in context.catalog:
        if context.dir.file(f"{sample.id}.npz").is_file():
            continue
        size = image_size(sample.image)
        pending.append(sample)
        full.append(size)
        sizes.append(working_size(*size, settings.long_side))
    batches = BatchesOfOneSize(sizes, settings.batch_size, _MAX_PIXELS)
    workers = reading_workers(config.fit)
    loader = DataLoader(
        WholeImages(pending, sizes),
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )
    accelerator = accelerator_for(config.device, config.precision)
    network = load_network(context).to(accelerator.device)
    network = network.to(memory_format=torch.channels_last)

    def forward(images: Tensor) -> list[Tensor]:
        with accelerator.autocast():
            return [branch.cams for branch in network(images) if branch is not None]

    total, done = len(context.catalog), len(context.catalog) - len(pending)
    with context.track("cams", total, done=done) as advance:
        for indices, images in zip(batches, loader, strict=True):
            pixels = images.to(accelerator.device, memory_format=torch.channels_last).float() / 255
            maps = multi_scale_cams(forward, pixels, settings)
            for place, index in enumerate(indices):
                sample = pending[index]
                classes = sorted(sample.tags)
                arrays = {
                    name: normalized(branch[place, classes]).cpu().numpy().astype(np.float16)
                    for name, branch in zip(BRANCHES, maps, strict=False)
                }
                context.dir.write_npz(
                    f"{sample.id}.npz",
                    classes=np.array(classes, np.int64),
                    size=np.array(full[index], np.int64),
                    **arrays,
                )
            advance(len(indices))
    return {"images": total, "maps": sum(len(sample.tags) for sample in context.catalog)}


def load_cams(run: Path, sample_id: str) -> dict[str, Tensor]:
    """The maps of an image.

    Args:
        run: The run's folder, its stage `cams` finished.
        sample_id: The image.

    Returns:
        `classes` int64 [n] (counted from 0), `size` int64 [2] (height and width of the image),
        and `spotlight` and, with two branches, `compensation`: float32 [n,h,w] in 0..1 on the
        stride-4 grid of the resized image.

    Raises:
        RunError: The file is missing or damaged.
    """
    path = run / "cams" / f"{sample_id}.npz"
    try:
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove it and its folder's "
            "done.json, and run again"
        ) from error
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in arrays.items()
    }
