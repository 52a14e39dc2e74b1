"""How well tags of images held out are told after a short training, at a size."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from weakseg.config.run_config import RunConfig
from weakseg.data.datasets import ShuffledBatches, TaggedViews, tag_vector
from weakseg.data.loading import KeptErrors, collated
from weakseg.models.amr import AMR, AMRSettings
from weakseg.planning.data_facts import evenly
from weakseg.planning.training_rules import settled_steps
from weakseg.runs.image_batches import image_batches, reading_workers
from weakseg.training.device import Inference
from weakseg.training.fit import FitSettings, fit
from weakseg.training.tag_task import TagTask
from weakseg.types import Catalog, Sample

HELD_OUT = 5
"""One image of so many is held out."""

_MOST_HELD_OUT = 500
"""Images that are held out at most: what they say no longer changes with more."""

_WARMUP, _BATCH = 0.1, 8
"""A short training: a tenth of its steps warms it up, and a step sees half the usual images, with
half the learning rate."""

_PIXELS = 1_000_000
"""Maximum pixels of a batch that is only looked at."""


def trial_settings() -> FitSettings:
    """How the short training learns."""
    usual = FitSettings()
    steps = settled_steps(usual.momentum, _WARMUP)
    return FitSettings(
        batch_size=_BATCH,
        lr=usual.lr * _BATCH / usual.batch_size,
        warmup=_WARMUP,
        steps=steps,
        least_steps=steps,
    )


def parted(catalog: Catalog, seed: int = 0) -> tuple[Catalog, tuple[Sample, ...]]:
    """Images to learn from, and a fifth of each kind that is held out.

    A kind is the rarest of an image's tags, or none.

    Args:
        catalog: The samples.
        seed: Of the order within a kind.
    """
    counts = [0] * len(catalog.classes)
    for sample in catalog:
        for tag in sample.tags:
            counts[tag] += 1
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(catalog), generator=generator).tolist()

    def kind(place: int) -> int:
        return min(catalog.samples[place].tags, key=lambda tag: counts[tag], default=-1)

    ordered = sorted(order, key=kind)
    out = set(ordered[HELD_OUT // 2 :: HELD_OUT])
    learnt = tuple(s for place, s in enumerate(catalog.samples) if place not in out)
    held = evenly([catalog.samples[place] for place in sorted(out)], _MOST_HELD_OUT)
    return Catalog(catalog.classes, learnt), tuple(held)


def tag_scores(
    learnt: Catalog,
    held: Sequence[Sample],
    config: RunConfig,
    advance: Callable[[], object] = lambda: None,
    *,
    rate: float = 1.0,
) -> Tensor:
    """Scores of the tags of images held out, float32 [N,K], by a network trained for a short time.

    Args:
        learnt: What it learns from.
        held: What it is tried on.
        config: All settings; the size is `cams.long_side`, the views are `augment`'s.
        advance: Called after each step.
        rate: Multiple of the learning rate.

    Raises:
        FileError: An image cannot be read.
        RunError: The training diverged, or memory does not suffice.
    """
    settings = trial_settings()
    settings = settings.model_copy(update={"lr": rate * settings.lr, "checkpoint_seconds": 1e9})

    def step(*_: object, **__: object) -> None:
        advance()

    torch.manual_seed(config.seed)
    model = AMR(len(learnt.classes), config.backbone, AMRSettings(compensation=False))
    views = TaggedViews(learnt, config.augment, config.seed, channels=config.backbone.in_chans)
    passes = settings.passes(len(learnt))
    batches = ShuffledBatches(
        len(learnt), settings.batch_size, passes, config.seed, limit=settings.steps
    )
    workers = reading_workers(config.fit)
    loader = DataLoader(
        KeptErrors(views),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collated,
        prefetch_factor=4 if workers else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            TagTask(model, config.task),
            loader,
            settings,
            folder=Path(folder),
            device=config.device,
            precision=config.precision,
            seed=config.seed,
            advance=step,
        )
    return _scores(model, held, config)


@torch.no_grad()
def _scores(model: AMR, held: Sequence[Sample], config: RunConfig) -> Tensor:
    inference = Inference(config.device, config.precision)
    model = model.eval().to(inference.device)
    places = {sample.id: place for place, sample in enumerate(held)}
    found = torch.zeros(len(held), model.classes)
    for samples, images in image_batches(
        held,
        config.fit,
        config.backbone,
        long_side=config.cams.long_side,
        most=_BATCH,
        pixels=_PIXELS,
    ):
        with inference.autocast():
            logits = model(images.to(inference.device)).spotlight.logits
        for sample, own in zip(samples, logits.float().cpu(), strict=True):
            found[places[sample.id]] = own
    return found


def true_tags(held: Sequence[Sample], classes: int) -> Tensor:
    """What images show, bool [N,K]."""
    return torch.stack([tag_vector(sample, classes) for sample in held]).bool()
