"""Whole images read ahead, in batches of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader

from weakseg.data.datasets import BatchesOfOneSize, WholeImages
from weakseg.data.images import image_size
from weakseg.data.loading import KeptErrors, collated, raised
from weakseg.models.backbones import BackboneSettings, cell_of
from weakseg.ops.cams import network_size
from weakseg.processors import available_processors
from weakseg.training.fit import FitSettings
from weakseg.training.memory import release_memory
from weakseg.types import Sample

_RELEASED = 16
"""Images after which freed memory goes back: each release costs what fetching it again costs."""


def reading_workers(settings: FitSettings) -> int:
    """How many processes read images."""
    if settings.workers is not None:
        return settings.workers
    return min(8, max(1, available_processors() - 1))


def image_batches(
    samples: Sequence[Sample],
    settings: FitSettings,
    backbone: BackboneSettings,
    *,
    long_side: int,
    most: int,
    pixels: int,
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Samples of one size and their images, the largest first.

    Args:
        samples: The images.
        settings: How many processes read.
        backbone: The network that they are for: its channels, and what sizes suit it.
        long_side: To which images are resized, about, in pixels; see `network_size`.
        most: Maximum images of a batch.
        pixels: Maximum pixels of a batch; a larger image goes alone.

    Raises:
        FileError: An image cannot be read.

    Yields:
        Some samples and their images uint8 [B,C,H,W].
    """
    cell = cell_of(backbone.name)
    sizes = [network_size(*image_size(sample.image), long_side, cell) for sample in samples]
    batches = BatchesOfOneSize(sizes, most, pixels)
    workers = reading_workers(settings)
    loader = DataLoader(
        KeptErrors(WholeImages(samples, sizes, channels=backbone.in_chans)),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collated,
        prefetch_factor=2 if workers else None,
    )
    done = 0
    for indices, images in zip(batches, raised(loader), strict=True):
        yield [samples[index] for index in indices], images
        before, done = done, done + len(indices)
        if done // _RELEASED > before // _RELEASED:
            release_memory()
