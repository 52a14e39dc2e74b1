"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def available_processors() -> int:
    """Processors that this process may run on: of the machine, its affinity and its container.

    Returns:
        At least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _container_quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


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
