"""How many processors and how much memory this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
_MEMORY = Path("/proc/meminfo")


def available_processors() -> int:
    """Processors that this process may run on: of the machine, its affinity and its container.

    Where a launcher started several processes on this machine, each has its part of them.

    Returns:
        At least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _container_quota()
    count = count if quota is None else min(count, math.ceil(quota))
    return max(1, count // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _container_quota() -> float | None:
    """How many processors' time a container may spend, or None without a limit."""
    try:
        if _QUOTA_V2.is_file():
            quota, period = _QUOTA_V2.read_text().split()[:2]
        else:
            quota, period = (path.read_text().strip() for path in _QUOTA_V1)
        return None if quota in ("max", "-1") else float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute on one thread inside; a decorator, too.

    Threads that wait for each other after each of many small steps take longer than one, much
    longer where other programs want the processors.
    """
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_memory() -> int | None:
    """Bytes of memory that can still be had: of the machine, and of its container.

    Returns:
        None where the system does not tell.
    """
    found = []
    try:
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError, IndexError):
        pass
    for limit, used in _LIMITS:
        try:
            most = Path(limit).read_text().strip()
            if most != "max":
                found.append(max(0, int(most) - int(Path(used).read_text())))
        except (OSError, ValueError):
            continue
    return min(found, default=None)
