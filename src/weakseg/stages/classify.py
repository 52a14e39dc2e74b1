"""Stage `classify`: the two branches learn from tags."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from safetensors.torch import load_file, save
from torch.utils.data import DataLoader

from weakseg.data.datasets import ShuffledBatches, TaggedViews
from weakseg.models.amr import AMR
from weakseg.rundir import StageContext
from weakseg.training.fit import CHECKPOINT, FitSettings, fit, steps_done
from weakseg.training.tasks import TagTask
from weakseg.types import RunError

STATE = "state.safetensors"


def classify(context: StageContext) -> Mapping[str, object]:
    """Train AMR on the catalog's tags; writes `state.safetensors` and `log.jsonl`."""
    config, catalog = context.config, context.catalog
    torch.manual_seed(config.seed)
    model = AMR(len(catalog.classes), config.backbone, config.amr)
    task = TagTask(model, config.task)
    batches = ShuffledBatches(
        len(catalog),
        config.fit.batch_size // config.fit.accumulate,
        config.fit.epochs,
        config.seed,
    )
    workers = reading_workers(config.fit)
    loader = DataLoader(
        TaggedViews(catalog, config.augment, config.seed),
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    steps, done = len(batches) // config.fit.accumulate, steps_done(context.dir.path)
    with context.track("classify", steps, done=done, unit="steps") as advance:
        summary = fit(
            task,
            loader,
            config.fit,
            folder=context.dir.path,
            device=config.device,
            precision=config.precision,
            seed=config.seed,
            advance=advance,
        )
    if os.environ.get("RANK", "0") == "0":
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        context.dir.write_bytes(STATE, save(state))
        (context.dir.path / CHECKPOINT).unlink(missing_ok=True)
    return {
        "images": len(catalog),
        "steps": summary.steps,
        "resumed_at": summary.resumed_at,
        "loss": summary.loss,
        "images_per_second": summary.images_per_second,
    }


def load_network(context: StageContext) -> AMR:
    """The trained network of a run, in eval mode.

    Raises:
        RunError: The stage `classify` is not finished, or its state is damaged.
    """
    path = context.run.stage("classify").path / STATE
    config = context.config
    model = AMR(len(context.catalog.classes), config.backbone, config.amr, load=False)
    try:
        model.load_state_dict(load_file(path))
    except Exception as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove {path.parent} and run again"
        ) from error
    return model.eval()


def reading_workers(settings: FitSettings) -> int:
    """How many processes read images."""
    if settings.workers is not None:
        return settings.workers
    return min(8, max(1, (os.cpu_count() or 2) - 1))
