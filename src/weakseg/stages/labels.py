"""Label maps of images by a segmentation network, for the stages that need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from weakseg.config.run_config import RunConfig
from weakseg.data.images import image_size
from weakseg.models.segmenter import Segmenter
from weakseg.ops.label_maps import best_labels
from weakseg.ops.tta import PredictSettings, multi_scale_probabilities
from weakseg.runs.image_batches import image_batches
from weakseg.training.device import Inference
from weakseg.training.memory import kept_memory
from weakseg.types import Sample

_BATCH, _MAX_PIXELS = 4, 1_000_000
"""Most images and most pixels of a batch at scale 1, which bounds memory."""


def label_images(
    model: Segmenter,
    samples: Sequence[Sample],
    settings: PredictSettings,
    config: RunConfig,
    *,
    within_tags: bool = False,
) -> Iterator[tuple[Sample, Tensor]]:
    """The label map of each image at its full size, largest images first.

    Args:
        model: The network; it is moved to where the run computes.
        samples: The images.
        settings: How the network looks at them.
        config: Where and how fast to compute.
        within_tags: Whether only background and an image's own tags are possible.

    Yields:
        An image and its labels uint8 [H,W].
    """
    inference = Inference(config.device, config.precision)
    model = model.to(inference.device).to(memory_format=torch.channels_last).eval()

    def forward(images: Tensor) -> Tensor:
        with inference.autocast():
            logits: Tensor = model(images)
            return logits

    with kept_memory():
        for some, images in image_batches(
            samples,
            config.segment.fit,
            long_side=model.long_side,
            most=_BATCH,
            pixels=_MAX_PIXELS,
        ):
            pixels = images.to(inference.device).float() / 255
            probabilities = multi_scale_probabilities(
                forward,
                pixels.contiguous(memory_format=torch.channels_last),
                settings.scales,
                settings.mirror,
            )
            for sample, maps in zip(some, probabilities, strict=True):
                allowed = (0, *(tag + 1 for tag in sorted(sample.tags))) if within_tags else None
                yield sample, best_labels(maps, image_size(sample.image), allowed).cpu()
