"""How well masks and maps fit the truth: tensors in, numbers out, no files.

The public names are imported when first used: who only checks a source does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weakseg.metrics.boundary_iou import BoundaryIoU
    from weakseg.metrics.confusion import (
        ConfusionMatrix,
        EvaluateSettings,
        class_iou,
        class_precision,
        class_recall,
        mean_iou,
    )
    from weakseg.metrics.scores import MaskScorer, Scores
    from weakseg.metrics.sweep import ThresholdSweep
    from weakseg.metrics.truth_agreement import TruthAgreement

_HOMES = {
    "BoundaryIoU": "boundary_iou",
    "ConfusionMatrix": "confusion",
    "EvaluateSettings": "confusion",
    "MaskScorer": "scores",
    "Scores": "scores",
    "ThresholdSweep": "sweep",
    "TruthAgreement": "truth_agreement",
    "class_iou": "confusion",
    "class_precision": "confusion",
    "class_recall": "confusion",
    "mean_iou": "confusion",
}

__all__ = [
    "BoundaryIoU",
    "ConfusionMatrix",
    "EvaluateSettings",
    "MaskScorer",
    "Scores",
    "ThresholdSweep",
    "TruthAgreement",
    "class_iou",
    "class_precision",
    "class_recall",
    "mean_iou",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'weakseg.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"weakseg.metrics.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
