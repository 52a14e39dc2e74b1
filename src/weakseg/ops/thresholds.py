"""A background threshold from the maps alone, without truth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BINS = 256


def score_histogram(maps: Tensor) -> Tensor:
    """How the foreground scores of an image are spread.

    Args:
        maps: Normalized maps [n,h,w] in 0..1 of the image's tags; the highest at each position is
            its foreground score.

    Returns:
        Shares float64 [256] of the positions, summing to 1 so that images of all sizes count alike;
        zeros for an image without tags.
    """
    if len(maps) == 0 or maps[0].numel() == 0:
        return torch.zeros(BINS, dtype=torch.float64)
    scores = maps.amax(dim=0).float().clamp(0, 1)
    counts = torch.histc(scores.cpu(), BINS, 0, 1).double()
    return counts / counts.sum()


def otsu_threshold(histogram: Tensor) -> float:
    """The threshold that parts scores into two groups of greatest variance between them.

    Otsu, A threshold selection method from gray-level histograms (IEEE SMC 1979).

    Args:
        histogram: Weights [N] of N equal bins of 0..1.

    Returns:
        Upper end of the last background bin, 0..1.
    """
    below, sum_below, total, centres = _moments(histogram)
    above = 1 - below
    variance = (total * below - sum_below) ** 2 / (below * above).clamp_min(1e-12)
    return _edge(variance[:-1].argmax(), centres)


def cross_entropy_threshold(histogram: Tensor) -> float:
    """The threshold whose two group means describe the scores with least cross entropy.

    Li and Lee, Minimum cross entropy thresholding (Pattern Recognition 1993).

    Args:
        histogram: Weights [N] of N equal bins of 0..1.

    Returns:
        Upper end of the last background bin, 0..1.
    """
    below, sum_below, total, centres = _moments(histogram)
    above, sum_above = 1 - below, total - sum_below
    entropy = -(
        torch.xlogy(sum_below, sum_below / below.clamp_min(1e-12))
        + torch.xlogy(sum_above.clamp_min(0), sum_above.clamp_min(0) / above.clamp_min(1e-12))
    )
    return _edge(entropy[:-1].argmin(), centres)


def blind_threshold(histogram: Tensor) -> float:
    """A background threshold for class activation maps, chosen without truth.

    Midway between two classical criteria that err to opposite sides here: the scores of CAMs fall
    off smoothly from a large dark background to a small bright core, where Otsu's variance keeps
    only the core and Li's cross entropy lets in what is merely not quite dark.

    Args:
        histogram: Scores pooled over images, weights [N] of N equal bins of 0..1; the sum of
            `score_histogram` over the images with tags.

    Returns:
        The threshold, 0..1.

    Raises:
        ValueError: The histogram has no weight at all.

    Example:
        >>> blind_threshold(score_histogram(torch.rand(1, 50, 50)))  # doctest: +SKIP
        0.44
    """
    if histogram.ndim != 1 or float(histogram.sum()) <= 0:
        raise ValueError(f"expected weights [N] that are not all 0, got {tuple(histogram.shape)}")
    return (otsu_threshold(histogram) + cross_entropy_threshold(histogram)) / 2


def _moments(histogram: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Share and score sum up to each bin, the whole score sum, and the bins' centres."""
    weights = histogram.double() / histogram.double().sum()
    centres = (torch.arange(len(weights), dtype=torch.float64) + 0.5) / len(weights)
    sums = (weights * centres).cumsum(0)
    return weights.cumsum(0), sums, sums[-1], centres


def _edge(index: Tensor, centres: Tensor) -> float:
    return (int(index) + 1) / len(centres)


def parted_at_half(maps: Tensor, threshold: float) -> Tensor:
    """Maps in 0..1 on a scale on which a threshold becomes one half; 0 and 1 stay.

    Args:
        maps: Normalized maps, of any shape.
        threshold: 0..1.
    """
    inside = min(max(threshold, 1e-3), 1 - 1e-3)
    return maps if threshold == 0.5 else maps ** (math.log(0.5) / math.log(inside))
