"""Scores of label maps against their truth, gathered image by image, and JSON of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weakseg.metrics.boundary_iou import BoundaryIoU, trimap_band
from weakseg.metrics.confusion import (
    ConfusionMatrix,
    EvaluateSettings,
    class_iou,
    class_precision,
    class_recall,
    mean_iou,
)
from weakseg.processors import one_thread
from weakseg.types import IGNORE

BACKGROUND_NAME = "background"


@dataclass(frozen=True)
class Scores:
    """How well label maps fit their truth. All rates are in 0..1, NaN where there is nothing.

    Attributes:
        names: The labels' names, background first: C of them.
        images: How many images were scored.
        counts: Confusion matrix [C,C] int64, truth down, prediction across.
        boundary_iou: Per label [C], None if not measured.
        trimap: Mean IoU within bands around the truth's contours, by width in pixels.
        warnings: Why these scores may mean nothing, in words.
    """

    names: tuple[str, ...]
    images: int
    counts: Tensor
    boundary_iou: Tensor | None = None
    trimap: Mapping[int, float] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def iou(self) -> Tensor:
        """IoU per label [C]."""
        return class_iou(self.counts)

    @property
    def precision(self) -> Tensor:
        """Pixel precision per label [C]."""
        return class_precision(self.counts)

    @property
    def recall(self) -> Tensor:
        """Pixel recall per label [C]."""
        return class_recall(self.counts)

    @property
    def mean_iou(self) -> float:
        """Mean over the labels in the truth or the prediction."""
        return float(mean_iou(self.counts))

    @property
    def mean_precision(self) -> float:
        """Mean over the labels that are predicted at all."""
        return float(self.precision.nanmean())

    @property
    def mean_recall(self) -> float:
        """Mean over the labels in the truth."""
        return float(self.recall.nanmean())

    @property
    def mean_boundary_iou(self) -> float:
        """Mean over the labels with a contour in the truth or the prediction."""
        return math.nan if self.boundary_iou is None else float(self.boundary_iou.nanmean())

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON knows it: NaN as None."""
        record: dict[str, Any] = {
            "images": self.images,
            "mean_iou": _plain(self.mean_iou),
            "mean_precision": _plain(self.mean_precision),
            "mean_recall": _plain(self.mean_recall),
            "iou": self._by_name(self.iou),
            "precision": self._by_name(self.precision),
            "recall": self._by_name(self.recall),
            "confusion": self.counts.tolist(),
        }
        if self.boundary_iou is not None:
            record["mean_boundary_iou"] = _plain(self.mean_boundary_iou)
            record["boundary_iou"] = self._by_name(self.boundary_iou)
        if self.trimap is not None:
            record["trimap_mean_iou"] = {str(w): _plain(v) for w, v in self.trimap.items()}
        if self.warnings:
            record["warnings"] = list(self.warnings)
        return record

    def _by_name(self, values: Tensor) -> dict[str, float | None]:
        return dict(zip(self.names, map(_plain, values.tolist()), strict=True))


class MaskScorer:
    """Gathers `Scores` image by image, in one pass.

    Args:
        classes: K, how many classes there are beside background.
        settings: What is measured beside the confusion matrix.
    """

    def __init__(self, classes: int, settings: EvaluateSettings) -> None:
        self.images = 0
        self._matrix = ConfusionMatrix(classes)
        self._boundary = BoundaryIoU(classes, ratio=settings.boundary_ratio)
        self._trimap = {width: ConfusionMatrix(classes) for width in settings.trimap_widths}

    @one_thread()
    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Adds one image's prediction and truth, both [H,W].

        Raises:
            ValueError: The shapes differ, or a label is unknown.
        """
        self._matrix.update(prediction, truth)
        self._boundary.update(prediction, truth)
        for width, matrix in self._trimap.items():
            matrix.update(prediction, truth.masked_fill(~trimap_band(truth, width), IGNORE))
        self.images += 1

    @property
    def tally(self) -> list[Tensor]:
        """All that was counted so far: for `add` of another scorer with the same settings."""
        boundary = self._boundary
        matrices = [self._matrix, *self._trimap.values()]
        counts = [boundary.intersection, boundary.union, *(matrix.counts for matrix in matrices)]
        return [torch.tensor(self.images), *counts]

    def add(self, tally: Sequence[Tensor]) -> None:
        """Adds what a scorer with the same settings counted of other images."""
        images, intersection, union, *counts = tally
        self.images += int(images)
        self._boundary.intersection += intersection
        self._boundary.union += union
        for matrix, other in zip([self._matrix, *self._trimap.values()], counts, strict=True):
            matrix.add(other)

    def scores(self, classes: Sequence[str]) -> Scores:
        """The scores so far.

        Args:
            classes: Names of classes 1, 2, …; fewer than were allowed for is right as long as
                the others never occurred.
        """
        names = (BACKGROUND_NAME, *classes)
        known = len(names)
        return Scores(
            names,
            self.images,
            self._matrix.counts[:known, :known].clone(),
            self._boundary.per_class()[:known],
            {w: float(mean_iou(m.counts[:known, :known])) for w, m in self._trimap.items()},
        )


def count_labels(masks: Iterable[Tensor], classes: Sequence[str]) -> dict[str, int]:
    """How many pixels each label has, by name.

    Args:
        masks: Label maps [H,W]; ignored pixels are not counted.
        classes: Names of classes 1..K.
    """
    total = torch.zeros(256, dtype=torch.int64)
    for mask in masks:
        total += torch.bincount(mask.flatten(), minlength=256)
    return dict(zip((BACKGROUND_NAME, *classes), total.tolist(), strict=False))


def present_labels(mask: Tensor) -> set[int]:
    """All indices of a label map of bytes, 0 and 255 among them."""
    counts = torch.bincount(mask.flatten(), minlength=256)
    return set(counts.nonzero().flatten().tolist())


def top_label(mask: Tensor) -> int:
    """The greatest index of a label map, 255 apart; 0 if there is none."""
    return int(mask.masked_fill(mask == IGNORE, 0).max())


def size_text(mask: Tensor) -> str:
    """Width × height, as users know it."""
    return f"{mask.shape[1]}×{mask.shape[0]}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
