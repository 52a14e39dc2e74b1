"""Stages of a run by workers of a Ray cluster: the same functions, for parts of the images."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from weakseg.apps.cluster import Job, Work, map_on_ray
from weakseg.config.declared import declared_settings
from weakseg.config.run_config import RunConfig
from weakseg.pipeline import Stage
from weakseg.runs.context import StageContext
from weakseg.runs.processes import Part, doing_part
from weakseg.runs.run_dir import RunDir
from weakseg.runs.sample_rows import rows_of_samples, samples_of_rows
from weakseg.runs.stage_dir import StageDir
from weakseg.types import Catalog, Sample

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
        samples = context.catalog.samples
        size = max(_LEAST, min(_MOST, -(-len(samples) // _PARTS)))
        jobs = (
            {"start": start, "samples": _packed(samples[start : start + size])}
            for start in range(0, len(samples), size)
        )
        # Each worker is given what it needs to know, and no more: a part's samples, not all.
        settings = config.model_copy(update={"fit": config.fit.model_copy(update={"workers": 0})})
        slim = replace(
            context,
            config=declared_settings(settings, stage.name, stage.reads),
            catalog=Catalog(context.catalog.classes, ()),
            run=RunDir(context.run.path.absolute()),  # workers are elsewhere
            dir=StageDir(context.dir.path.absolute()),
            validation=None,
        )
        make = partial(_worker, stage, slim, of_all.told)
        brought: dict[int, list[Any]] = {}
        with context.track(stage.name, len(samples)) as advance:
            for result in map_on_ray(make, jobs, batch=1, workers=self.workers):
                brought[result["start"]] = result["brought"]
                advance(result["images"])
        others = [brought[start] for start in sorted(brought)]
        with doing_part(Part(is_first=True, told=of_all.told, others=others)):
            return function(context)


def _worker(stage: Stage, context: StageContext, told: list[Any]) -> Work:
    """A worker's function: it does parts of a stage, of which each brings its samples."""
    function = stage.load()
    classes = context.catalog.classes

    def work(jobs: Sequence[Job]) -> list[Job]:
        results: list[Job] = []
        for job in jobs:
            samples = _unpacked(job["samples"])
            own = replace(context, catalog=Catalog(classes, samples))
            with doing_part(Part(stop=len(samples), told=told)) as part:
                function(own)
            found = {"start": job["start"], "images": len(samples), "brought": part.brought}
            results.append(found)
        return results

    return work


def _packed(samples: Sequence[Sample]) -> str:
    """Samples as text of some 15 bytes each: their paths are much alike."""
    return base64.b64encode(zlib.compress(json.dumps(rows_of_samples(samples)).encode())).decode()


def _unpacked(text: str) -> tuple[Sample, ...]:
    return tuple(samples_of_rows(json.loads(zlib.decompress(base64.b64decode(text)))))
