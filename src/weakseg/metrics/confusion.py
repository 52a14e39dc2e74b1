"""Scores of label maps against truth, in one pass: confusion matrices and what follows from them.

Label maps are integers [H,W]: 0 background, k the k-th class, 255 ignored. With K classes there are
C = K+1 labels. Nothing that is predicted where the truth is 255 changes any score.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from weakseg.types import IGNORE

MAX_CLASSES = IGNORE - 1
"""Most classes a label map of bytes can hold beside background and the ignored index."""


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

    def add(self, counts: Tensor) -> None:
        """Adds the counts [C,C] of other images."""
        self.counts += counts.to(self.counts.device)


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
