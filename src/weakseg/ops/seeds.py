"""Confident seeds: where maps and image agree on a class or on background, and nowhere else."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from weakseg.ops.crf import CRFSettings, DenseCRF
from weakseg.types import BACKGROUND, IGNORE


class SeedSettings(BaseModel):
    """How maps become seeds.

    Attributes:
        foreground: Background score for the label map whose classes are kept; None: see `doubtful`.
        background: Background score for the label map whose background is kept.
        long_side: Images are brought to this long side for the CRF, in pixels; seeds are learnt
            from on a stride-4 grid, which needs no more.
        crf: The CRF, its deviations in pixels of an image of long side 500.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    foreground: float | None = Field(None, ge=0, le=1, description="score; null: by the threshold")
    background: float | None = Field(None, ge=0, le=1, description="score; null: by the threshold")
    long_side: int = Field(250, ge=32, description="long side for the CRF (pixels)")
    crf: CRFSettings = Field(default_factory=CRFSettings, description="the CRF")


_REFERENCE_SIDE = 500


def doubtful(threshold: float) -> tuple[float, float]:
    """The scores between which a pixel is neither sure background nor sure foreground.

    A third of the way from the background threshold to either end.

    Args:
        threshold: Background score, 0..1.

    Returns:
        The lower and the upper score.
    """
    return threshold * 2 / 3, threshold + (1 - threshold) / 3


def scaled_crf(settings: CRFSettings, long_side: int) -> CRFSettings:
    """The CRF for an image shrunk or enlarged to a long side, in pixels.

    Its deviations are in pixels of an image of long side 500, the size of the papers' images;
    so an object of an image is refined alike at every size.

    Args:
        settings: Deviations in pixels at long side 500.
        long_side: Of the image, in pixels.
    """
    factor = long_side / _REFERENCE_SIDE
    return settings.model_copy(
        update={
            "gaussian_sxy": max(0.5, settings.gaussian_sxy * factor),
            "bilateral_sxy": max(0.5, settings.bilateral_sxy * factor),
        }
    )


def confident_seeds(
    image: Tensor, foreground: Tensor, background: Tensor, n_labels: int, crf: CRFSettings
) -> Tensor:
    """Seeds from two label maps of an image, one careful about classes, one about background.

    Both go through the dense CRF. A pixel is seed of a class where the first says so, of background
    where both say background (IRN, arXiv 1904.05044, section 5.2).

    Args:
        image: RGB image uint8 [3,H,W].
        foreground: Labels [H,W], 0..n_labels−1, from a high background score.
        background: Labels [H,W] from a low background score.
        n_labels: Number of labels, background included.
        crf: Kernels in pixels of this image.

    Returns:
        Labels uint8 [H,W], 255 where neither is sure.

    Raises:
        ValueError: The shapes are not as said.

    Example:
        >>> image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        >>> sure, maybe = torch.zeros(8, 8, dtype=torch.uint8), torch.ones(8, 8, dtype=torch.uint8)
        >>> confident_seeds(image, sure, maybe, 2, CRFSettings(iterations=0)).unique()
        tensor([255], dtype=torch.uint8)
    """
    first, second = DenseCRF(image, crf).label(torch.stack([foreground, background]), n_labels)
    seeds: Tensor = first.clone()
    seeds[(first == BACKGROUND) & (second != BACKGROUND)] = IGNORE
    return seeds
