"""The maps that stages keep of every image, and the thresholds that part them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from weakseg.ops.cams import weighted_cam
from weakseg.ops.propagation import HALF
from weakseg.ops.thresholds import blind_threshold, score_histogram
from weakseg.runs.context import StageContext
from weakseg.runs.stage_dir import StageDir
from weakseg.types import RunError

BRANCHES = ("spotlight", "compensation")

_POOLED = 4000
"""Images whose scores a threshold is chosen from, about."""


@dataclass(frozen=True)
class ImageMaps:
    """The maps of an image that a stage keeps, in `<stage>/<id>.npz`.

    Attributes:
        classes: int64 [n], counted from 0: the image's tags.
        size: Height and width of the image, upright, in pixels.
        maps: By kind (`spotlight`, `compensation`; of the stage `walk` only `walk`) float32 [n,h,w]
            in 0..1 on the stride-4 grid of the resized image.
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
            stage: `cams`, `spread` or `walk`.
            sample_id: The image.

        Raises:
            RunError: The file is missing or damaged.
        """
        path = run / stage / f"{sample_id}.npz"
        needed = "walk" if stage == "walk" else "spotlight"
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: torch.from_numpy(file[name]) for name in file.files}
            classes, size = arrays.pop("classes").long(), arrays.pop("size").long()
            boundary = arrays.pop("boundary", None)
            maps = {name: value.float() for name, value in arrays.items()}
            if needed not in maps:
                raise ValueError(f"it holds no {needed}")
            for name, value in maps.items():
                fits = value.ndim == 3 and len(value) == len(classes)
                if not fits or not bool(((value >= 0) & (value <= 1)).all()):
                    raise ValueError(f"{name} is no [{len(classes)},h,w] in 0..1")
            if size.shape != (2,):
                raise ValueError(f"its size is {size.tolist()}")
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise _unreadable(path, error) from error
        height, width = size.tolist()
        return cls(classes, (height, width), maps, None if boundary is None else boundary.float())

    def save(self, folder: StageDir, sample_id: str) -> None:
        """Writes the maps as half floats, whole or not at all."""
        arrays = dict(self.maps)
        if self.boundary is not None:
            arrays["boundary"] = self.boundary
        folder.write_npz(
            f"{sample_id}.npz",
            classes=self.classes.cpu().numpy().astype(np.int64),
            size=np.array(self.size, np.int64),
            **{name: value.cpu().numpy().astype(np.float16) for name, value in arrays.items()},
        )


def _unreadable(path: Path, error: Exception) -> RunError:
    remedy = f"remove {path.parent / 'done.json'} and give `weakseg run` again"
    if not path.is_file():
        return RunError(f"{path} is missing; {remedy}")
    return RunError(f"{path} is damaged: {str(error) or type(error).__name__}; remove it, {remedy}")


def map_stage(context: StageContext) -> str:
    """The stage whose maps seeds and masks begin with."""
    return "spread" if context.config.spread.active else "cams"


def map_kinds(context: StageContext, kept: ImageMaps) -> dict[str, Tensor]:
    """All maps of an image, [n,h,w] in 0..1: each branch's and, of two branches, the weighted."""
    kinds = dict(kept.maps)
    if all(name in kinds for name in BRANCHES):
        kinds["weighted"] = kinds["spotlight"]
        if len(kept.classes):  # the maximum of no map is not known
            kinds["weighted"] = weighted_cam(
                kinds["spotlight"], kinds["compensation"], context.config.cams.xi
            )
    return kinds


def chosen_map(context: StageContext, kept: ImageMaps) -> Tensor:
    """The maps [n,h,w] that `refine.maps` names; a plain CAM network has the spotlight's alone."""
    kinds = map_kinds(context, kept)
    return kinds.get(context.config.refine.maps, next(iter(kinds.values())))


def map_stages(context: StageContext) -> list[str]:
    """The stages that keep maps in this run, in their order."""
    return [
        "cams",
        *(["spread"] if context.config.spread.active else []),
        *(["walk"] if context.config.refine.walks else []),
    ]


def map_title(stage: str, kind: str) -> str:
    """What a stage's maps of a kind are called: `weighted`, `weighted, spread`, `walk`."""
    return kind if stage in ("cams", kind) else f"{kind}, {stage}"


def chosen_title(context: StageContext, stage: str) -> str:
    """The title of a stage's `chosen_map`."""
    if stage == "walk":
        return map_title(stage, "walk")
    two = context.config.amr.compensation
    return map_title(stage, context.config.refine.maps if two else "spotlight")


def background_scores(context: StageContext, stage: str) -> dict[str, float]:
    """The background threshold of each kind of a stage's maps by title, chosen without truth.

    Stretched maps, and what walks from them, are parted half-way; others by how all their scores
    are spread (of many images an even choice is looked at: a threshold needs no more).

    Args:
        context: The run.
        stage: `cams`, `spread` or `walk`.
    """
    samples = context.catalog.samples
    looked_at = samples[:: max(1, len(samples) // _POOLED)]
    halves = stage != "cams" and context.config.spread.spreading
    pooled: dict[str, Tensor] = {}
    with context.track(f"{stage}, threshold", 1 if halves else len(looked_at)) as advance:
        for sample in looked_at[:1] if halves else looked_at:
            kept = ImageMaps.load(context.run.path, stage, sample.id)
            for kind, maps in map_kinds(context, kept).items():
                histogram = score_histogram(maps)
                pooled[kind] = pooled[kind] + histogram if kind in pooled else histogram
            advance()
    # Where no image has tags there is nothing to choose from, and nothing to part.
    return {
        map_title(stage, kind): blind_threshold(histogram)
        if not halves and float(histogram.sum())
        else HALF
        for kind, histogram in pooled.items()
    }
