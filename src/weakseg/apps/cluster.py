"""Work on a Ray cluster, or on this machine as one: workers that hold a model, jobs in batches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from weakseg.faults import FileError
from weakseg.types import ConfigError, RunError, WeaksegError

Job = Mapping[str, Any]
"""What a worker is given, and what it returns: anything that JSON holds."""

Work = Callable[[Sequence[Job]], Sequence[Job]]


def check_ray() -> None:
    """Raises what `map_on_ray` would without Ray.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray.data  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigError(
            "Ray is not installed; install it with `pip install 'weakseg[ray]'`"
        ) from None


def map_on_ray(
    make: Callable[[], Work],
    jobs: Iterable[Job],
    *,
    batch: int,
    workers: int | None = None,
    at_once: int = 100_000,
) -> Iterator[Job]:
    """What workers make of jobs, as it is ready, in any order.

    Workers are actors of one processor each, and one GPU where the cluster has some. A worker that
    dies is replaced, and its batch done again. The cluster is the one that `RAY_ADDRESS` names or
    that the program is connected to; else one is started on this machine.

    Args:
        make: Makes a worker's function, once in each; it is sent to the workers, which have to
            see the same files.
        jobs: The jobs.
        batch: Jobs that a worker is given at once.
        workers: How many; None: one a processor, or one a GPU.
        at_once: Jobs that the driver hands to Ray at once, which bounds its memory.

    Raises:
        ConfigError: Ray is not installed.
        FileError: A worker met a file that cannot be used.
        RunError: A worker met an error that the user can fix, or the cluster fails.
    """
    check_ray()
    import ray  # noqa: PLC0415

    _connect()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    most = workers or gpus or max(1, int(there.get("CPU", 1)))
    try:
        following = iter(jobs)
        while some := [{"job": json.dumps(job)} for job in islice(following, at_once)]:
            batches = -(-len(some) // batch)
            results = ray.data.from_items(some, override_num_blocks=batches).map_batches(
                _Worker,
                fn_constructor_args=(make,),
                batch_size=batch,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, batches)),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
            for row in results.iter_rows():
                result = json.loads(row["result"])
                if "error" in result:
                    raise RunError(result["error"])
                if "bad_file" in result:
                    path, *rest = result["bad_file"]
                    raise FileError(Path(path), *rest)
                yield result
    except ray.exceptions.RayError as error:
        text = " ".join(str(error).split())[-300:]
        raise RunError(f"Ray: {text}; give the same command again to go on") from error


def _connect() -> None:
    """Joins the cluster, or starts one on this machine."""
    import ray  # noqa: PLC0415

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Where other programs want the processors, Ray's own need more than its half minute.
    os.environ.setdefault("RAY_agent_register_timeout_ms", "300000")
    here = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    try:
        ray.init(logging_level="ERROR", log_to_driver=False, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(
            f"Ray cannot be reached or started: {' '.join(str(error).split())}"
        ) from error


class _Worker:
    """An actor of Ray Data."""

    def __init__(self, make: Callable[[], Work]) -> None:
        import torch  # noqa: PLC0415

        torch.set_num_threads(1)  # workers of one thread do more than threads that share a batch
        self.work = make()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        try:
            results = self.work([json.loads(job) for job in batch["job"]])
        except FileError as error:
            rest = error.kind, error.found, error.remedy
            results = [{"bad_file": [str(error.path), *rest]}]
        except WeaksegError as error:  # as a result it arrives as it is, and at once
            results = [{"error": str(error)}]
        return {"result": [json.dumps(result) for result in results]}
