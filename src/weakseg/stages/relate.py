"""Stage `relate`: a network learns from seeds where objects end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from weakseg.data.datasets import MaskedViews, ShuffledBatches
from weakseg.models.irn import RelationNet
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.learning import begin_warm, finish_learning, learn, with_state
from weakseg.runs.processes import first_process
from weakseg.stages.classify import load_network
from weakseg.training.device import accelerator_for
from weakseg.training.relation_task import RelationTask

_MEASURED_BATCHES = 64
"""Batches over which the mean displacement is measured."""


def relate(context: StageContext) -> Mapping[str, object]:
    """Train the relation network on the seeds; writes `state.safetensors` and `log.jsonl`."""
    config, catalog, settings = context.config, context.catalog, context.config.relate
    torch.manual_seed(config.seed)
    features = load_network(context)
    net = RelationNet(features.widths, features.strides, displacement=settings.displacement)
    seeds = [image_file(context.run.path, "seeds", sample.id, ".png") for sample in catalog]
    samples, masks = context.corrections.learnt_from(catalog.samples, seeds, config.review.weight)
    views = MaskedViews(
        samples,
        masks,
        settings.augment,
        config.seed,
        channels=config.backbone.in_chans,
    )
    task = RelationTask(features, net, settings.radius)
    epochs = max(1, round(begin_warm(net, context) * settings.fit.passes(len(samples))))
    summary = learn(context, "relate", task, views, settings.fit, epochs=epochs)
    if first_process() and net.displacement_head is not None:
        _measure_displacement(context, task, views)
    return {**finish_learning(context, net, summary), **context.corrections.summary}


@torch.no_grad()
def _measure_displacement(context: StageContext, task: RelationTask, views: MaskedViews) -> None:
    """The mean displacement over the training set, which inference subtracts."""
    config = context.config
    accelerator = accelerator_for(config.device, config.precision)
    batch_size = config.relate.fit.batch_size
    batches = list(ShuffledBatches(len(views), batch_size, 1, config.seed))[:_MEASURED_BATCHES]
    task.to(accelerator.device).train()
    means = []
    for images, _ in DataLoader(views, batch_sampler=cast("list[list[int]]", batches)):
        features = task.features.pyramid(images.to(accelerator.device))
        displacement = task.net(features).displacement
        assert displacement is not None  # asked for by `relate.displacement`
        means.append(displacement.float().mean(dim=(0, 2, 3)))
    task.net.set_displacement_mean(torch.stack(means).mean(dim=0))


def load_relations(context: StageContext) -> RelationNet:
    """The trained relation network of a run, in eval mode.

    Raises:
        RunError: The stage `relate` is not finished, or its state is damaged.
    """
    features = load_network(context)
    displacement = context.config.relate.displacement
    net = RelationNet(features.widths, features.strides, displacement=displacement)
    return with_state(net, context, "relate")


@torch.no_grad()
def boundaries(features: list[Tensor], net: RelationNet, size: tuple[int, int]) -> Tensor:
    """Boundary probabilities of images from their and their mirror images' features.

    Args:
        features: The pyramid of 2·B images, the second half the mirror images of the first.
        net: The trained network.
        size: Height and width of the grid.

    Returns:
        float32 [B,h,w] in 0..1: sigmoid of the mean over both.
    """
    logits = net.boundary_head(features, size)[:, 0].float()
    half = len(logits) // 2
    mean: Tensor = (logits[:half] + logits[half:].flip(-1)) / 2
    return mean.sigmoid()
