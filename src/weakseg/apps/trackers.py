"""Training curves shown by TensorBoard or Weights & Biases while a run goes on.

They read what the trainings write, `RUN/<stage>/log.jsonl` and that of each of its rounds, and so
know nothing of the trainings.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weakseg.types import ConfigError

TRACKERS = ("tensorboard", "wandb")
"""Where the curves can be shown; each is the name of the package that must be installed."""

_SECONDS = 5.0
"""Between two looks at the logs."""

Send = Callable[[str, int, Mapping[str, float]], None]


def check_tracker(name: str) -> None:
    """Raises what `followed` would, and starts nothing.

    Raises:
        ConfigError: The tracker is unknown, or not installed.
    """
    if name not in TRACKERS:
        raise ConfigError(f"unknown tracker {name!r}; known: {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"{name} is not installed; install it with `pip install {name}`")


@contextmanager
def followed(run: Path, tracker: str, *, seconds: float = _SECONDS) -> Iterator[None]:
    """Sends new lines of a run's training logs to a tracker while the block runs.

    Lines that an earlier process has written are not sent again to TensorBoard, whose files are in
    `RUN/tensorboard`.

    Args:
        run: The run's folder.
        tracker: One of `TRACKERS`.
        seconds: Between two looks at the logs.

    Raises:
        ConfigError: The tracker is unknown, or not installed.
    """
    check_tracker(tracker)
    tail = Tail(run)
    if tracker == "tensorboard" and (run / "tensorboard").is_dir():
        tail.new()
    send, close = _tensorboard(run) if tracker == "tensorboard" else _wandb(run)
    ended = threading.Event()

    def forward() -> None:
        last = False
        while not last:
            last = ended.wait(seconds)
            for stage, step, values in tail.new():
                send(stage, step, values)

    thread = threading.Thread(target=forward, name=f"weakseg {tracker}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        close()


class Tail:
    """What is new in a run's training logs since the last look.

    A training that is resumed or done anew writes its file anew: what follows is new then.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._steps: dict[str, int] = {}

    def new(self) -> list[tuple[str, int, dict[str, float]]]:
        """Stage, step and values of each new line."""
        found = []
        paths = (*self._run.glob("*/log.jsonl"), *self._run.glob("*/round-*/log.jsonl"))
        for path in sorted(paths):
            rows = [row for line in _lines(path) if (row := _row(line)) is not None]
            stage = path.parent.relative_to(self._run).as_posix()
            last = rows[-1][0] if rows else 0
            sent = min(self._steps.get(stage, 0), last)
            found += [(stage, step, values) for step, values in rows if step > sent]
            self._steps[stage] = last
        return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # it is being replaced or removed
        return []


def _row(line: str) -> tuple[int, dict[str, float]] | None:
    try:
        row: dict[str, Any] = json.loads(line)
        step = int(row.pop("step"))
        return step, {key: float(value) for key, value in row.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None  # the line is being written


def _tensorboard(run: Path) -> tuple[Send, Callable[[], None]]:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    opened: list[SummaryWriter] = []

    def send(stage: str, step: int, values: Mapping[str, float]) -> None:
        if not opened:  # not before the run's folder is known to be one
            opened.append(SummaryWriter(str(run / "tensorboard")))
        for key, value in values.items():
            opened[0].add_scalar(f"{stage}/{key}", value, step)

    def close() -> None:
        for writer in opened:
            writer.close()

    return send, close


def _wandb(run: Path) -> tuple[Send, Callable[[], None]]:
    import wandb  # noqa: PLC0415

    tracked = wandb.init(project="weakseg", name=run.resolve().name)
    known: set[str] = set()

    def send(stage: str, step: int, values: Mapping[str, float]) -> None:
        if stage not in known:  # every training counts its own steps
            known.add(stage)
            tracked.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        named = {f"{stage}/{key}": value for key, value in values.items()}
        tracked.log({**named, f"{stage}/step": step})

    return send, tracked.finish
