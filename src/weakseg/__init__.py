"""Pixel masks and a segmentation model from image tags alone.

The public names are imported when first used, so that `import weakseg` takes no time:

    >>> import weakseg
    >>> weakseg.IGNORE
    255
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weakseg.api import check, evaluate, export, label, report, run
    from weakseg.models.amr import AMR, AttentionModulation
    from weakseg.models.segmenter import Segmenter
    from weakseg.ops.crf import dense_crf
    from weakseg.ops.walk import random_walk
    from weakseg.predict import Labeler
    from weakseg.sources.source import open_catalog
    from weakseg.types import IGNORE, Catalog, Sample, WeaksegError

__version__ = "0.1.0"

__all__ = [
    "AMR",
    "IGNORE",
    "AttentionModulation",
    "Catalog",
    "Labeler",
    "Sample",
    "Segmenter",
    "WeaksegError",
    "__version__",
    "check",
    "dense_crf",
    "evaluate",
    "export",
    "label",
    "open_catalog",
    "random_walk",
    "report",
    "run",
]

_HOMES = {
    "AMR": "weakseg.models.amr",
    "AttentionModulation": "weakseg.models.amr",
    "Catalog": "weakseg.types",
    "IGNORE": "weakseg.types",
    "Labeler": "weakseg.predict",
    "Sample": "weakseg.types",
    "Segmenter": "weakseg.models.segmenter",
    "WeaksegError": "weakseg.types",
    "check": "weakseg.api",
    "dense_crf": "weakseg.ops.crf",
    "evaluate": "weakseg.api",
    "export": "weakseg.api",
    "label": "weakseg.api",
    "open_catalog": "weakseg.sources.source",
    "random_walk": "weakseg.ops.walk",
    "report": "weakseg.api",
    "run": "weakseg.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'weakseg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
