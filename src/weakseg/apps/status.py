"""Where a run is: what each stage cost, what is next, what is wrong. It only reads."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from weakseg.config.run_config import RunConfig, load_config
from weakseg.faults import listed
from weakseg.files import size_of_files
from weakseg.metrics.verdicts import verdicts_of_run
from weakseg.pipeline import STAGES, Stage, made_as_set
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.runs.stage_dir import StageDir, fingerprint_hash
from weakseg.runs.stage_progress import StageProgress, read_progress
from weakseg.types import Catalog, RunError

StageState = Literal["done", "at work", "stopped", "to do", "outdated", "damaged"]
"""`outdated`: made with other settings, or of results that were made anew since."""


@dataclass(frozen=True)
class StageStatus:
    """Where a stage is, and what it cost.

    Attributes:
        name: The stage.
        state: See `StageState`.
        seconds: How long it took; None if it is not finished.
        size: Its files, in bytes.
        progress: How far it was when it last said so; None if it is not under way.
    """

    name: str
    state: StageState
    seconds: float | None
    size: int
    progress: StageProgress | None = None


@dataclass(frozen=True)
class RunStatus:
    """Where a run is.

    Attributes:
        run: Its folder.
        source: Where its images come from.
        split: The source's split; empty: everything.
        images: How many samples it has.
        classes: The names of its classes.
        skipped: Ids of images left out because they are bad.
        worker: Who works on it now, as `process 123 on host`; empty: nobody.
        stages: All that its settings ask for, in order.
        next: The first stage that is not done; empty: all are.
        free: What is free on its disk, in bytes.
        wrong: What is wrong, a sentence each; what the run says of its masks, too.
        at: When it was looked at, in seconds since 1970.
    """

    run: Path
    source: str
    split: str
    images: int
    classes: tuple[str, ...]
    skipped: tuple[str, ...]
    worker: str
    stages: tuple[StageStatus, ...]
    next: str
    free: int
    wrong: tuple[str, ...]
    at: float

    @property
    def seconds(self) -> float:
        """How long the finished stages took together."""
        return sum(stage.seconds or 0.0 for stage in self.stages)


def read_status(path: Path | str) -> RunStatus:
    """Reads where a run is; see `weakseg.api.status`."""
    run = RunDir(path)
    if not run.is_run:
        raise RunError(f"{path} is no run of weakseg; give the folder that `weakseg run` made")
    record, catalog = run.catalog_record(), run.load_catalog()
    config = load_config(file=run.path / "config.yaml")
    has_validation = (run.path / VALIDATION).is_file()
    wanted = [
        stage for stage in STAGES if stage.when(config) and (has_validation or not stage.validation)
    ]
    worker = run.worker()
    wrong: list[str] = []
    stages = tuple(_stages(run, wanted, config, bool(worker), wrong))
    wrong += _of_images(catalog)
    if (run.path / "traceback.txt").is_file():
        wrong.append(
            f"{run.path / 'traceback.txt'} tells of a bug in weakseg; report it, then remove it"
        )
    return RunStatus(
        run=run.path,
        source=str(record.get("source") or ""),
        split=str(record.get("split") or ""),
        images=len(catalog),
        classes=catalog.classes,
        skipped=tuple(map(str, record["skipped"])),
        worker=worker,
        stages=stages,
        next=next((stage.name for stage in stages if stage.state != "done"), ""),
        free=shutil.disk_usage(run.path).free,
        wrong=tuple(wrong),
        at=time.time(),
    )


def _stages(
    run: RunDir, wanted: Sequence[Stage], config: RunConfig, is_at_work: bool, wrong: list[str]
) -> Iterator[StageStatus]:
    """Each stage's status; what is damaged is added to `wrong`."""
    hashes: dict[str, str] = {}
    for stage in wanted:
        folder = StageDir(run.path / stage.name)
        size = size_of_files(folder.path)
        try:
            if not (folder.path / "fingerprint.json").is_file():
                yield StageStatus(stage.name, "to do", None, size)
                continue
            made = folder.fingerprint
            hashes[stage.name] = fingerprint_hash(made)
            if not made_as_set(stage, config, made, hashes):
                hashes.pop(stage.name)
                yield StageStatus(stage.name, "outdated", None, size)
            elif folder.done:
                seconds = float(folder.record["seconds"])
                wrong += _verdicts(folder)
                yield StageStatus(stage.name, "done", seconds, size)
            else:
                state: StageState = "at work" if is_at_work else "stopped"
                is_at_work = False
                yield StageStatus(stage.name, state, None, size, read_progress(folder.path))
        except RunError as error:
            wrong.append(str(error))
            yield StageStatus(stage.name, "damaged", None, size)


def _verdicts(folder: StageDir) -> Iterator[str]:
    """What the run says of its own masks, where this stage judges them."""
    try:
        summary = folder.summary
        yield from map(str, verdicts_of_run({"verify": summary, "segment": summary}))
    except (AttributeError, TypeError):
        raise RunError(
            f"{folder.path / 'done.json'} is damaged: its verdicts cannot be read; remove it and "
            "give the same `weakseg run` command again"
        ) from None


def _of_images(catalog: Catalog) -> Iterator[str]:
    lost = [sample.id for sample in catalog if not sample.image.is_file()]
    if lost:
        are = "image is" if len(lost) == 1 else "images are"
        yield (
            f"{len(lost)} {are} not where the run found them: {listed(lost)}; put them back, or "
            "give `weakseg run` with the place where the data are now"
        )
