"""Stages of a run by workers of a Ray cluster: the same functions, for parts of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from weakseg.apps.cluster import Job, Work, map_on_ray
from weakseg.config.declared import declared_settings
from weakseg.config.run_config import RunConfig
from weakseg.pipeline import Stage, assisting_context
from weakseg.runs.context import StageContext
from weakseg.runs.processes import Part, doing_part
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir

_LEAST, _MOST, _PARTS = 16, 1024, 32
"""Fewest and most images of a job, and how many jobs there are between."""


@dataclass(frozen=True)
class RayStages:
    """Does stages on the cluster that `RAY_ADDRESS` names, else on one of this machine.

    Workers see the run's folder and the images where this process does. What is computed of all
    images together (thresholds, prototypes) this process computes, as it also writes `done.json`.
    A job of a worker that dies is done again by another, which keeps the images that are finished.

    Attributes:
        workers: How many; None: one a processor, or one a GPU.
    """

    workers: int | None = None

    def __call__(
        self, stage: Stage, config: RunConfig, context: StageContext
    ) -> Mapping[str, object]:
        """Does a stage, whose images are each done by itself.

        Args:
            stage: Its row.
            config: All settings.
            context: What its function is given.

        Returns:
            What its function returned.

        Raises:
            ConfigError: Ray is not installed.
            FileError: An image cannot be read.
            RunError: A worker met an error that the user can fix, or the cluster fails.
        """
        function = stage.load()
        with doing_part(Part(is_first=True)) as of_all:
            function(context)
        count = len(context.catalog)
        size = max(_LEAST, min(_MOST, -(-count // _PARTS)))
        jobs = [
            {"start": start, "stop": min(count, start + size)} for start in range(0, count, size)
        ]
        make = partial(_worker, stage, config, context.run, of_all.told)
        brought: dict[int, list[Any]] = {}
        with context.track(stage.name, count) as advance:
            for result in map_on_ray(make, jobs, batch=1, workers=self.workers):
                brought[result["start"]] = result["brought"]
                advance(result["stop"] - result["start"])
        others = [brought[start] for start in sorted(brought)]
        with doing_part(Part(is_first=True, told=of_all.told, others=others)):
            return function(context)


def _worker(stage: Stage, config: RunConfig, run: RunDir, told: list[Any]) -> Work:
    """A worker's function: it does parts of a stage."""
    alone = config.fit.model_copy(update={"workers": 0})
    config = config.model_copy(update={"fit": alone})
    context = replace(
        assisting_context(config, run),
        config=declared_settings(config, stage.name, stage.reads),
        dir=StageDir(run.path / stage.name),
    )
    function: Callable[[StageContext], Mapping[str, object]] = stage.load()

    def work(jobs: Sequence[Job]) -> list[Job]:
        results: list[Job] = []
        for job in jobs:
            with doing_part(Part(job["start"], job["stop"], told=told)) as part:
                function(context)
            results.append({**job, "brought": part.brought})
        return results

    return work
