"""Class scores of the network's size to the labels of an image of any size, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.types import BACKGROUND, IGNORE

_STRIP = 8_000_000
"""Most scores of a strip of rows at full size: 32 MB of float32."""


@torch.no_grad()
def best_labels(
    scores: Tensor, size: tuple[int, int], allowed: Sequence[int] | None = None
) -> Tensor:
    """The label of the highest score of each pixel of an image.

    Scores are enlarged bilinearly (pixel centres aligned as in `functional.interpolate`) in strips
    of rows, so that many classes at many megapixels need no more memory than a few.

    Args:
        scores: [C,h,w] of C labels, of any range.
        size: Height and width of the image in pixels.
        allowed: The labels that may be chosen; None: all. The first wins ties.

    Returns:
        uint8 [H,W] on the scores' device.

    Raises:
        ValueError: There are more labels than a byte holds, or none is allowed.

    Example:
        >>> best_labels(torch.eye(2)[:, None], (1, 4))
        tensor([[0, 0, 1, 1]], dtype=torch.uint8)
    """
    if scores.ndim != 3 or not 1 <= len(scores) <= 255:
        raise ValueError(f"expected scores [C,h,w] of 1 to 255 labels, got {tuple(scores.shape)}")
    names = torch.arange(len(scores), dtype=torch.uint8, device=scores.device)
    if allowed is not None:
        if not allowed:
            raise ValueError("expected at least one label that is allowed, got none")
        names = names[list(allowed)]
        scores = scores[list(allowed)]
    if tuple(scores.shape[1:]) == size:
        return names[scores.max(dim=0).indices]
    height, width = size
    step = max(1, _STRIP // (len(scores) * max(width, scores.shape[2])))
    labels = torch.empty(size, dtype=torch.uint8, device=scores.device)
    for start in range(0, height, step):
        rows = _rows(scores, range(start, min(start + step, height)), height)
        wide = functional.interpolate(
            rows[None], size=(rows.shape[1], width), mode="bilinear", align_corners=False
        )[0]
        labels[start : start + step] = names[wide.max(dim=0).indices]
    return labels


@torch.no_grad()
def class_probabilities(
    scores: Tensor, *, logits: bool, allowed: Sequence[int] | None = None
) -> Tensor:
    """Probabilities of labels from a network's scores.

    Args:
        scores: [C,h,w]: logits, or probabilities already.
        logits: Which of them.
        allowed: The labels that may be; all others get 0. None: all.

    Returns:
        float32 [C,h,w], 1 in all at every position.
    """
    scores = scores.float()
    ruled_out = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    ruled_out[slice(None) if allowed is None else list(allowed)] = False
    if logits:
        return scores.masked_fill(ruled_out[:, None, None], -torch.inf).softmax(dim=0)
    kept = scores.masked_fill(ruled_out[:, None, None], 0)
    return kept / kept.sum(dim=0).clamp(min=1e-12)


def quartered(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [C,h,w] of an image of this size (pixels) as means on a grid of a quarter of it.

    Those on that grid, or on a coarser one, stay as they are.
    """
    grid = -(-size[0] // 4), -(-size[1] // 4)
    if maps.shape[1] <= grid[0] and maps.shape[2] <= grid[1]:
        return maps
    return functional.interpolate(maps[None], size=grid, mode="area")[0]


def class_labels(local: Tensor, classes: Tensor) -> Tensor:
    """Labels of an image's own classes as mask indices.

    Args:
        local: uint8 [H,W]: 0 background, i + 1 the i-th of `classes`, 255 unknown.
        classes: The image's classes, counted from 0, int64 [n].

    Returns:
        uint8 [H,W]: 0 background, k + 1 class k, 255 unknown.
    """
    names = torch.full((IGNORE + 1,), IGNORE, dtype=torch.uint8, device=local.device)
    names[0] = BACKGROUND
    names[1 : len(classes) + 1] = (classes + 1).to(names)
    return names[local.long()]


def _rows(scores: Tensor, wanted: range, height: int) -> Tensor:
    """The wanted ones of `height` rows that [C,h,w] is interpolated to, [C,n,w]."""
    last = scores.shape[1] - 1
    place = torch.arange(wanted.start, wanted.stop, device=scores.device, dtype=torch.float32)
    place = ((place + 0.5) * ((last + 1) / height) - 0.5).clamp(0, last)
    above = place.long()
    below = (above + 1).clamp(max=last)
    share = (place - above).to(scores.dtype)[:, None]
    return torch.lerp(scores[:, above], scores[:, below], share)
