"""Stage `classify`: the spotlight branch learns from tags."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from weakseg.data.datasets import TaggedViews
from weakseg.data.images import require_channels
from weakseg.models.amr import AMR, AMRSettings
from weakseg.runs.context import StageContext
from weakseg.runs.learning import begin_warm, finish_learning, learn, with_state
from weakseg.training.tag_task import TagTask

_ONE_BRANCH = AMRSettings(compensation=False)


def classify(context: StageContext) -> Mapping[str, object]:
    """Train a plain CAM network on tags; writes `state.safetensors` and `log.jsonl`."""
    config, catalog = context.config, context.catalog
    torch.manual_seed(config.seed)
    model = AMR(len(catalog.classes), config.backbone, _ONE_BRANCH)
    channels = config.backbone.in_chans
    require_channels(catalog, channels)
    views = TaggedViews(catalog, config.augment, config.seed, channels=channels)
    epochs = max(1, round(begin_warm(model, context) * config.fit.passes(len(catalog))))
    task = TagTask(model, config.task)
    summary = learn(context, "classify", task, views, config.fit, epochs=epochs)
    return finish_learning(context, model, summary)


def load_network(context: StageContext) -> AMR:
    """The network of a run that classification trained, the spotlight alone, in eval mode.

    Raises:
        RunError: The stage `classify` is not finished, or its state is damaged.
    """
    config = context.config
    model = AMR(len(context.catalog.classes), config.backbone, _ONE_BRANCH, load=False)
    return with_state(model, context, "classify")
