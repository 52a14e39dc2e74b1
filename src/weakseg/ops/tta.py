"""Labels by a segmentation network: over scales and mirror images, within given classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor
from torch.nn import functional

from weakseg.ops.crf import CRFSettings

_FORWARD_PIXELS = 1_000_000
"""Maximum pixels that go through the network at once; a larger image goes alone."""


class PredictSettings(BaseModel):
    """How a segmentation network predicts an image.

    Attributes:
        scales: Multiples of the network's working size at which it looks.
        mirror: Whether it also sees the mirror image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scales: tuple[PositiveFloat, ...] = Field(
        (1.0,), min_length=1, description="multiples of the working size"
    )
    mirror: bool = Field(True, description="use the mirror image, too")


class ValidatePredictSettings(PredictSettings):
    """How it predicts images that it is scored on.

    Attributes:
        crf: The dense CRF that its probabilities go through, its deviations in pixels of an image
            of long side 500; None: the most probable label is taken.
    """

    crf: CRFSettings | None = Field(None, description="dense CRF on the probabilities; null: none")


@torch.no_grad()
def multi_scale_probabilities(
    forward: Callable[[Tensor], Tensor], images: Tensor, scales: Sequence[float], mirror: bool
) -> Tensor:
    """Probabilities of every pixel, the mean over scales and mirror images.

    Args:
        forward: From images [N,C,h,w] to logits [N,C,h,w].
        images: Images of one size [B,C,H,W], in 0..1 or uint8.
        scales: Multiples of that size at which the network looks.
        mirror: Whether it also sees the mirror image.

    Returns:
        Probabilities float32 [B,C,H,W], their sum over C is 1.

    Raises:
        ValueError: The images are not [B,C,H,W], or there are no scales.
    """
    if images.ndim != 4 or not scales:
        raise ValueError(
            f"expected images [B,C,H,W] and some scales, got {tuple(images.shape)}, {scales}"
        )
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    height, width = pixels.shape[-2:]
    total = pixels.new_zeros(())
    for scale in scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = pixels
        if size != (height, width):
            scaled = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        for turned in (False, True) if mirror else (False,):
            views = scaled.flip(-1) if turned else scaled
            if images.is_contiguous(memory_format=torch.channels_last):
                views = views.contiguous(memory_format=torch.channels_last)
            piece = max(1, _FORWARD_PIXELS // (size[0] * size[1]))
            parts = [forward(part).float().softmax(dim=1) for part in torch.split(views, piece)]
            found = torch.cat(parts)
            found = found.flip(-1) if turned else found
            if size != (height, width):
                found = functional.interpolate(found, size=(height, width), mode="bilinear")
            total = total + found
    return total / (len(scales) * (1 + mirror))
