"""What stage `evidence` learns from some images, and how it weighs maps by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from weakseg.ops.cams import upsampled
from weakseg.ops.evidence import evidence_map
from weakseg.ops.pamr import PAMRSettings, pamr
from weakseg.runs.context import StageContext
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.surface_words import STAGES, WORDS, Surfaces, SurfaceWords
from weakseg.types import RunError, Sample

LEARNT = "learnt.safetensors"
"""The file of the stage's folder that holds it: a run goes on with it, and workers share it."""

_COLOURS = PAMRSettings(iterations=5, dilations=(1, 2, 4))
"""Neighbours of cells of 4 pixels: what surfaces say spreads to what looks alike within 16 pixels,
and on from there. From farther off spots of a few cells would be outvoted."""


def along_colours(maps: Tensor, picture: Tensor) -> Tensor:
    """Maps [n,h,w] averaged over neighbours of like colour in the picture [3,H,W] (`pamr`)."""
    size = (maps.shape[-2], maps.shape[-1])
    image = functional.interpolate(picture[None].float(), size=size, mode="area")
    return pamr(image, maps[None], _COLOURS)[0].clamp(0, 1)


_OF_CLASSES = ("thresholds", "strengths", "alone")


@dataclass(frozen=True)
class LearntEvidence:
    """What the images taught `evidence`: enough to weigh the maps of any image.

    Attributes:
        witnesses: `untagged` (images without any tag) or `others` (without the class's).
        surface_words: The words that surfaces are told by.
        weights: float32 [F,D,k], of each fold's classifier of word histograms; k is 1 or the number
            of classes.
        fold: Of each image learnt from, by id.
        thresholds: By class, in log odds.
        strengths: By class, 0..1.
        alone: By class, bool: whether surfaces alone say where it is.
    """

    witnesses: str
    surface_words: SurfaceWords
    weights: Tensor
    fold: Mapping[str, int]
    thresholds: Tensor
    strengths: Tensor
    alone: Tensor

    def record(self, classes: Sequence[str]) -> dict[str, object]:
        """What is told of it."""
        rows = zip(
            classes,
            self.strengths.tolist(),
            self.thresholds.tolist(),
            self.alone.tolist(),
            strict=True,
        )
        return {
            "images": len(self.fold),
            "witnesses": self.witnesses,
            "classes": {
                name: {"strength": round(own, 3), "threshold": round(threshold, 3), "alone": alone}
                for name, own, threshold, alone in rows
            },
        }

    def weighed(self, sample: Sample, surfaces: Surfaces, classes: Tensor, maps: Tensor) -> Tensor:
        """An image's maps [n,h,w] of these classes [n], weighed by what other images taught."""
        fold = self.fold.get(sample.id)
        weights = self.weights.mean(dim=0) if fold is None else self.weights[fold]
        found = (evidence_map(weights, surfaces.words) - self.thresholds[:, None, None]).sigmoid()
        said = upsampled(found[classes], (maps.shape[-2], maps.shape[-1])).clamp(0, 1)
        strength, alone = (each[classes, None, None] for each in (self.strengths, self.alone))
        share = maps / maps.amax(dim=0).clamp_min(1e-6)
        weighed = along_colours(said * torch.where(alone, share, maps), surfaces.picture)
        both: Tensor = weighed**strength * maps ** (1 - strength)
        return both

    def save(self, folder: StageDir) -> None:
        """Keeps it in the stage's folder."""
        tensors = {
            **self.surface_words.tensors(),
            "weights": self.weights.contiguous(),
            "folds": torch.tensor(list(self.fold.values())),
            "thresholds": self.thresholds.contiguous(),
            "strengths": self.strengths.contiguous(),
            "alone": self.alone,
        }
        told = {"witnesses": self.witnesses, "ids": list(self.fold)}
        # One text: safetensors writes several in any order, and the file is to stay the same.
        folder.write_bytes(LEARNT, save(tensors, {"told": json.dumps(told)}))

    @classmethod
    def load(cls, context: StageContext) -> LearntEvidence:
        """What is kept in the stage's folder.

        Raises:
            RunError: It cannot be read.
        """
        path = context.dir.file(LEARNT)
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                told = json.loads(file.metadata()["told"])
            classes = len(context.catalog.classes)
            folds, words, columns = tensors["weights"].shape
            if words != len(STAGES) * WORDS or columns not in (1, classes):
                raise ValueError("weights of other words or classes")
            if any(tensors[name].shape != (classes,) for name in _OF_CLASSES):
                raise ValueError("not one number a class")
            if not bool((tensors["folds"] < folds).all()):
                raise ValueError("a fold that is none")
            return cls(
                told["witnesses"],
                SurfaceWords.kept(context, tensors),
                tensors["weights"],
                dict(zip(told["ids"], tensors["folds"].tolist(), strict=True)),
                tensors["thresholds"],
                tensors["strengths"],
                tensors["alone"],
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path} cannot be read ({type(error).__name__}); remove it and give the same "
                "command again"
            ) from error
