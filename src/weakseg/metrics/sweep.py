"""Scores of maps at every background threshold, in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from weakseg.metrics.confusion import (
    as_bytes,
    check_classes,
    class_precision,
    class_recall,
    mean_iou,
)
from weakseg.processors import one_thread
from weakseg.types import IGNORE

_CELLS = 1024  # a power of two, so that score * _CELLS is exact


@dataclass(frozen=True)
class SweepPoint:
    """A sweep at one threshold.

    Attributes:
        threshold: The score from which on a pixel is foreground, 0..1.
        counts: The confusion matrix [C,C] int64 at it.
    """

    threshold: float
    counts: Tensor


@dataclass(frozen=True)
class SweepCurve:
    """Scores at every threshold of a sweep, each [T] in 0..1.

    Attributes:
        thresholds: Ascending.
        mean_iou: As `mean_iou` of the confusion matrices.
        mean_precision: Mean over the labels predicted at the threshold.
        mean_recall: Mean over the labels in the truth.
    """

    thresholds: Tensor
    mean_iou: Tensor
    mean_precision: Tensor
    mean_recall: Tensor


class ThresholdSweep:
    """Confusion matrices at all background thresholds, exactly, from one pass over the images.

    At threshold t a pixel's label is the class whose map is highest there (the first of equals) if
    that height is at least t, else background. The pixels are counted once by true label, best
    class and number of thresholds their score reaches; sums along the last give every matrix.
    The counts take 8·(K+1)·K·(T+1) bytes.

    Args:
        classes: K, how many classes there are beside background.
        thresholds: [T] ascending, in 0..1; None: 0, 0.01, …, 1.
        device: Where the counts are kept.

    Example:
        >>> sweep = ThresholdSweep(1, [0.25, 0.75])
        >>> sweep.update(torch.tensor([[[0.2, 0.5]]]), torch.tensor([0]), torch.tensor([[0, 1]]))
        >>> sweep.best().threshold
        0.25
    """

    def __init__(
        self,
        classes: int,
        thresholds: Tensor | Sequence[float] | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        check_classes(classes)
        grid = torch.arange(101) / 100 if thresholds is None else torch.as_tensor(thresholds)
        grid = grid.to(torch.float32).cpu()
        if grid.ndim != 1 or not len(grid) or not bool(((grid >= 0) & (grid <= 1)).all()):
            raise ValueError(f"expected thresholds [T] in 0..1, got {thresholds}")
        if bool((grid.diff() <= 0).any()):
            raise ValueError(f"expected ascending thresholds without repeats, got {thresholds}")
        edges = torch.arange(_CELLS + 1) / _CELLS
        reached = torch.searchsorted(grid, edges, right=True)
        below_next = torch.searchsorted(grid, edges[1:], right=False)
        # A score's cell tells how many thresholds it reaches, but for the few inside the cell.
        self._steps = int((below_next - reached[:-1]).max())
        self._reached = reached.to(torch.int32).to(device)
        self._next = torch.cat([grid, grid.new_tensor([math.inf])]).to(device)
        self._hist = torch.zeros(
            classes + 1, classes, len(grid) + 1, dtype=torch.int64, device=device
        )
        self.thresholds = grid

    @one_thread()
    def update(self, maps: Tensor, classes: Tensor, truth: Tensor) -> None:
        """Adds one image.

        Args:
            maps: [n,h,w] float in 0..1; n may be 0 (an image without tags). Maps of another grid
                than the truth's are upsampled to it bilinearly, one at a time.
            classes: [n] the maps' classes, counted from 0 (class c has label c+1).
            truth: [H,W], labels 0..K or 255.

        Raises:
            ValueError: Shapes do not fit, a map leaves 0..1 or holds NaN, or a class or label is
                unknown.
        """
        device, (labels, known, bins) = self._hist.device, self._hist.shape
        if maps.ndim != 3 or truth.ndim != 2 or classes.shape != maps.shape[:1]:
            raise ValueError(
                "expected maps [n,h,w], classes [n] and truth [H,W], got "
                f"{tuple(maps.shape)}, {tuple(classes.shape)} and {tuple(truth.shape)}"
            )
        maps, classes, truth = (
            maps.to(device).float(),
            classes.to(device).long(),
            as_bytes(truth).to(device),
        )
        if not maps.numel():
            maps, classes = maps.new_zeros(1, 1, 1), classes.new_zeros(1)
            best = reached = torch.zeros_like(truth, dtype=torch.int32)
        else:
            low, high = (float(value) for value in maps.aminmax())
            if not (low >= 0 and high <= 1):
                raise ValueError(
                    f"expected maps in 0..1, got {low:.4g}..{high:.4g}; divide each by its maximum"
                )
            if not (int(classes.min()) >= 0 and int(classes.max()) < known):
                raise ValueError(
                    f"expected classes in 0..{known - 1} (from 0), got {classes.tolist()}"
                )
            score, best = _first_maximum(maps, truth.shape)
            reached = self._thresholds_reached(score)
        cell = (truth.to(torch.int32) * len(maps) + best) * bins + reached
        hist = torch.bincount(cell.flatten(), minlength=(IGNORE + 1) * len(maps) * bins)
        hist = hist.view(-1, len(maps), bins)[:IGNORE]
        if bool(hist[labels:].any()):
            raise ValueError(
                f"expected labels 0..{labels - 1} or {IGNORE} in the truth, got "
                f"{int(truth[truth != IGNORE].max())}"
            )
        self._hist.index_add_(1, classes, hist[:labels])

    @property
    def tally(self) -> Tensor:
        """All that was counted: pixels by true label, class and thresholds reached, int64."""
        return self._hist

    def add(self, tally: Tensor) -> None:
        """Adds the tally of other images, at the same thresholds."""
        self._hist += tally.to(self._hist.device)

    def _thresholds_reached(self, score: Tensor) -> Tensor:
        cell = (score * _CELLS).to(torch.int32).flatten()
        reached = self._reached.index_select(0, cell)
        for _ in range(self._steps):
            reached += score.flatten() >= self._next.index_select(0, reached)
        return reached.view_as(score)

    def matrices(self) -> Tensor:
        """The confusion matrices [T,C,C] int64 at all thresholds."""
        up_to = self._hist.cumsum(-1)  # pixels that reach at most so many thresholds
        background = up_to[..., :-1].sum(1, keepdim=True)
        foreground = up_to[..., -1:] - up_to[..., :-1]
        return torch.cat([background, foreground], 1).permute(2, 0, 1).contiguous()

    def curve(self) -> SweepCurve:
        """The scores at all thresholds."""
        counts = self.matrices()
        return SweepCurve(
            self.thresholds,
            mean_iou(counts),
            class_precision(counts).nanmean(-1),
            class_recall(counts).nanmean(-1),
        )

    def best(self) -> SweepPoint:
        """The threshold of the highest mean IoU (the lowest of equals): chosen by the truth."""
        counts = self.matrices()
        k = int(mean_iou(counts).nan_to_num(-1).argmax())
        return SweepPoint(_short(self.thresholds[k]), counts[k])

    def at(self, threshold: float) -> SweepPoint:
        """The sweep at one of its thresholds.

        Raises:
            ValueError: It is none of the sweep's; only those are counted exactly.
        """
        k = int((self.thresholds - threshold).abs().argmin())
        nearest = _short(self.thresholds[k])
        if abs(nearest - threshold) > 1e-6:
            raise ValueError(
                f"expected one of the sweep's thresholds, got {threshold} (nearest: {nearest}); "
                "add it to the thresholds when making the sweep"
            )
        return SweepPoint(nearest, self.matrices()[k])


def _first_maximum(maps: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The highest of maps [n,h,w] at full size [H,W], and which of them is the first to have it."""
    score = _at_size(maps[0], size)
    best = torch.zeros_like(score, dtype=torch.int32)
    for k in range(1, len(maps)):
        other = _at_size(maps[k], size)
        best = best.masked_fill(other > score, k)
        score = torch.maximum(score, other)
    return score, best


def _at_size(map_: Tensor, size: Sequence[int]) -> Tensor:
    if map_.shape == tuple(size):
        return map_
    return interpolate(map_[None, None], size=tuple(size), mode="bilinear")[0, 0]


def _short(value: Tensor) -> float:
    """A float32 as the shortest decimal that means it: 0.3, not 0.30000001192092896."""
    return float(f"{float(value):.7g}")
