"""Torch data sets: training views with tags or masks, whole images in batches of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from weakseg.data.images import read_mask, read_sample, resized
from weakseg.data.transforms import (
    AugmentSettings,
    MaskAugmentSettings,
    augment,
    augment_pair,
    random_view,
    resized_labels,
)
from weakseg.types import IGNORE, Catalog, Sample


class TaggedViews(Dataset[tuple[Tensor, Tensor]]):
    """Random views of the images of a catalog with their tags.

    An item is asked for by (epoch, index): its view depends on these and the seed alone, neither on
    the worker that makes it nor on what was asked before, so that a resumed training sees the same.

    Args:
        catalog: The images and tags.
        settings: How images are varied.
        seed: Of the variation.
        channels: Of the images, see `read_image`.
    """

    def __init__(
        self, catalog: Catalog, settings: AugmentSettings, seed: int = 0, *, channels: int = 3
    ) -> None:
        self.catalog, self.settings, self.seed = catalog, settings, seed
        self.channels = channels

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The view uint8 [C,crop,crop] and the tags float32 [K] of an image in an epoch."""
        epoch, index = key
        sample = self.catalog.samples[index]
        generator = torch.Generator().manual_seed(hash((self.seed, epoch, index)) & (2**63 - 1))
        image = read_sample(sample, max_side=2 * self.settings.long_side[1], channels=self.channels)
        view = augment(image, self.settings, generator)
        return view, tag_vector(sample, len(self.catalog.classes))


class RecalibrationViews(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Random views of images, of label maps of them, and tags, asked for as `TaggedViews`.

    Args:
        catalog: The images and tags.
        labels: The label file of each, of any size.
        settings: How they are varied.
        seed: Of the variation.
        channels: Of the images, see `read_image`.
    """

    def __init__(
        self,
        catalog: Catalog,
        labels: Sequence[Path],
        settings: AugmentSettings,
        seed: int = 0,
        *,
        channels: int = 3,
    ) -> None:
        self.catalog, self.labels, self.settings, self.seed = catalog, labels, settings, seed
        self.channels = channels

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The view uint8 [C,crop,crop], its labels uint8 [crop,crop] and the tags float32 [K]."""
        epoch, index = key
        sample, settings = self.catalog.samples[index], self.settings
        generator = torch.Generator().manual_seed(hash((self.seed, epoch, index)) & (2**63 - 1))
        image = read_sample(sample, max_side=2 * settings.long_side[1], channels=self.channels)
        size = (image.shape[-2], image.shape[-1])
        view = random_view(size, settings, generator)
        labels = resized_labels(read_mask(self.labels[index]), size)
        return (
            view.of(image, settings.crop, settings.fill),
            view.of(labels[None], settings.crop, IGNORE, labels=True)[0],
            tag_vector(sample, len(self.catalog.classes)),
        )


class MaskedViews(Dataset[tuple[Tensor, Tensor]]):
    """Random views of images and of their masks, asked for by (epoch, index) as `TaggedViews`.

    Args:
        samples: The images.
        masks: The mask file of each.
        settings: How they are varied.
        seed: Of the variation.
        channels: Of the images, see `read_image`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        masks: Sequence[Path],
        settings: MaskAugmentSettings,
        seed: int = 0,
        *,
        channels: int = 3,
    ) -> None:
        self.samples, self.masks, self.settings, self.seed = samples, masks, settings, seed
        self.channels = channels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The view uint8 [C,crop,crop] and its labels uint8 [crop,crop], 255 where unknown."""
        epoch, index = key
        generator = torch.Generator().manual_seed(hash((self.seed, epoch, index)) & (2**63 - 1))
        image = read_sample(
            self.samples[index],
            max_side=2 * self.settings.long_side[1],
            channels=self.channels,
        )
        return augment_pair(image, read_mask(self.masks[index]), self.settings, generator)


class ShuffledBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) over all epochs, shuffled anew in each, the same for the same seed.

    An epoch's last batch is filled from its start, so that all batches have one size. Batches may
    be given in pieces, one after the other, to be accumulated or shared by processes: the batches
    are the same ones however many pieces they are given in.

    Args:
        count: Number of items.
        batch_size: Items a batch.
        epochs: Number of epochs.
        seed: Of the order.
        limit: Most batches in all; None: those of all epochs.
        pieces: Equal pieces that each batch is given in; the length counts pieces.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        epochs: int,
        seed: int = 0,
        *,
        limit: int | None = None,
        pieces: int = 1,
    ) -> None:
        if batch_size % pieces:
            raise ValueError(f"expected a multiple of {pieces} items a batch, got {batch_size}")
        self.count, self.epochs, self.seed = count, epochs, seed
        self.whole, self.pieces, self.limit = batch_size, pieces, limit
        # Of what is given at once: accelerate takes shorter batches for incomplete ones.
        self.batch_size = batch_size // pieces
        self.batches_per_epoch = -(-count // batch_size)

    @property
    def batches(self) -> int:
        """How many batches there are in all, whole ones."""
        batches = self.epochs * self.batches_per_epoch
        return batches if self.limit is None else min(batches, self.limit)

    def __len__(self) -> int:
        return self.batches * self.pieces

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in islice(self._all(), self.batches):
            for start in range(0, self.whole, self.batch_size):
                yield batch[start : start + self.batch_size]

    def _all(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self.epochs):
            generator = torch.Generator().manual_seed(hash((self.seed, epoch)) & (2**63 - 1))
            order = torch.randperm(self.count, generator=generator).tolist()
            for start in range(0, self.batches_per_epoch * self.whole, self.whole):
                places = range(start, start + self.whole)
                yield [(epoch, order[place % self.count]) for place in places]


class WholeImages(Dataset[Tensor]):
    """Whole images by index, resized, uint8 [C,h,w].

    Args:
        samples: The images.
        sizes: Height and width that each is resized to, in pixels.
        channels: Of the images, see `read_image`.
    """

    def __init__(
        self, samples: Sequence[Sample], sizes: Sequence[tuple[int, int]], *, channels: int = 3
    ) -> None:
        self.samples, self.sizes, self.channels = samples, sizes, channels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        """The image of this index."""
        size = self.sizes[index]
        image = read_sample(self.samples[index], max_side=max(size), channels=self.channels)
        return resized(image, size)


class BatchesOfOneSize(Sampler[list[int]]):
    """Batches of indices of images of equal size, largest images first.

    Args:
        sizes: Height and width of each image.
        batch_size: Maximum images per batch.
        max_pixels: Maximum pixels per batch; an image larger than that stands alone.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int, max_pixels: int) -> None:
        groups: dict[tuple[int, int], list[int]] = {}
        for index, size in enumerate(sizes):
            groups.setdefault(size, []).append(index)
        self.batches = []
        for (height, width), group in sorted(groups.items(), key=lambda g: -g[0][0] * g[0][1]):
            step = max(1, min(batch_size, max_pixels // (height * width)))
            self.batches += [group[i : i + step] for i in range(0, len(group), step)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def tag_vector(sample: Sample, classes: int) -> Tensor:
    """The tags of a sample as float32 [K], 0 or 1."""
    vector = torch.zeros(classes)
    vector[sorted(sample.tags)] = 1
    return vector
