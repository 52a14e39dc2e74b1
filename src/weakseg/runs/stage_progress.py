"""How far a stage is, in a file for who looks from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from weakseg.files import read_json, write_json
from weakseg.progress import Advance
from weakseg.types import RunError

PROGRESS = "progress.json"
"""The file of an unfinished stage; finished stages have none."""

_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class StageProgress:
    """How far a stage was when it last said so.

    Attributes:
        label: What it was doing.
        done: Pieces of work.
        total: Pieces in all.
        unit: Name of a piece, as `images`.
        seconds_left: By the speed so far; None if nothing was done yet.
        at: When that was, in seconds since 1970.
    """

    label: str
    done: int
    total: int
    unit: str
    seconds_left: float | None
    at: float


@contextmanager
def noted(
    folder: Path,
    advance: Advance,
    label: str,
    *,
    total: int,
    done: int,
    unit: str,
    clock: Callable[[], float] = time.time,
) -> Iterator[Advance]:
    """Keeps in a stage's folder how far it is, while the block runs.

    Args:
        folder: The stage's; nothing is kept where no stage is at work.
        advance: What shows it on the terminal, called with the same.
        label: What is being done.
        total: Pieces of work in all.
        done: Pieces that were there before.
        unit: Name of a piece.
        clock: The time in seconds; replaced in tests.
    """
    if not (folder / "fingerprint.json").is_file():
        yield advance
        return
    first, begun = done, clock()
    said = begun - _EVERY_SECONDS

    def note() -> None:
        nonlocal said
        now = clock()
        if now - said < _EVERY_SECONDS:
            return
        said = now
        left = (total - done) * (now - begun) / (done - first) if done > first else None
        with suppress(RunError):  # a full disk is told by what has to be written
            write_json(
                folder / PROGRESS, asdict(StageProgress(label, done, total, unit, left, now))
            )

    def noting(n: int = 1, **fields: object) -> None:
        nonlocal done
        advance(n, **fields)
        done += n
        note()

    note()
    yield noting


def read_progress(folder: Path) -> StageProgress | None:
    """How far a stage was when it last said so; None if it did not.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / PROGRESS
    if not path.is_file():
        return None
    record = read_json(path)
    try:
        left = record["seconds_left"]
        return StageProgress(
            str(record["label"]),
            int(record["done"]),
            int(record["total"]),
            str(record["unit"]),
            None if left is None else float(left),
            float(record["at"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise RunError(f"{path} is damaged; remove it: it only tells how far a stage is") from None
