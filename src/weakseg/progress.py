"""How far a long job is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 30.0
"""Where the console is no terminal, at most one line is written in this time."""


class Advance(Protocol):
    """What `track` hands out: call it after each piece of work."""

    def __call__(self, n: int = 1, **fields: object) -> None:
        """Counts `n` more pieces; `fields` are shown beside the bar, as `loss=0.31`."""


@contextmanager
def track(
    console: Console,
    label: str,
    total: int,
    *,
    done: int = 0,
    unit: str = "images",
    every: float = LINE_EVERY_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Shows how far a job is while the block runs.

    Args:
        console: Where to show it; a bar if it is a terminal, otherwise plain lines.
        label: What is being done, as `cams`.
        total: Pieces of work in all.
        done: Pieces already there from an earlier, interrupted run; they do not count as speed.
        unit: Name of a piece, for the speed (`images/s`); a field of any speed (`…/s`) replaces
            the one measured here.
        every: Minimum time between two plain lines, in seconds.
        clock: The time in seconds; replaced in tests.

    Yields:
        `advance(n=1, **fields)`.
    """
    count, start = done, clock()
    last_line, shown = start, ""

    def speed() -> float:
        return (count - done) / max(clock() - start, 1e-9)

    def described(fields: dict[str, object]) -> str:
        if not any(name.endswith("/s") for name in fields):
            fields = {f"{unit}/s": speed(), **fields}
        return "  ".join(f"{name} {_short(value)}" for name, value in fields.items())

    def line() -> str:
        left = (total - count) / speed() if count > done else None
        rest = f"  {clock_text(left)} left" if left is not None and count < total else ""
        return f"{label}  {count}/{total}  {shown}{rest}"

    if console.is_terminal:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=120.0,
        )
        with bar:
            task = bar.add_task(label, total=total, completed=done, shown="")

            def advance_bar(n: int = 1, **fields: object) -> None:
                nonlocal count
                count += n
                bar.update(task, advance=n, shown=described(fields))

            yield advance_bar
        return

    def advance_line(n: int = 1, **fields: object) -> None:
        nonlocal count, last_line, shown
        count += n
        if count >= total or clock() - last_line >= every:
            shown = described(fields)
            last_line = clock()
            console.print(line(), markup=False, highlight=False, soft_wrap=True)

    yield advance_line


def _short(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def clock_text(seconds: float) -> str:
    """A time as `m:ss`, or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def counted(
    console: Console | None, label: str, *, late: bool = False, unit: str = "images"
) -> Iterator[Callable[[int, int], None] | None]:
    """A `progress(done, total)` that shows a bar from its first call on; None without console.

    Args:
        console: Where to show it.
        label: What is being done.
        late: Whether nothing is shown of what ends within seconds.
        unit: What is counted.
    """
    if console is None:
        yield None
        return
    with ExitStack() as stack:
        advance: Advance | None = None
        before = 0
        begun = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal advance, before
            if late and advance is None and time.monotonic() - begun < _LATE_SECONDS:
                before = done
                return
            if advance is None:
                advance = stack.enter_context(track(console, label, total, done=before, unit=unit))
            advance(done - before)
            before = done

        yield progress


_LATE_SECONDS = 5.0
