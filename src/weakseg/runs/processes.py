"""The processes that a launcher starts together: who does what, and how they end together.

`torchrun` and `accelerate launch` tell each process its number (RANK), how many there are
(WORLD_SIZE) and where they meet (MASTER_ADDR, MASTER_PORT). Without them there is one process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from weakseg.files import plain
from weakseg.types import RunError, exit_code

Item = TypeVar("Item")
Value = TypeVar("Value")

_PATIENCE = timedelta(minutes=5)
"""How long processes wait for each other at the start."""

_LOOK = 0.5
"""Seconds between two looks at how the others are."""

_TOLD = 5.0
"""Seconds that a process which fails waits until the others have heard why."""


@dataclass
class Part:
    """A part of a stage's images, done as one of many processes would, which need not meet.

    Attributes:
        start: The first of the images.
        stop: The one behind the last.
        is_first: Whether it also does what the first process does.
        told: What the first process says to all, in turn; what is not there yet it adds.
        brought: What this part brings where all is gathered, in turn.
        others: What each other part brought, known to the first.
    """

    start: int = 0
    stop: int = 0
    is_first: bool = False
    told: list[Any] = field(default_factory=list)
    brought: list[Any] = field(default_factory=list)
    others: Sequence[Sequence[Any]] = ()
    turn: int = 0

    def gathered(self, value: Any) -> list[Any]:
        """What all parts bring in this turn, as far as it is known."""
        turn = len(self.brought)
        self.brought.append(plain(value))
        return [value, *(other[turn] for other in self.others)]

    def by_first(self, function: Callable[[], Any]) -> Any:
        """What the first process says in this turn."""
        if self.turn == len(self.told):
            self.told.append(plain(function()))
        self.turn += 1
        return self.told[self.turn - 1]


_part: Part | None = None


@contextmanager
def doing_part(part: Part) -> Iterator[Part]:
    """In the block this process does a part of a stage's images; those of all parts are all."""
    global _part  # noqa: PLW0603
    _part = part
    try:
        yield part
    finally:
        _part = None


def process_number() -> int:
    """The number of this process among those of its launcher, from 0."""
    if _part is not None:
        return 0 if _part.is_first else 1
    return int(os.environ.get("RANK", "0"))


def first_process() -> bool:
    """Whether this is the only process, or the first of a launcher's."""
    return process_number() == 0


def process_count() -> int:
    """How many processes of a launcher work on the run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that this process works on; those of all processes are all, none twice."""
    if _part is not None:
        return items[_part.start : _part.stop]
    return items[process_number() :: process_count()]


def wait_for_all() -> None:
    """Returns when all processes have come here."""
    if _part is None:
        gathered(None)


def gathered(value: Value) -> list[Value]:
    """What every process brings here, in their order.

    Args:
        value: Anything that JSON holds, and numbers of arrays.
    """
    if _part is not None:
        return _part.gathered(value)
    if process_count() == 1:
        return [value]
    return _together().gathered(value)


def by_first(function: Callable[[], Value]) -> Value:
    """What the first process computes, for all of them.

    Args:
        function: Gives anything that JSON holds; called in the first process only.
    """
    if _part is not None:
        said: Value = _part.by_first(function)
        return said
    found: Value = told(function() if first_process() else None)
    return found


def told(value: Any) -> Any:
    """What the first process says here, in all of them; what the others say is not listened to.

    Args:
        value: Anything that JSON holds.
    """
    return value if process_count() == 1 else _together().told(value)


@contextmanager
def working_together() -> Iterator[None]:
    """In the block a launcher's processes can wait for each other, and end if one of them does.

    A process whose partner fails prints the partner's message and exits with its code, wherever it
    is. Every process has to come here; without a launcher nothing happens.

    Raises:
        RunError: The other processes cannot be reached.
    """
    global _joined  # noqa: PLW0603
    if process_count() == 1:
        yield
        return
    _joined = _Company()
    try:
        yield
        _joined.leave()
    except BaseException as error:
        _joined.fail(error)
        raise
    finally:
        _joined = None


_joined: _Company | None = None


def _together() -> _Company:
    if _joined is None:
        raise RuntimeError("expected to be called within working_together()")
    return _joined


class _Company:
    """This process among the others, which share a few values in torch's store."""

    calls = 0
    stores: ClassVar[list[Any]] = []
    """Two connections, kept as long as this process: the first one may be the store's keeper."""

    def __init__(self) -> None:
        from torch._C._distributed_c10d import PrefixStore  # noqa: PLC0415

        _Company.calls += 1
        self.number, self.count = process_number(), process_count()
        while len(self.stores) < 2:
            self.stores.append(self._connected())
        # torchrun starts all anew after a failure, with the store as it was.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        prefix = f"weakseg/{attempt}/{_Company.calls}"
        self.store, self.watched = (PrefixStore(prefix, store) for store in self.stores)
        self.turn, self.ending = 0, threading.Event()
        self.store.set(f"where/{self.number}", json.dumps([socket.gethostname(), os.getpid()]))
        self.watcher = threading.Thread(target=self._watch, name="weakseg processes", daemon=True)
        self.watcher.start()

    def _connected(self) -> Any:
        from torch._C._distributed_c10d import TCPStore  # noqa: PLC0415

        host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
        # torchrun keeps the store in a process of its own.
        elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        try:
            return TCPStore(
                host,
                int(port),
                is_master=first_process() and not elsewhere,
                timeout=_PATIENCE,
                wait_for_workers=False,
                multi_tenant=True,
            )
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(
                f"process {self.number} of {self.count} cannot reach the first one at "
                f"{host or '(no MASTER_ADDR)'}:{port or '(no MASTER_PORT)'} ({reason}); start all "
                "of them by torchrun or accelerate launch"
            ) from None

    def gathered(self, value: Any) -> list[Any]:
        self.turn += 1
        self.store.set(f"{self.turn}/{self.number}", json.dumps(plain(value)))
        return [self._read(f"{self.turn}/{number}") for number in range(self.count)]

    def told(self, value: Any) -> Any:
        self.turn += 1
        if self.number == 0:
            self.store.set(f"{self.turn}/0", json.dumps(plain(value)))
            return value
        return self._read(f"{self.turn}/0")

    def _read(self, key: str) -> Any:
        self._wait(lambda: self.store.check([key]))
        return json.loads(self.store.get(key))

    def _wait(self, ready: Callable[[], bool], seconds: float = float("inf")) -> None:
        until, pause = time.monotonic() + seconds, 0.002
        while not ready() and time.monotonic() < until:
            time.sleep(pause)
            pause = min(0.2, 1.5 * pause)

    def leave(self) -> None:
        """Ends when all others do, too."""
        self.gathered(None)
        self.ending.set()
        self.watcher.join()
        # The first process may hold the store: it goes last.
        self.store.add("left", 1)
        if self.number == 0:
            with suppress(RuntimeError):
                self._wait(lambda: self.store.add("left", 0) >= self.count, _TOLD)

    def fail(self, error: BaseException) -> None:
        """Tells the others why this process ends."""
        if not isinstance(error, KeyboardInterrupt) and exit_code(error) != exit_code(RunError()):
            time.sleep(4 * _LOOK)  # what a partner's end has caused: the watcher tells that
        self.ending.set()
        text = " ".join(str(error).split()) or type(error).__name__
        told = json.dumps([self.number, text, exit_code(error)])
        with suppress(RuntimeError):  # the first process may be gone, and the store with it
            self.store.compare_set("failed", "", told)
            self._wait(lambda: self.store.add("heard", 0) >= self.count - 1, _TOLD)

    def _watch(self) -> None:
        begun = time.monotonic()
        others = [number for number in range(self.count) if number != self.number]
        while not self.ending.wait(_LOOK):
            try:
                if self.watched.check(["failed"]):
                    number, text, code = json.loads(self.watched.get("failed"))
                    self.watched.add("heard", 1)
                    if self.number == 0:  # which may hold the store
                        time.sleep(2 * _LOOK)
                    self._end(f"process {number} of {self.count} failed: {text}", code)
                missing = [n for n in others if not self.watched.check([f"where/{n}"])]
                if missing and time.monotonic() - begun > _PATIENCE.total_seconds():
                    self._end(f"process {missing[0]} of {self.count} did not start", _FOUND)
                for number in set(others) - set(missing):
                    host, process = json.loads(self.watched.get(f"where/{number}"))
                    if host == socket.gethostname() and _is_gone(process):
                        time.sleep(_LOOK)  # its last word, if it had one
                        if not self.watched.check(["failed"]) and not self.ending.is_set():
                            self._end(f"process {number} of {self.count} was ended", _FOUND)
            except RuntimeError:  # the first process held the store
                self._end("the first process, or its launcher, was ended", _FOUND)

    def _end(self, text: str, code: int) -> None:
        """Ends this process at once: what it writes is whole or not there."""
        if self.ending.is_set():
            return
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stderr.write(f"weakseg: error: {text}; this one (process {self.number}) ends, too\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_FOUND = exit_code(RunError())


def _is_gone(process: int) -> bool:
    import psutil  # noqa: PLC0415

    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
