"""Scores of label maps against truth, in one pass: confusion matrices and threshold sweeps.

Label maps are integers [H,W]: 0 background, k the k-th class, 255 ignored. With K classes there are
C = K+1 labels. Nothing that is predicted where the truth is 255 changes any score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import interpolate

from weakseg.types import IGNORE

MAX_CLASSES = IGNORE - 1
"""Most classes a label map of bytes can hold beside background and the ignored index."""

_CELLS = 1024  # a power of two, so that score * _CELLS is exact


class EvaluateSettings(BaseModel):
    """What is scored where truth exists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold_step: float = Field(
        default=0.01,
        gt=0,
        le=0.5,
        description="between the background thresholds of the sweep, about",
    )
    boundary_ratio: float = Field(
        default=0.02,
        gt=0,
        le=0.5,
        description="of the image's diagonal: what boundary IoU calls near",
    )
    trimap_widths: tuple[Annotated[int, Field(ge=1, le=500)], ...] = Field(
        default=(5, 10, 20), description="of the bands along the truth's contours, pixels each side"
    )


def class_iou(counts: Tensor) -> Tensor:
    """Intersection over union of each label, TP / (TP + FP + FN).

    Args:
        counts: Confusion matrices [...,C,C], truth down, prediction across.

    Returns:
        [...,C] in 0..1, float64; NaN for labels in neither truth nor prediction.
    """
    hits = counts.diagonal(dim1=-2, dim2=-1)
    return ratio_of(hits, counts.sum(-1) + counts.sum(-2) - hits)


def mean_iou(counts: Tensor) -> Tensor:
    """The mean of `class_iou` over the labels present in the truth or the prediction.

    Args:
        counts: Confusion matrices [...,C,C].

    Returns:
        [...] in 0..1; NaN where nothing was counted.

    Example:
        >>> float(mean_iou(torch.tensor([[3, 1], [0, 4]])))
        0.775
    """
    return class_iou(counts).nanmean(-1)


def class_precision(counts: Tensor) -> Tensor:
    """The share of the pixels predicted as a label that are it: [...,C], NaN if never predicted."""
    return ratio_of(counts.diagonal(dim1=-2, dim2=-1), counts.sum(-2))


def class_recall(counts: Tensor) -> Tensor:
    """The share of a label's true pixels that were found: [...,C], NaN if not in the truth."""
    return ratio_of(counts.diagonal(dim1=-2, dim2=-1), counts.sum(-1))


def ratio_of(part: Tensor, whole: Tensor) -> Tensor:
    """Quotients of counts, NaN where the whole is 0."""
    # MPS has no float64; there counts up to 2^24 per label stay exact.
    kind = torch.float32 if part.device.type == "mps" else torch.float64
    return part.to(kind) / whole.to(kind)


class ConfusionMatrix:
    """Counts pixels by true and predicted label over any number of images.

    Args:
        classes: K, how many classes there are beside background.
        device: Where the counts are kept.

    Attributes:
        counts: [C,C] int64, truth down, prediction across.

    Example:
        >>> matrix = ConfusionMatrix(1)
        >>> matrix.update(torch.tensor([[0, 1]]), torch.tensor([[1, 1]]))
        >>> matrix.counts.tolist()
        [[0, 0], [1, 1]]
    """

    def __init__(self, classes: int, *, device: torch.device | str | None = None) -> None:
        check_classes(classes)
        self.counts = torch.zeros(classes + 1, classes + 1, dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Adds one image.

        Args:
            prediction: [H,W] or any other shape, labels 0..K wherever the truth is not 255.
            truth: The same shape, labels 0..K or 255.

        Raises:
            ValueError: The shapes differ, or a label is none of 0..K.
        """
        check_pair(prediction, truth)
        labels = len(self.counts)
        joint = joint_histogram(as_bytes(truth), as_bytes(prediction))[:IGNORE].to(
            self.counts.device
        )
        inside = joint[:labels, :labels]
        if int(inside.sum()) != int(joint.sum()):
            true, predicted = (int(n) for n in joint.nonzero().amax(0))
            raise ValueError(
                f"expected labels 0..{labels - 1} (and {IGNORE} in the truth only), got labels up "
                f"to {true} in the truth and {predicted} in the prediction"
            )
        self.counts += inside


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


def check_classes(classes: int) -> None:
    """Raises ValueError if label maps of bytes cannot hold so many classes."""
    if not 1 <= classes <= MAX_CLASSES:
        raise ValueError(f"expected 1..{MAX_CLASSES} classes, got {classes}")


def check_pair(prediction: Tensor, truth: Tensor) -> None:
    """Raises ValueError if the shapes differ."""
    if prediction.shape != truth.shape:
        raise ValueError(
            "expected prediction and truth of one shape, got "
            f"{tuple(prediction.shape)} and {tuple(truth.shape)}"
        )


def as_bytes(labels: Tensor) -> Tensor:
    """Labels of any integer kind as uint8.

    Raises:
        ValueError: They are fractions or leave 0..255.
    """
    if labels.dtype != torch.uint8 and labels.numel():
        low, high = (float(value) for value in labels.aminmax())
        if labels.is_floating_point() or low < 0 or high > IGNORE:
            raise ValueError(
                f"expected integer labels in 0..{IGNORE}, got {labels.dtype} in {low:g}..{high:g}"
            )
    return labels.to(torch.uint8)


def joint_histogram(first: Tensor, second: Tensor) -> Tensor:
    """[256,256] int64: how often each pair of bytes occurs."""
    cell = first.to(torch.int32) * 256 + second.to(first.device)
    return torch.bincount(cell.flatten(), minlength=1 << 16).view(256, 256)


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
