"""How long work takes, and how much memory: measured while it is done."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.processors import one_thread


class Stopwatch:
    """Takes the time of work that is repeated, as if this machine had nothing else to do.

    Args:
        device: Where it is done.
        seconds: About how long all work may be repeated, together.
        kinds: How many kinds of work there will be.
        advance: Called after each kind.

    Attributes:
        clock: Seconds of the clock that all work took so far.
        free: Seconds that it would have taken without other programs.
    """

    def __init__(
        self,
        device: torch.device,
        seconds: float,
        kinds: int = 1,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        self.device, self.seconds, self.advance = device, seconds / kinds, advance
        self.until = time.monotonic() + seconds
        self.clock = self.free = 0.0

    def each(self, work: Callable[[], object], count: int = 1) -> float:
        """Seconds that work on so many images takes for one of them; the first time is left out.

        Where there is no time left, it is done once. Where other programs keep the processors from
        it, the time of its own is taken, of one thread: several would wait for each other, and
        turn in circles meanwhile.
        """
        clock, own, others = self._once(work)
        if others > _HINDERED * clock:
            threads = torch.get_num_threads()
            with one_thread():
                own = self._once(work)[1] if threads > 1 else own
            free = min(clock, own / done_by(threads))
        else:
            begun, taken = time.monotonic(), list[float]()
            while (now := time.monotonic()) < self.until and (
                not taken or now - begun < self.seconds
            ):
                taken.append(self._once(work)[0])
            free = clock = statistics.median(taken or [clock])
        self.clock, self.free = self.clock + clock, self.free + free
        self.advance()
        return free / count

    def _once(self, work: Callable[[], object]) -> tuple[float, float, float]:
        """Seconds of the clock, of this process, and of others for want of which it waited."""
        import psutil  # noqa: PLC0415

        busy, own, clock = _busy(psutil.cpu_times()), time.process_time(), time.monotonic()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        clock, own = time.monotonic() - clock, time.process_time() - own
        busy = _busy(psutil.cpu_times()) - busy
        idle = clock * (psutil.cpu_count() or 1) - busy
        waits = self.device.type == "cpu" and idle < _IDLE * clock
        return clock, own, max(0.0, busy - own) if waits else 0.0


_IDLE = 0.5
"""Processors without work from which on nobody has to wait for one."""

_HINDERED = 0.25
"""Processors taken by others from which on a time of the clock says little."""

_TOGETHER = 0.8
"""n threads do about n to this power times what one does: they wait for each other."""


def done_by(threads: int) -> float:
    """How many times as much several threads do as one.

    Example:
        >>> round(done_by(2), 2)
        1.74
    """
    return float(threads**_TOGETHER)


def _busy(times: Any) -> float:
    """Processor seconds spent by all programs, and taken by other machines of the same host."""
    parts = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, part, 0.0) for part in parts))


@contextmanager
def bytes_for_gradients() -> Iterator[list[int]]:
    """Collects the sizes of all tensors that are kept for gradients; parameters count not."""
    sizes: list[int] = []
    seen: set[int] = set()

    def kept(tensor: Tensor) -> Tensor:
        own = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and own.data_ptr() not in seen:
            seen.add(own.data_ptr())
            sizes.append(own.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        yield sizes


def widest_layer(network: nn.Module, work: Callable[[], object]) -> int:
    """The most bytes that what goes into a layer of a network and what comes out of it take.

    Args:
        network: Its innermost modules are looked at.
        work: Calls it.
    """
    most = 0

    def look(_: nn.Module, given: tuple[Any, ...], found: Any) -> None:
        nonlocal most
        tensors = [each for each in (*given, found) if isinstance(each, Tensor)]
        most = max(most, sum(each.nbytes for each in tensors))

    hooks = [
        module.register_forward_hook(look)
        for module in network.modules()
        if not any(True for _ in module.children())
    ]
    try:
        work()
    finally:
        for hook in hooks:
            hook.remove()
    return most


def held_bytes() -> int:
    """The most memory that this process has had resident so far; 0 where that is not told."""
    if sys.platform == "win32":
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
