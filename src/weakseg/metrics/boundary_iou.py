"""Scores of label maps near contours: boundary IoU, and trimap bands."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from weakseg.metrics.confusion import as_bytes, check_classes, check_pair, joint_histogram, ratio_of
from weakseg.types import IGNORE


class BoundaryIoU:
    """IoU of the pixels near the contours of prediction and truth, per label over all images.

    |(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)| (Cheng et al., Boundary IoU, CVPR 2021):
    of each label's mask only the pixels within d of its contour count; the image's edge is a
    contour. Ignored pixels borrow, in truth and prediction alike, the label of the nearest pixel
    that is not ignored, so that contours exist where the truth's border is ignored; they are not
    counted themselves.

    Args:
        classes: K, how many classes there are beside background.
        ratio: d as a share of the image's diagonal; at least one pixel is taken.
        device: Where the counts are kept.

    Example:
        >>> square = torch.zeros(40, 40, dtype=torch.uint8)
        >>> square[10:30, 10:30] = 1
        >>> boundary = BoundaryIoU(1)
        >>> boundary.update(square.roll(1, 0), square)
        >>> [round(value, 2) for value in boundary.per_class().tolist()]
        [0.7, 0.33]
    """

    def __init__(
        self, classes: int, *, ratio: float = 0.02, device: torch.device | str | None = None
    ) -> None:
        check_classes(classes)
        if not 0 < ratio <= 1:
            raise ValueError(f"expected a ratio in 0..1, got {ratio}")
        self.ratio = ratio
        self.intersection = torch.zeros(classes + 1, dtype=torch.int64, device=device)
        self.union = torch.zeros_like(self.intersection)

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Adds one image.

        Args:
            prediction: [H,W], labels 0..K wherever the truth is not 255.
            truth: [H,W], labels 0..K or 255.

        Raises:
            ValueError: The shapes differ.
        """
        check_pair(prediction, truth)
        if truth.ndim != 2:
            raise ValueError(f"expected label maps [H,W], got {tuple(truth.shape)}")
        distance = max(1, round(self.ratio * math.hypot(*truth.shape)))
        ignored = truth == IGNORE
        source = _nearest_decided(ignored, distance)
        near = []
        for labels in (truth, prediction):
            filled = as_bytes(labels).flatten()[source].view_as(labels)
            inner = _uniform(filled, distance, edge_is_contour=True)
            near.append(filled.masked_fill(inner | ignored, IGNORE))
        joint = joint_histogram(*near).to(self.union.device)
        known = len(self.union)
        both = joint.diagonal()[:known]
        self.intersection += both
        self.union += joint.sum(0)[:known] + joint.sum(1)[:known] - both

    def per_class(self) -> Tensor:
        """[C] in 0..1; NaN for labels without contour in either."""
        return ratio_of(self.intersection, self.union)

    def mean(self) -> Tensor:
        """The mean over the labels that have a contour in truth or prediction."""
        return self.per_class().nanmean()


def trimap_band(truth: Tensor, width: int) -> Tensor:
    """The pixels at most `width` (rows or columns) from one of another label, or from ignored ones.

    Scores restricted to this band (Kohli et al., IJCV 2009; Krähenbühl and Koltun, NIPS 2011) tell
    how well a mask follows the truth's contours. The image's edge is no contour.

    Args:
        truth: [H,W], labels or 255.
        width: Pixels on each side, at least 1.

    Returns:
        [H,W] bool, False at ignored pixels.

    Example:
        >>> trimap_band(torch.tensor([[0, 0, 0, 1, 1]]), 1).int().tolist()
        [[0, 0, 1, 1, 0]]
    """
    if truth.ndim != 2 or width < 1:
        raise ValueError(
            f"expected truth [H,W] and a width of at least 1, got {tuple(truth.shape)}, {width}"
        )
    labels = as_bytes(truth)
    return ~_uniform(labels, width, edge_is_contour=False) & (labels != IGNORE)


def _uniform(labels: Tensor, radius: int, *, edge_is_contour: bool) -> Tensor:
    """Where the (2·radius+1)² window around a pixel holds its label only: [H,W] bool.

    Outside the image lies nothing, or, if the edge is a contour, another label.
    """
    # Padding: whatever never, or always, makes the least and the greatest label differ.
    least, greatest = (0, 255) if edge_is_contour else (255, 0)
    low = _window(torch.minimum, labels, radius, least)
    return low == _window(torch.maximum, labels, radius, greatest)


def _window(
    extreme: Callable[[Tensor, Tensor], Tensor], labels: Tensor, radius: int, outside: int
) -> Tensor:
    """The extreme of each (2·radius+1)² window, in log2(radius) steps along each axis."""
    length = 2 * radius + 1
    for axis in (0, 1):
        size = int(labels.shape[axis])
        margin = [0, 0, 0, 0]
        margin[2 - 2 * axis] = margin[3 - 2 * axis] = radius
        run, span = pad(labels, margin, value=outside), 1
        while 2 * span <= length:
            n = run.shape[axis] - span
            run = extreme(run.narrow(axis, 0, n), run.narrow(axis, span, n))
            span *= 2
        labels = extreme(run.narrow(axis, 0, size), run.narrow(axis, length - span, size))
    return labels


def _nearest_decided(ignored: Tensor, reach: int) -> Tensor:
    """For each pixel the flat index [H·W] of the nearest that is not ignored, at most `reach` away.

    Distance counts king's moves; pixels further away keep their own index.
    """
    height, width = ignored.shape
    own = torch.arange(height * width, device=ignored.device)
    row = width + 2
    source = pad(own.view(height, width).masked_fill(ignored, -1), (1, 1, 1, 1), value=-1).flatten()
    open_ = pad(ignored, (1, 1, 1, 1), value=False).flatten().nonzero().flatten()
    for _ in range(reach):
        if not len(open_):
            break
        found = torch.full_like(open_, -1)
        for step in (-row, -1, 1, row, -row - 1, -row + 1, row - 1, row + 1):
            found = found.where(found >= 0, source[open_ + step])
        source[open_] = found
        open_ = open_[found < 0]
    inside = source.view(height + 2, row)[1:-1, 1:-1].flatten()
    return torch.where(inside < 0, own, inside)
