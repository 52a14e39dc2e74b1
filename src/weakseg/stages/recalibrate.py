"""Stage `recalibrate`: the compensation branch learns what the spotlight's maps are sure of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from weakseg.data.datasets import RecalibrationViews
from weakseg.data.masks import write_mask
from weakseg.models.amr import AMR
from weakseg.ops.losses import refined_labels
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps, background_scores, spotlight_stage
from weakseg.runs.learning import STATE, finish_learning, learn, with_state
from weakseg.runs.parallel import parallel_map
from weakseg.runs.processes import by_first, own_share, wait_for_all
from weakseg.training.recalibrate_task import RecalibrateTask
from weakseg.types import IGNORE, RunError, Sample

_LABELS = "labels"


def recalibrate(context: StageContext) -> Mapping[str, object]:
    """Train the compensation branch; writes `state.safetensors`, `log.jsonl` and `labels/`."""
    config, catalog = context.config, context.catalog
    torch.manual_seed(config.seed)
    model = AMR(len(catalog.classes), config.backbone, config.amr, load=False)
    _start(model, context)
    _write_labels(context)
    wait_for_all()
    paths = [_label_file(context, sample) for sample in catalog]
    views = RecalibrationViews(
        catalog, paths, config.augment, config.seed, channels=config.backbone.in_chans
    )
    task = RecalibrateTask(model, config.recalibrate)
    summary = learn(context, "recalibrate", task, views, config.recalibrate.fit)
    return finish_learning(context, model, summary)


def load_branches(context: StageContext) -> AMR:
    """The network of a run with both of its branches, in eval mode.

    Raises:
        RunError: The stage `recalibrate` is not finished, or its state is damaged.
    """
    config = context.config
    model = AMR(len(context.catalog.classes), config.backbone, config.amr, load=False)
    return with_state(model, context, "recalibrate")


def _start(model: AMR, context: StageContext) -> None:
    """Both branches begin as the spotlight that classification trained."""
    path = context.run.stage("classify").path / STATE
    try:
        missing, unexpected = model.load_state_dict(load_file(path), strict=False)
        unknown = [*unexpected, *(key for key in missing if not key.startswith("compensation."))]
        if unknown:
            raise ValueError(f"{unknown[0]} does not fit")
    except Exception as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove {path.parent} and run again"
        ) from error
    model.start_compensation()


def _least(context: StageContext) -> float:
    """The score of raw maps below which no class is learnt."""
    if context.config.recalibrate.target == "refined":
        return 0.0
    return background_scores(context, "cams")["spotlight"]


def _label_file(context: StageContext, sample: Sample) -> Path:
    return context.dir.image_file(sample.id, ".png", folder=_LABELS)


def _write_labels(context: StageContext) -> None:
    least, own = by_first(lambda: _least(context)), own_share(context.catalog.samples)
    pending = [sample for sample in own if not _label_file(context, sample).is_file()]
    with context.track("labels", len(own), done=len(own) - len(pending)) as advance:
        job = _Job(context, least)
        for _ in parallel_map(job, pending, workers=context.config.fit.workers):
            advance()


@dataclass(frozen=True)
class _Job:
    """Writes the labels of an image on the grid of its maps."""

    context: StageContext
    least: float

    def __call__(self, sample: Sample) -> None:
        context, settings = self.context, self.context.config.recalibrate
        kept = ImageMaps.load(context.run.path, spotlight_stage(context), sample.id)
        labels = refined_labels(
            kept.maps["spotlight"], kept.classes, sure=settings.sure, unsure=settings.unsure
        )
        if self.least and len(kept.classes):
            raw = ImageMaps.load(context.run.path, "cams", sample.id).maps["spotlight"]
            labels[(raw.amax(dim=0) < self.least) & (labels > 0)] = IGNORE
        write_mask(_label_file(context, sample), labels, context.catalog.classes)
