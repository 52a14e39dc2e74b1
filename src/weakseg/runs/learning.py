"""What all stages that train have in common: the order of views, the loop, the state in the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save
from torch import nn
from torch.utils.data import DataLoader, Dataset

from weakseg.data.datasets import ShuffledBatches
from weakseg.data.loading import KeptErrors, collated
from weakseg.runs.context import StageContext
from weakseg.runs.image_batches import reading_workers
from weakseg.runs.processes import first_process, process_count
from weakseg.runs.stage_dir import EARLIER
from weakseg.training.fit import CHECKPOINT, FitSettings, FitSummary, fit, steps_done
from weakseg.types import ConfigError, RunError

STATE = "state.safetensors"

Network = TypeVar("Network", bound=nn.Module)


def learn(
    context: StageContext,
    label: str,
    task: nn.Module,
    views: Dataset[Any],
    settings: FitSettings,
    *,
    folder: Path | None = None,
    epochs: int | None = None,
) -> FitSummary:
    """Train a task on views, from its checkpoint if there is one.

    Args:
        context: The run.
        label: What the progress bar says.
        task: See `fit`.
        views: A data set asked by (epoch, index), with a length.
        settings: How to train.
        folder: Where checkpoint and log are kept; None: the stage's own.
        epochs: Passes over the views; None: as set. A dry run ends earlier.

    Raises:
        ConfigError: A batch cannot be divided among the processes of the launcher.
    """
    config, folder = context.config, folder or context.dir.path
    pieces = settings.accumulate * process_count()
    if settings.batch_size % pieces:
        raise ConfigError(
            f"{label}: a batch of {settings.batch_size} images cannot be cut into {pieces} equal "
            f"pieces, {settings.accumulate} for each of {process_count()} processes; set this "
            "stage's batch_size to a multiple"
        )
    limits = [n for n in (settings.steps, config.dry_run) if n is not None]
    count: int = len(views)  # type: ignore[arg-type]
    batches = ShuffledBatches(
        count,
        settings.batch_size,
        settings.passes(count) if epochs is None else epochs,
        config.seed,
        limit=min(limits) if limits else None,
        pieces=pieces,
    )
    workers = reading_workers(settings)
    loader = DataLoader(
        KeptErrors(views),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collated,
        prefetch_factor=4 if workers else None,
    )
    with context.track(label, batches.batches, done=steps_done(folder), unit="steps") as advance:
        return fit(
            task,
            loader,
            settings,
            folder=folder,
            device=config.device,
            precision=config.precision,
            seed=config.seed,
            advance=advance,
            say=lambda text: context.say(f"{label}: {text}"),
        )


def begin_warm(network: nn.Module, context: StageContext, file: Path | None = None) -> float:
    """Begins with the network that the stage ended with before people corrected something.

    Args:
        network: What is to learn; takes the parameters that fit.
        context: The run.
        file: Where that network would be, without `EARLIER`; None: the stage's state.

    Returns:
        The share of the epochs to train for: 1 where it begins anew.

    Raises:
        RunError: The file is damaged.
    """
    share = context.config.review.warm_start
    path = file or context.dir.path / STATE
    path = path.with_name(f"{EARLIER}{path.name}")
    if not share or not path.is_file():
        return 1.0
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove it and run again"
        ) from error
    context.say(f"{context.dir.path.name}: goes on from the last network")
    return share


def finish_learning(
    context: StageContext, network: nn.Module, summary: FitSummary
) -> Mapping[str, object]:
    """Write a network's state in place of the checkpoint; returns the stage's summary."""
    if first_process():
        state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        context.dir.write_bytes(STATE, save(state))
        (context.dir.path / CHECKPOINT).unlink(missing_ok=True)
        (context.dir.path / f"{EARLIER}{STATE}").unlink(missing_ok=True)
    return {
        "images": len(context.catalog),
        "steps": summary.steps,
        "resumed_at": summary.resumed_at,
        "loss": summary.loss,
        "images_per_second": summary.images_per_second,
    }


def with_state(network: Network, context: StageContext, stage: str) -> Network:
    """A network with the state that a stage of the run ended with, in eval mode.

    Raises:
        RunError: The stage is not finished, or its state is damaged.
    """
    path = context.run.stage(stage).path / STATE
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove {path.parent} and run again"
        ) from error
    return network.eval()
