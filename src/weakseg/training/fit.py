"""The only training loop: schedule, precision, accumulation, checkpoints, resuming."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from weakseg.data.loading import raised
from weakseg.files import appending, replacing, write_atomic
from weakseg.training.device import Device, Precision, accelerator_for
from weakseg.training.memory import kept_memory
from weakseg.training.pieces import Pieces
from weakseg.types import RunError

_log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


class FitSettings(BaseModel):
    """How a task is trained.

    Attributes:
        epochs: Passes over the images.
        least_steps: Fewest steps: of few images there are more passes. None: any number.
        steps: Steps after which training ends, though the epochs have more; the learning rate
            decays over as many. None: after the epochs.
        batch_size: Images a step, over all processes and accumulated pieces.
        accumulate: Pieces that a batch is computed in; more need less memory.
        optimizer: `sgd`, gradient descent with momentum, or `adamw` (Loshchilov and Hutter, ICLR
            2019), which divides each weight's step by its gradients' usual size.
        lr: Learning rate at its highest.
        momentum: Of gradient descent; `adamw` has its usual 0.9 and 0.999.
        weight_decay: Of all weights with more than one dimension.
        power: Of the polynomial decay to zero.
        warmup: Share of the steps in which the learning rate rises from zero.
        clip: A step's gradient is shortened to this many times the usual length, that of the steps
            before on average. The rare batch whose gradient is a hundred times as long as the
            others' would undo what was learnt; steps of usual length stay as they are. 0: never.
        checkpoint_seconds: Minimum time between two checkpoints.
        workers: Processes that read images; None: one less than there are processors, at most 8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(6, ge=1, description="passes over the images")
    least_steps: int | None = Field(
        None, ge=1, description="fewest steps, by more passes where images are few; null: any"
    )
    steps: int | None = Field(None, ge=1, description="most steps in all; null: all of the epochs")
    batch_size: int = Field(16, ge=1, description="images per step")
    accumulate: int = Field(1, ge=1, description="pieces that a batch is computed in")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd or adamw")
    lr: float = Field(0.02, gt=0, description="highest learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of gradient descent")
    weight_decay: float = Field(1e-4, ge=0, description="of weights with more than one dimension")
    power: float = Field(0.9, gt=0, description="of the polynomial decay")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps with rising learning rate")
    clip: float = Field(4.0, ge=0, description="longest gradient, in usual lengths; 0: any")
    checkpoint_seconds: float = Field(60.0, ge=0, description="minimum time between checkpoints")
    workers: int | None = Field(None, ge=0, description="reading processes; null: by processors")

    @model_validator(mode="after")
    def _divisible(self) -> FitSettings:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size must be a multiple of accumulate, got {self.batch_size} and "
                f"{self.accumulate}"
            )
        return self

    def passes(self, images: int) -> int:
        """Passes over so many images: `epochs`, or as many as the fewest steps need."""
        steps = max(1, -(-images // self.batch_size))
        return max(self.epochs, -(-(self.least_steps or 0) // steps))


class Task(Protocol):
    """What can be trained: `forward(batch) -> {"loss": …, logged…}` and its parameter groups.

    If it has a method `after_step()`, that is called after every step of the optimizer.
    """

    def __call__(self, batch: Any) -> dict[str, Tensor]: ...  # noqa: D102

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters that learn, with `lr_scale`, the multiple of the learning rate."""
        ...


@dataclass(frozen=True)
class FitSummary:
    """What a training came to.

    Attributes:
        steps: Steps in all, those before a resumption included.
        resumed_at: Step at which this call went on; 0: from the start.
        loss: Mean loss of the last 20 steps.
        images_per_second: Of this call, all processes together.
    """

    steps: int
    resumed_at: int
    loss: float
    images_per_second: float


def schedule(step: int, steps: int, *, power: float, warmup: float) -> float:
    """Multiple of the learning rate at a step: linear warm-up, then polynomial decay to zero.

    Args:
        step: Counted from 0.
        steps: In all.
        power: Of the decay.
        warmup: Share of the steps that rise.
    """
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (math.floor(rising) + 1)
    return float((1 - step / steps) ** power)


@kept_memory()
def fit(
    task: nn.Module,
    loader: DataLoader[Any],
    settings: FitSettings,
    *,
    folder: Path,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    advance: Callable[..., None] | None = None,
    say: Callable[[str], object] | None = None,
) -> FitSummary:
    """Train a task over all batches of a loader.

    The loader gives the batches of all epochs, in pieces of batch_size / accumulate. An interrupted
    training goes on from `folder`'s checkpoint and ends as if it had not been interrupted, given
    that batches depend on their number alone.

    Args:
        task: A module with `forward(batch) -> {"loss": scalar, …}`, `parameter_groups()` and, if it
            wants to, `after_step()`; all that it remembers is in its state.
        loader: Its batches.
        settings: How to train.
        folder: Where `checkpoint.safetensors` and `log.jsonl` are kept.
        device: Where to compute.
        precision: In what.
        seed: Of what is random inside the network.
        advance: Called after each step with 1 and what to show.
        say: Called with a sentence where memory does not suffice for a batch at once, which then is
            computed in smaller pieces.

    Returns:
        Steps, last loss and speed.

    Raises:
        RunError: The checkpoint is of another network, the loss is no number any more, or memory
            does not suffice for a single image.
        WeaksegError: What a batch is instead, where the loader keeps errors (`KeptErrors`).
    """
    accelerator = accelerator_for(device, precision, settings.accumulate)
    optimizer = _optimizer(task, settings)
    if accelerator.device.type in ("cpu", "cuda"):
        task.to(memory_format=torch.channels_last)
    wrapped, fast, loader = accelerator.prepare(task, optimizer, loader)
    steps = len(loader) // settings.accumulate
    clip = _Clip(settings.clip, [p for group in optimizer.param_groups for p in group["params"]])
    done = _resume(folder, task, optimizer, clip, accelerator)
    _log.info("%s: %d of %d steps done, on %s", folder, done, steps, accelerator.device)
    log = _Log(folder / LOG, done, accelerator.is_main_process)
    batches = accelerator.skip_first_batches(loader, done * settings.accumulate)
    pieces = Pieces(wrapped, accelerator, say)
    start = saved = time.monotonic()
    recent: deque[float] = deque(log.losses(20), maxlen=20)
    wrapped.train()
    after_step: Callable[[], object] = getattr(task, "after_step", lambda: None)
    step, logged = done, dict[str, float]()
    for count, batch in enumerate(raised(batches)):
        if step == steps:
            break
        factor = schedule(step, steps, power=settings.power, warmup=settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * group["lr_scale"] * factor
        with accelerator.accumulate(wrapped):
            losses = pieces.add(
                batch, random_seed(seed, step), *_place(count % settings.accumulate, accelerator)
            )
            clip(accelerator)
            fast.step()
            fast.zero_grad()
        for name, value in losses.items():
            logged[name] = logged.get(name, 0.0) + value / settings.accumulate
        if not accelerator.sync_gradients:
            continue
        step += 1
        logged = _mean(logged, accelerator)
        after_step()
        if not math.isfinite(logged["loss"]):
            raise RunError(
                f"training: the loss is {logged['loss']} at step {step}; "
                f"lower this stage's learning rate (lr, now {settings.lr})"
            )
        speed = (step - done) * settings.batch_size / (time.monotonic() - start)
        recent.append(logged["loss"])
        log.add({"step": step, **logged, "lr": settings.lr * factor, "images_per_second": speed})
        if advance is not None:
            advance(1, loss=sum(recent) / len(recent), **{"images/s": speed})
        logged = {}
        if time.monotonic() - saved >= settings.checkpoint_seconds and step < steps:
            log.flush()
            if accelerator.is_main_process:
                _save(folder, step, task, optimizer, clip)
            saved = time.monotonic()
    log.flush()
    if accelerator.is_main_process:
        _save(folder, step, task, optimizer, clip)
    speed = (step - done) * settings.batch_size / max(time.monotonic() - start, 1e-9)
    return FitSummary(step, done, sum(recent) / max(1, len(recent)), speed)


def random_seed(seed: int, step: int) -> int:
    """The seed of what a step draws, another one in each.

    Args:
        seed: Of the whole training.
        step: Counted from 0.
    """
    return (seed * 1_000_003 + step) % 2**63


def _place(piece: int, accelerator: Accelerator) -> tuple[int, bool]:
    """The number of a piece among a step's pieces of all processes; whether it is the first here.

    Args:
        piece: Its number among this process's pieces.
        accelerator: The engine.
    """
    number = piece * int(accelerator.num_processes) + int(accelerator.process_index)
    return number, piece == 0


def _mean(logged: Mapping[str, float], accelerator: Accelerator) -> dict[str, float]:
    """The mean over all processes, of one as it is."""
    if accelerator.num_processes == 1:
        return dict(logged)
    own = torch.tensor([*logged.values()], dtype=torch.float32, device=accelerator.device)
    mean: Tensor = accelerator.reduce(own, "mean")
    return dict(zip(logged, mean.tolist(), strict=True))


def _optimizer(task: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """The optimizer of the task's groups, each split into what decays and what does not."""
    groups: Iterable[dict[str, Any]] = task.parameter_groups()  # type: ignore[operator]
    split = []
    for group in groups:
        for decays in (True, False):
            parameters = [p for p in group["params"] if (p.ndim > 1) == decays]
            if parameters:
                decay = settings.weight_decay if decays else 0.0
                split.append({**group, "params": parameters, "weight_decay": decay})
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(split, lr=settings.lr)
    return torch.optim.SGD(split, lr=settings.lr, momentum=settings.momentum)


class _Clip:
    """Shortens gradients that are much longer than those before.

    Attributes:
        usual: Mean length of the gradients so far, each at most as long as it was let through, the
            later ones counting more; 0 before the first.
    """

    def __init__(self, times: float, parameters: Sequence[nn.Parameter]) -> None:
        self.times, self.parameters, self.usual = times, parameters, 0.0

    def __call__(self, accelerator: Accelerator) -> None:
        if not self.times or not accelerator.sync_gradients:
            return
        limit = self.times * self.usual if self.usual else math.inf
        length = float(accelerator.clip_grad_norm_(self.parameters, limit))
        passed = min(length, limit)
        if math.isfinite(passed):
            self.usual += (passed - self.usual) * (_FOLLOWING if self.usual else 1.0)


_FOLLOWING = 0.05
"""Share of each step in the usual length of gradients."""


def _save(
    folder: Path, step: int, task: nn.Module, optimizer: torch.optim.Optimizer, clip: _Clip
) -> None:
    tensors = {f"task.{name}": value for name, value in task.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    numbers = json.dumps({"step": step, "usual": clip.usual})
    size = sum(value.nbytes for value in tensors.values())
    with replacing(folder / CHECKPOINT, size=size) as part:
        save_file(tensors, part, metadata={"state": numbers})


def steps_done(folder: Path) -> int:
    """How many steps the checkpoint in a folder holds; 0 if there is none.

    Raises:
        RunError: The checkpoint is damaged.
    """
    return int(_state(folder)["step"])


def _state(folder: Path) -> dict[str, float]:
    """The numbers beside a checkpoint's tensors."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return {"step": 0, "usual": 0.0}
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            step, usual = int(state["step"]), float(state["usual"])
            if step < 0 or not 0 <= usual < math.inf:
                raise ValueError(f"step {step}, usual length {usual}")
            return {"step": step, "usual": usual}
    except Exception as error:
        raise _cannot_resume(path, error) from error


def _cannot_resume(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path} cannot be resumed from ({type(error).__name__}: {str(error)[:120]}); "
        "remove it to train from the start"
    )


def _resume(
    folder: Path,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    clip: _Clip,
    accelerator: Accelerator,
) -> int:
    """Load the checkpoint, if there is one, and return the number of steps done."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = _state(folder)
    if not numbers["step"]:
        return 0
    clip.usual = numbers["usual"]
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt", device=str(accelerator.device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        task.load_state_dict(
            {n.removeprefix("task."): v for n, v in tensors.items() if n.startswith("task.")}
        )
        _load_optimizer(optimizer, tensors)
    except Exception as error:
        raise _cannot_resume(path, error) from error
    return int(numbers["step"])


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    own = optimizer.state_dict()
    own["state"] = state
    optimizer.load_state_dict(own)
    for parameter, kept in optimizer.state.items():
        if any(value.ndim and value.shape != parameter.shape for value in kept.values()):
            raise ValueError("the optimizer's state is of another network")


def _log_record(line: str) -> dict[str, float] | None:
    """A line of a log; None if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    numbers = isinstance(record, dict) and {"step", "loss"} <= record.keys()
    if not numbers or not all(isinstance(value, int | float) for value in record.values()):
        return None
    kept: dict[str, float] = record
    return kept


class _Log:
    """`log.jsonl`: a line a step; lines after the resumed step are dropped."""

    def __init__(self, path: Path, done: int, writes: bool) -> None:
        self.path, self.writes = path, writes
        self.lines: list[dict[str, float]] = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                record = _log_record(line)
                if record is None or record["step"] > done:
                    break  # cut off by a crash, or damaged: what follows is repeated
                self.lines.append(record)
        if writes:
            write_atomic(path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
        self.pending: list[str] = []

    def losses(self, count: int) -> list[float]:
        return [line["loss"] for line in self.lines[-count:]]

    def add(self, record: Mapping[str, float]) -> None:
        self.pending.append(json.dumps(record) + "\n")
        if len(self.pending) >= 10:
            self.flush()

    def flush(self) -> None:
        if self.writes and self.pending:
            with appending(self.path) as file:
                file.writelines(self.pending)
        self.pending = []
