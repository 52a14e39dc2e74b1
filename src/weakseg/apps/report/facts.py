"""What a run's small files tell: stages, times, training logs, scores."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from weakseg.apps.report.readings import (
    Score,
    Sweep,
    is_number,
    number_or_nan,
    scores_in,
    sweeps_in,
)
from weakseg.config import RunConfig
from weakseg.files import read_json
from weakseg.metrics.estimates import Estimate
from weakseg.metrics.verdicts import Verdict, verdicts_of_run
from weakseg.pipeline import STAGES, made_as_set
from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.runs.stage_dir import StageDir, fingerprint_hash
from weakseg.types import Catalog, RunError

ABOUT: Mapping[str, str] = {
    "classify": "A network learns from the tags alone which parts of a photo speak for a class.",
    "cams": "For every photo and tag, a map of how strongly each place speaks for it.",
    "spread": "The maps learn what a class looks like all over, and spread to what looks alike.",
    "recalibrate": "A second branch of the network learns from these maps where they are sure.",
    "weigh": "Its own maps are mixed with those of the first branch.",
    "evidence": "What photos without the tag show, too, is not the class: the maps leave it.",
    "seeds": "The places that are surely an object or surely background; the rest stays open.",
    "relate": "A network learns from the seeds which neighbouring pixels belong together.",
    "walk": "The maps spread up to the boundaries between objects, and stop there.",
    "masks": "Every pixel becomes a class or background: a mask for every photo.",
    "verify": "What tags alone tell of the masks: whether they are any good, in words.",
    "segment": "A segmentation network learns from the masks, so that it can do new photos.",
    "validate": "The segmentation network is scored on photos that it has not learned from.",
    "evaluate": "Maps and masks are compared with true masks, where there are some.",
}
"""What each stage does, in a sentence for people who never saw the method."""

_KINDS = ("weighted", "spotlight")
_NO_LOSS = {"step", "epoch", "lr", "images_per_second"}


@dataclass(frozen=True)
class StageFact:
    """What is known of one stage.

    Attributes:
        name: The stage.
        about: What it does, in plain words; empty if unknown.
        seconds: How long it took; None: not finished.
        share: Of the finished stages' time, 0..1.
        counts: What it counted, each a name and a number.
    """

    name: str
    about: str
    seconds: float | None
    share: float
    counts: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TrainingLog:
    """The curves of one training: steps ascending, and each logged number at them.

    Attributes:
        stage: Whose training.
        steps: [S].
        losses: By name, `loss` first, each [S]; NaN where a step did not log it.
        rates: Learning rates [S]; empty if there are none.
    """

    stage: str
    steps: tuple[float, ...]
    losses: Mapping[str, tuple[float, ...]]
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Facts:
    """All that a run's small files tell.

    Attributes:
        path: The run's folder.
        source: Where the images come from.
        split: The source's split; empty: everything.
        validation_split: The split that the network was tried on; empty: there is none.
        skipped: How many bad images were left out.
        catalog: The samples.
        tagged: How many images bear each class.
        finished: When the last finished stage ended; None if none is.
        versions: Of the programs, by name.
        stages: In the order they run.
        config: All settings as YAML.
        context: The run with its settings, to read maps.
        thresholds: Chosen by the stage `masks`, by kind of map.
        kind: The kind of map that the masks were made of, or that stands for it.
        maskless: Ids of tagged images without any mask.
        verdicts: What the run says of its masks, the worst first.
        estimate: How good it takes them to be; None if it does not say.
        logs: Of every training.
        scores: All there are, in the order of stages.
        sweeps: Of the stage `evaluate`.
    """

    path: Path
    source: str
    split: str
    validation_split: str
    skipped: int
    catalog: Catalog
    tagged: tuple[int, ...]
    finished: datetime | None
    versions: Mapping[str, str]
    stages: tuple[StageFact, ...]
    config: str
    context: StageContext
    thresholds: Mapping[str, float]
    kind: str
    maskless: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    estimate: Estimate | None
    logs: tuple[TrainingLog, ...]
    scores: tuple[Score, ...]
    sweeps: tuple[Sweep, ...]

    @property
    def seconds(self) -> float:
        """How long the finished stages took together."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def run_command(self) -> str:
        """The command that goes on with the run, and learns from corrections."""
        command = ["weakseg", "run", self.source, "--out", str(self.path)]
        command += ["--split", self.split] if self.split else []
        return shlex.join([*command, "--config", str(self.path / "config.yaml")])

    @property
    def review_command(self) -> str:
        """The command that opens the page on which masks are corrected."""
        return shlex.join(["weakseg", "review", str(self.path)])

    def has(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return any(fact.name == stage and fact.seconds is not None for fact in self.stages)


def read_facts(path: Path) -> Facts:
    """Reads everything of a run but images, maps and masks.

    Raises:
        RunError: The folder is no run of weakseg, or a file of it is damaged.
    """
    run = RunDir(path)
    if not run.is_run:
        raise RunError(f"{path} is no run of weakseg; give the folder that `weakseg run` made")
    try:
        return _facts(path, run)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(
            f"{path}: a stage's done.json, fingerprint.json or metrics.json is damaged ({error}); "
            "remove that stage's done.json and give the same `weakseg run` command again"
        ) from error


def _facts(path: Path, run: RunDir) -> Facts:
    record, catalog = run.catalog_record(), run.load_catalog()
    context = StageContext.reading(run)
    folders = [StageDir(path / name) for name in _stage_names(path, context.config)]
    done = [folder for folder in folders if folder.done]
    total = sum(float(folder.record["seconds"]) for folder in done)
    summaries = {
        folder.path.name: folder.summary
        for folder in done
        if folder.path.name in ("masks", "verify", "segment")
    }
    masks, judged = (summaries.get(name, {}) for name in ("masks", "verify"))
    ended = max((folder.path / "done.json" for folder in done), key=_mtime, default=None)
    metrics = {
        folder.path.name: read_json(folder.path / "metrics.json")
        for folder in done
        if (folder.path / "metrics.json").is_file()
    }
    thresholds = {
        kind: float(value)
        for kind, value in (masks.get("thresholds") or {}).items()
        if is_number(value)
    }
    config = _text(path / "config.yaml")
    return Facts(
        path=path,
        source=str(record.get("source") or ""),
        split=str(record.get("split") or ""),
        validation_split=_validation_split(run),
        skipped=len(record.get("skipped") or ()),
        catalog=catalog,
        tagged=_tagged(catalog),
        finished=datetime.fromtimestamp(_mtime(ended), UTC) if ended else None,
        versions=read_json(ended).get("versions", {}) if ended else {},
        stages=tuple(_stage_fact(folder, total) for folder in folders),
        config=config,
        context=context,
        thresholds=thresholds,
        kind=next(
            (str(kind) for kind in (masks.get("maps"), *_KINDS) if kind in thresholds), _KINDS[0]
        ),
        maskless=tuple(map(str, masks.get("tagged_without_mask") or ())),
        verdicts=verdicts_of_run(summaries),
        estimate=Estimate(**judged["estimate"]) if judged.get("estimate") else None,
        logs=tuple(log for folder in folders if (log := _training_log(folder)) is not None),
        scores=tuple(
            score
            for stage, values in metrics.items()
            for score in scores_in(stage, values, (), tuple(values.get("classes") or ()))
        ),
        sweeps=tuple(sweeps_in(metrics.get("evaluate", {}).get("maps") or {})),
    )


def _stage_names(path: Path, config: RunConfig) -> list[str]:
    """The run's stages that have begun, without what a call with other settings left behind.

    Left out are stages that the settings no longer ask for, and results of other settings or of
    another stage's results than there are now.
    """
    found = {file.parent.name: StageDir(file.parent) for file in path.glob("*/fingerprint.json")}
    hashes: dict[str, str] = {}
    for stage in STAGES:
        if stage.name not in found or not stage.when(config):
            continue
        made = found[stage.name].fingerprint
        if made_as_set(stage, config, made, hashes):
            hashes[stage.name] = fingerprint_hash(made)
    return [*hashes, *sorted(found.keys() - {stage.name for stage in STAGES})]


def _validation_split(run: RunDir) -> str:
    if not (run.path / VALIDATION).is_file():
        return ""
    return str(run.catalog_record(VALIDATION).get("split") or "")


def _stage_fact(folder: StageDir, total: float) -> StageFact:
    name = folder.path.name
    if not folder.done:
        return StageFact(name, ABOUT.get(name, ""), None, 0.0, ())
    seconds = float(folder.record["seconds"])
    counts = tuple(
        (key.replace("_", " "), float(value))
        for key, value in folder.summary.items()
        if is_number(value) and (value or key != "resumed_at")
    )
    return StageFact(name, ABOUT.get(name, ""), seconds, seconds / max(total, 1e-9), counts)


def _tagged(catalog: Catalog) -> tuple[int, ...]:
    counts = Counter(tag for sample in catalog for tag in sample.tags)
    return tuple(counts[k] for k in range(len(catalog.classes)))


def _training_log(folder: StageDir) -> TrainingLog | None:
    path = folder.path / "log.jsonl"
    if not path.is_file():
        return None
    rows = []
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # cut off by a crash
        if isinstance(row, dict) and is_number(row.get("step")):
            rows.append(row)
    if not rows:
        return None
    names = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if key not in _NO_LOSS and any(is_number(row.get(key)) for row in rows)
    ]
    names.sort(key=lambda key: key != "loss")
    return TrainingLog(
        folder.path.name,
        tuple(float(row["step"]) for row in rows),
        {name: tuple(number_or_nan(row.get(name)) for row in rows) for name in names},
        tuple(number_or_nan(row.get("lr")) for row in rows) if "lr" in rows[0] else (),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None


def _mtime(path: Path) -> float:
    return path.stat().st_mtime
