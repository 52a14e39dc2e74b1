"""Pixel masks and a segmentation model from image tags alone.

The public names are imported when first used, so that `import weakseg` takes no time:

    >>> import weakseg
    >>> weakseg.IGNORE
    255
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weakseg import metrics
    from weakseg.activation_maps import class_activation_maps
    from weakseg.api import (
        check,
        correct,
        evaluate,
        export,
        label,
        plan,
        refine,
        report,
        review,
        run,
        status,
    )
    from weakseg.config import RunConfig, load_config
    from weakseg.models.amr import AMR, AMRSettings, AttentionModulation
    from weakseg.models.backbones import BackboneSettings
    from weakseg.models.segmenter import Segmenter, SegmenterSettings
    from weakseg.ops import prototypes
    from weakseg.ops.cams import CamSettings
    from weakseg.ops.crf import CRFSettings, DenseCRF, dense_crf
    from weakseg.ops.pamr import PAMRSettings, pamr
    from weakseg.ops.propagation import spread
    from weakseg.ops.walk import WalkSettings, random_walk
    from weakseg.predict import Labeler
    from weakseg.sources.source import open_catalog
    from weakseg.training.fit import FitSettings
    from weakseg.types import IGNORE, Catalog, Sample, WeaksegError

__version__ = "0.1.0"

__all__ = [
    "AMR",
    "IGNORE",
    "AMRSettings",
    "AttentionModulation",
    "BackboneSettings",
    "CRFSettings",
    "CamSettings",
    "Catalog",
    "DenseCRF",
    "FitSettings",
    "Labeler",
    "PAMRSettings",
    "RunConfig",
    "Sample",
    "Segmenter",
    "SegmenterSettings",
    "WalkSettings",
    "WeaksegError",
    "__version__",
    "check",
    "class_activation_maps",
    "correct",
    "dense_crf",
    "evaluate",
    "export",
    "label",
    "load_config",
    "metrics",
    "open_catalog",
    "pamr",
    "plan",
    "prototypes",
    "random_walk",
    "refine",
    "report",
    "review",
    "run",
    "spread",
    "status",
]

_HOMES = {
    "AMR": "weakseg.models.amr",
    "AMRSettings": "weakseg.models.amr",
    "AttentionModulation": "weakseg.models.amr",
    "BackboneSettings": "weakseg.models.backbones",
    "CRFSettings": "weakseg.ops.crf",
    "CamSettings": "weakseg.ops.cams",
    "Catalog": "weakseg.types",
    "DenseCRF": "weakseg.ops.crf",
    "FitSettings": "weakseg.training.fit",
    "IGNORE": "weakseg.types",
    "Labeler": "weakseg.predict",
    "PAMRSettings": "weakseg.ops.pamr",
    "RunConfig": "weakseg.config",
    "Sample": "weakseg.types",
    "Segmenter": "weakseg.models.segmenter",
    "SegmenterSettings": "weakseg.models.segmenter",
    "WalkSettings": "weakseg.ops.walk",
    "WeaksegError": "weakseg.types",
    "check": "weakseg.api",
    "correct": "weakseg.api",
    "class_activation_maps": "weakseg.activation_maps",
    "dense_crf": "weakseg.ops.crf",
    "evaluate": "weakseg.api",
    "export": "weakseg.api",
    "label": "weakseg.api",
    "load_config": "weakseg.config",
    "metrics": "weakseg",
    "open_catalog": "weakseg.sources.source",
    "pamr": "weakseg.ops.pamr",
    "plan": "weakseg.api",
    "prototypes": "weakseg.ops",
    "random_walk": "weakseg.ops.walk",
    "refine": "weakseg.api",
    "report": "weakseg.api",
    "review": "weakseg.api",
    "run": "weakseg.api",
    "spread": "weakseg.ops.propagation",
    "status": "weakseg.api",
}


_MODULES = ("metrics", "prototypes")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'weakseg' has no attribute {name!r}")
    home = _HOMES[name]
    if name in _MODULES:
        value: object = importlib.import_module(f"{home}.{name}")
    else:
        value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
