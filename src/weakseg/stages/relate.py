"""Stage `relate`: a network learns from seeds where objects end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader

from weakseg.data.datasets import MaskedViews, ShuffledBatches
from weakseg.models.irn import RelationNet
from weakseg.rundir import StageContext
from weakseg.stages.classify import STATE, load_network, reading_workers
from weakseg.training.fit import CHECKPOINT, accelerator_for, fit, steps_done
from weakseg.training.tasks import RelationTask
from weakseg.types import RunError

_MEASURED_BATCHES = 64
"""Batches over which the mean displacement is measured."""


def relate(context: StageContext) -> Mapping[str, object]:
    """Train the relation network on the seeds; writes `state.safetensors` and `log.jsonl`."""
    config, catalog, settings = context.config, context.catalog, context.config.relate
    torch.manual_seed(config.seed)
    features = load_network(context)
    net = RelationNet(features.widths, features.strides, displacement=settings.displacement)
    batches = ShuffledBatches(
        len(catalog),
        settings.fit.batch_size // settings.fit.accumulate,
        settings.fit.epochs,
        config.seed,
    )
    workers = reading_workers(settings.fit)
    folder = context.run.path / "seeds"
    views = MaskedViews(
        catalog.samples,
        [folder / f"{sample.id}.png" for sample in catalog],
        settings.augment,
        config.seed,
    )
    loader = DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    steps, done = len(batches) // settings.fit.accumulate, steps_done(context.dir.path)
    task = RelationTask(features, net, settings.radius)
    with context.track("relate", steps, done=done, unit="steps") as advance:
        summary = fit(
            task,
            loader,
            settings.fit,
            folder=context.dir.path,
            device=config.device,
            precision=config.precision,
            seed=config.seed,
            advance=advance,
        )
    if os.environ.get("RANK", "0") == "0":
        if net.displacement_head is not None:
            _measure_displacement(context, task, views)
        state = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
        context.dir.write_bytes(STATE, save(state))
        (context.dir.path / CHECKPOINT).unlink(missing_ok=True)
    return {
        "images": len(catalog),
        "steps": summary.steps,
        "resumed_at": summary.resumed_at,
        "loss": summary.loss,
        "images_per_second": summary.images_per_second,
    }


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
        means.append(displacement.float().mean(dim=(0, 2, 3)))
    task.net.set_displacement_mean(torch.stack(means).mean(dim=0))


def load_relations(context: StageContext) -> RelationNet:
    """The trained relation network of a run, in eval mode.

    Raises:
        RunError: The stage `relate` is not finished, or its state is damaged.
    """
    path = context.run.stage("relate").path / STATE
    features = load_network(context)
    displacement = context.config.relate.displacement
    net = RelationNet(features.widths, features.strides, displacement=displacement)
    try:
        net.load_state_dict(load_file(path))
    except Exception as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove {path.parent} and run again"
        ) from error
    return net.eval()


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
