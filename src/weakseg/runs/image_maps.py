"""The maps that stages keep of every image, and the thresholds that part them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from weakseg.data.array_files import read_arrays
from weakseg.ops.propagation import HALF
from weakseg.ops.thresholds import blind_threshold, score_histogram
from weakseg.processors import one_thread
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.stage_dir import StageDir
from weakseg.types import IGNORE, RunError

BRANCHES = ("spotlight", "compensation")
SPREAD = "_spread"
"""What the names of spread maps end with in a file that holds others, too."""

_KEPT = {"weigh": "weighted", "evidence": "evidence", "walk": "walk"}
"""The maps that a stage's files hold for certain; other stages' the spotlight's."""

_POOLED = 4000
"""Images whose scores a threshold is chosen from, about."""


@dataclass(frozen=True)
class ImageMaps:
    """The maps of an image that a stage keeps, in `<stage>/<id>.npz`.

    Attributes:
        classes: int64 [n], counted from 0: the image's tags.
        size: Height and width of the image, upright, in pixels.
        maps: By kind float32 [n,h,w] in 0..1 on the stride-4 grid of the resized image: `spotlight`
            of `cams` and `spread`; `compensation`, `weighted`, `compensation_spread` and
            `weighted_spread` of `weigh`; `evidence` of `evidence`; `walk` of `walk`.
        boundary: Boundary probabilities float32 [h,w] in 0..1, where the stage keeps them.
    """

    classes: Tensor
    size: tuple[int, int]
    maps: Mapping[str, Tensor]
    boundary: Tensor | None = None

    @classmethod
    def load(cls, run: Path, stage: str, sample_id: str) -> ImageMaps:
        """Reads the maps of an image.

        Args:
            run: The run's folder.
            stage: `cams`, `spread`, `weigh`, `evidence` or `walk`.
            sample_id: The image.

        Raises:
            RunError: The file is missing or damaged.
        """
        path = image_file(run, stage, sample_id, ".npz")
        kind = _KEPT.get(stage, "spotlight")
        try:
            arrays = {name: torch.from_numpy(value) for name, value in read_arrays(path).items()}
            classes, size = arrays.pop("classes").long(), arrays.pop("size").long()
            if classes.ndim != 1 or not bool(((classes >= 0) & (classes < IGNORE)).all()):
                raise ValueError("its classes are no list of class numbers")
            boundary = arrays.pop("boundary", None)
            maps = {name: value.float() for name, value in arrays.items()}
            if kind not in maps:
                raise ValueError(f"it holds no {kind}")
            for name, value in maps.items():
                fits = value.ndim == 3 and len(value) == len(classes)
                if not fits or not _in_unit(value):
                    raise ValueError(f"{name} is no [{len(classes)},h,w] in 0..1")
            if size.shape != (2,) or bool((size < 1).any()):
                raise ValueError(f"its size is {size.tolist()}")
            if boundary is not None and (boundary.ndim != 2 or not _in_unit(boundary)):
                raise ValueError("its boundary is no [h,w] in 0..1")
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise _unreadable(path, error) from error
        height, width = size.tolist()
        return cls(classes, (height, width), maps, None if boundary is None else boundary.float())

    def save(self, folder: StageDir, sample_id: str) -> None:
        """Writes the maps as half floats, whole or not at all."""
        arrays = dict(self.maps)
        if self.boundary is not None:
            arrays["boundary"] = self.boundary
        path = folder.image_file(sample_id, ".npz")
        folder.write_npz(
            path.relative_to(folder.path).as_posix(),
            classes=self.classes.cpu().numpy().astype(np.int64),
            size=np.array(self.size, np.int64),
            **{name: value.cpu().numpy().astype(np.float16) for name, value in arrays.items()},
        )


def _in_unit(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _unreadable(path: Path, error: Exception) -> RunError:
    remedy = f"remove {path.parent / 'done.json'} and give `weakseg run` again"
    if not path.is_file():
        return RunError(f"{path} is missing; {remedy}")
    return RunError(f"{path} is damaged: {str(error) or type(error).__name__}; remove it, {remedy}")


def spotlight_stage(context: StageContext) -> str:
    """The stage that keeps the spotlight's best maps before they walk."""
    return "spread" if context.config.spread.active else "cams"


def stage_before_evidence(context: StageContext) -> str:
    """The stage whose maps are weighed by evidence."""
    return "weigh" if _weighs(context) else spotlight_stage(context)


def map_stage(context: StageContext) -> str:
    """The stage whose maps seeds and masks begin with."""
    return "evidence" if context.config.evidence.images else stage_before_evidence(context)


def _weighs(context: StageContext) -> bool:
    return context.config.amr.compensation and context.config.refine.maps != "spotlight"


def chosen_kind(context: StageContext, stage: str) -> str:
    """The kind of a stage's maps that the next stages go on with."""
    if stage == "weigh":
        spreading = SPREAD if context.config.spread.spreading else ""
        return f"{context.config.refine.maps}{spreading}"
    return stage if stage in ("evidence", "walk") else "spotlight"


def chosen_map(context: StageContext, stage: str, kept: ImageMaps) -> Tensor:
    """Those maps of an image, [n,h,w] in 0..1."""
    return kept.maps[chosen_kind(context, stage)]


def map_stages(context: StageContext) -> list[str]:
    """The stages that keep maps in this run, in their order."""
    return [
        "cams",
        *(["spread"] if context.config.spread.active else []),
        *(["weigh"] if context.config.amr.compensation else []),
        *(["evidence"] if context.config.evidence.images else []),
        *(["walk"] if context.config.refine.walks else []),
    ]


def last_stage(context: StageContext) -> str:
    """The stage whose maps become masks."""
    return "walk" if context.config.refine.walks else map_stage(context)


def map_title(stage: str, kind: str) -> str:
    """What a stage's maps of a kind are called: `weighted`, `weighted, spread`, `walk`."""
    if stage == "spread":
        kind += SPREAD
    return kind.replace(SPREAD, ", spread")


@one_thread()
def background_scores(context: StageContext, stage: str) -> dict[str, float]:
    """The background threshold of each kind of a stage's maps by title, chosen without truth.

    Maps whose middle means something are parted there: min-max normalized, probabilities, and what
    walks from them. Others are parted by how all their scores are spread (of many images an even
    choice is looked at: a threshold needs no more). A weighted map is parted at the weighted
    threshold of its parts.

    Args:
        context: The run.
        stage: `cams`, `spread`, `weigh`, `evidence` or `walk`.
    """
    samples = context.catalog.samples
    looked_at = samples[:: max(1, len(samples) // _POOLED)]
    spotlight: dict[str, float] = {}
    if stage == "weigh":
        spotlight = background_scores(context, "cams")
    pooled: dict[str, Tensor] = {}
    with context.track(f"{stage}, threshold", len(looked_at)) as advance:
        for sample in looked_at:
            kept = ImageMaps.load(context.run.path, stage, sample.id)
            for kind, maps in kept.maps.items():
                if _has_middle(context, stage, kind):
                    pooled.setdefault(kind, torch.zeros(1))
                else:
                    histogram = score_histogram(maps)
                    pooled[kind] = pooled[kind] + histogram if kind in pooled else histogram
            advance()
            if all(_has_middle(context, stage, kind) for kind in pooled):
                break
    # Where no image has tags there is nothing to choose from, and nothing to part.
    thresholds = {
        kind: blind_threshold(histogram) if float(histogram.sum()) else HALF
        for kind, histogram in pooled.items()
    }
    if "weighted" in thresholds and context.config.amr.supervision == "refined":
        xi = context.config.cams.xi
        thresholds["weighted"] = round(xi * spotlight["spotlight"] + (1 - xi) * HALF, 2)
    return {map_title(stage, kind): value for kind, value in thresholds.items()}


def _has_middle(context: StageContext, stage: str, kind: str) -> bool:
    config = context.config
    if stage == "walk":
        stage = map_stage(context)
        kind = chosen_kind(context, stage)
    if stage == "evidence":  # brought there
        return True
    if kind.endswith(SPREAD) or stage == "spread":
        return config.spread.spreading
    return kind == "compensation" and config.amr.supervision == "refined"
