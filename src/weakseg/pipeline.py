"""The table of stages, and what runs them one after the other."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from weakseg.config.declared import declared_settings
from weakseg.metrics.estimates import Estimate
from weakseg.metrics.verdicts import Verdict, verdicts_of_run
from weakseg.runs.attempts import Lose, attempted
from weakseg.runs.contents import CONTENTS, Contents, catalog_digest, truth_digest
from weakseg.runs.context import StageContext
from weakseg.runs.corrections import NO_CORRECTIONS, Corrections, read_corrections
from weakseg.runs.outside_faults import outside_faults_told
from weakseg.runs.processes import process_count, told, wait_for_all
from weakseg.runs.review_dir import REVIEW
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.runs.run_samples import RunSamples, Validation
from weakseg.runs.stage_dir import StageDir, fingerprint_hash
from weakseg.training.memory import release_memory
from weakseg.types import Catalog, ConfigError, RunError

if TYPE_CHECKING:
    from weakseg.config.run_config import RunConfig

_log = logging.getLogger(__name__)

StageFunction = Callable[[StageContext], Mapping[str, object]]


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: The stage and its folder.
        version: Raised when the same inputs would give another result.
        needs: Stages whose results it reads.
        reads: Sections of the RunConfig it reads; `seed` always is.
        function: `module:name`, imported when the stage runs.
        truth: Whether it reads the true masks; by the settings, if a function.
        validation: Whether it reads the second split; without one there is no such stage.
        when: Whether the settings ask for it at all.
        inputs: Hash of what it reads beside settings, samples and other stages' results.
        corrected: Whether it reads the masks that people corrected.
        divided: Whether its work is one image after the other, so that workers may share it.
    """

    name: str
    version: int
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    function: str | StageFunction
    truth: bool | Callable[[RunConfig], bool] = False
    validation: bool = False
    when: Callable[[RunConfig], bool] = lambda _: True
    inputs: str = ""
    corrected: bool = False
    divided: bool = False

    def load(self) -> StageFunction:
        """The stage's function."""
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.partition(":")
        function: StageFunction = getattr(importlib.import_module(module), name)
        return function


StageEngine = Callable[[Stage, "RunConfig", StageContext], Mapping[str, object]]
"""Does a divided stage, as its function would, given all settings and its context."""

_SCORES = ("amr.compensation", "amr.supervision", "cams.xi", "spread", "refine.maps")
_MAPS = (*_SCORES, "evidence")
"""The settings that say which maps there are, and where they are parted."""

STAGES: tuple[Stage, ...] = (
    Stage(
        "classify",
        version=2,
        needs=(),
        reads=("dry_run", "backbone", "task", "fit", "augment", "review"),
        function="weakseg.stages.classify:classify",
    ),
    Stage(
        "cams",
        version=4,
        needs=("classify",),
        reads=("backbone", "cams"),
        function="weakseg.stages.cams:cams",
        divided=True,
    ),
    Stage(
        "spread",
        version=3,
        needs=("cams",),
        reads=("backbone", "cams", "spread", "prototypes"),
        function="weakseg.stages.spread:spread",
        divided=True,
        when=lambda config: config.spread.active,
    ),
    Stage(
        "recalibrate",
        version=2,
        needs=("classify", "cams", "spread"),
        reads=("dry_run", "backbone", "amr", "spread", "augment", "recalibrate"),
        function="weakseg.stages.recalibrate:recalibrate",
        when=lambda config: config.amr.compensation,
    ),
    Stage(
        "weigh",
        version=1,
        needs=("recalibrate", "cams", "spread"),
        reads=("backbone", "amr", "cams", "spread"),
        function="weakseg.stages.weigh:weigh",
        divided=True,
        when=lambda config: config.amr.compensation,
    ),
    Stage(
        "evidence",
        version=2,
        needs=("cams", "spread", "weigh"),
        reads=(*_SCORES, "backbone", "cams", "evidence"),
        function="weakseg.stages.evidence:evidence",
        divided=True,
        when=lambda config: config.evidence.images > 0,
    ),
    Stage(
        "seeds",
        version=2,
        needs=("cams", "spread", "weigh", "evidence"),
        reads=(*_MAPS, "seeds"),
        function="weakseg.stages.seeds:seeds",
        divided=True,
        when=lambda config: config.refine.walks,
    ),
    Stage(
        "relate",
        version=1,
        needs=("classify", "seeds"),
        reads=("dry_run", "backbone", "relate", "review"),
        corrected=True,
        function="weakseg.stages.relate:relate",
        when=lambda config: config.refine.walks,
    ),
    Stage(
        "walk",
        version=5,
        needs=("cams", "spread", "weigh", "evidence", "relate"),
        reads=(*_MAPS, "backbone", "cams", "relate", "walk"),
        function="weakseg.stages.walk:walk",
        divided=True,
        when=lambda config: config.refine.walks,
    ),
    Stage(
        "masks",
        version=4,
        needs=("cams", "spread", "weigh", "evidence", "walk"),
        reads=(*_MAPS, "refine"),
        corrected=True,
        function="weakseg.stages.masks:masks",
        divided=True,
    ),
    Stage(
        "verify",
        version=2,
        needs=("cams", "spread", "weigh", "evidence", "walk", "masks"),
        reads=(*_MAPS, "backbone", "cams", "refine", "verify"),
        function="weakseg.stages.verify:verify",
        when=lambda config: config.verify.images > 0,
    ),
    Stage(
        "evaluate",
        version=4,
        needs=("cams", "spread", "weigh", "evidence", "walk", "masks"),
        reads=(*_MAPS, "refine", "evaluate"),
        function="weakseg.stages.evaluate:evaluate",
        truth=True,
    ),
    Stage(
        "segment",
        version=4,
        needs=("classify", "masks"),
        reads=("dry_run", "backbone", "segment", "review"),
        corrected=True,
        function="weakseg.stages.segment:segment",
        truth=lambda config: config.segment.truth_masks,
    ),
    Stage(
        "validate",
        version=3,
        needs=("segment",),
        reads=("predict", "evaluate"),
        function="weakseg.stages.validate:validate",
        validation=True,
    ),
)
"""All stages in the order they run; a new stage is a new row."""


def refinement_stages(maps: Path, digest: str) -> tuple[Stage, ...]:
    """The table of a run that begins with maps which another program made.

    Args:
        maps: Where they are, see `weakseg.data.map_files`.
        digest: Hash of their content.
    """
    from weakseg.stages.import_maps import import_maps  # noqa: PLC0415

    first = (
        Stage(
            "classify",
            version=1,
            needs=(),
            reads=("backbone",),
            function="weakseg.stages.import_maps:pretrained",
            inputs="pretrained",
        ),
        Stage(
            "cams",
            version=1,
            needs=(),
            reads=(),
            function=partial(import_maps, folder=maps),
            inputs=digest,
        ),
    )
    return (*first, *(stage for stage in STAGES if stage.name not in ("classify", "cams")))


OF_MAPS = (
    "amr.compensation=false",
    "spread.prototypes=false",
    "spread.spreading=false",
    "evidence.images=0",
)
"""Settings that such a run begins with: the maps as they are. If set, maps are spread along the
backbone's features, a compensation branch learns from them as from a spotlight's, and evidence
weighs them."""


@dataclass(frozen=True)
class StageSummary:
    """What became of a stage.

    Attributes:
        name: The stage.
        skipped: Whether it had been finished earlier.
        seconds: How long it took: now, or when it was made if skipped.
        summary: What it returned: counts, metrics.
    """

    name: str
    skipped: bool
    seconds: float
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class PipelineSummary:
    """What became of a run.

    Attributes:
        run: The run's folder.
        stages: Its stages in order.
        seconds: How long this call took, in seconds.
        peak_bytes: The most memory this process has had resident; None where not measured.
        peak_child_bytes: The same of the largest of its finished child processes.
    """

    run: Path
    stages: tuple[StageSummary, ...]
    seconds: float
    peak_bytes: int | None = None
    peak_child_bytes: int | None = None
    _by_name: dict[str, StageSummary] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {stage.name: stage for stage in self.stages})

    def __getitem__(self, name: str) -> StageSummary:
        """The summary of a stage.

        Raises:
            KeyError: The stage was not asked for.
        """
        return self._by_name[name]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the stage `evaluate` returned; empty if it was not run."""
        return self._by_name["evaluate"].summary if "evaluate" in self._by_name else {}

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What the run says of its masks and its network, the worst first."""
        return verdicts_of_run({name: stage.summary for name, stage in self._by_name.items()})

    @property
    def estimate(self) -> Estimate | None:
        """The likely mean intersection over union of the masks; None if it was not estimated."""
        judged = self._by_name["verify"].summary if "verify" in self._by_name else {}
        found = judged.get("estimate")
        return Estimate(**found) if found else None

    @property
    def judgement(self) -> Iterator[str]:
        """What the run says of its own masks: a sentence a verdict, then the estimate."""
        yield from map(str, self.verdicts)
        if self.estimate is not None:
            yield f"masks: {self.estimate} (mean IoU of the classes, estimated without truth)"


def run_pipeline(
    config: RunConfig,
    run: RunDir,
    *,
    catalog: Catalog,
    until: str | None = None,
    force: bool = False,
    console: Console | None = None,
    source: Path | str = "",
    split: str | None = None,
    skipped: Sequence[str] = (),
    skip_bad: bool = False,
    checked: str = "",
    validation: Validation | None = None,
    stages: Sequence[Stage] = STAGES,
    contents: Contents | None = None,
    plan: str = "",
    engine: StageEngine | None = None,
) -> PipelineSummary:
    """Runs all stages that are not finished yet.

    Every stage's fingerprint is compared before the first one runs and before anything is written,
    so that a refused run leaves the folder as it was.

    Args:
        config: All settings.
        run: The run's folder.
        catalog: The samples.
        until: The last stage to run.
        force: Whether results made with other settings are removed and made anew.
        console: Where to print; standard output by default.
        source: Where the samples come from, for `catalog.json`.
        split: The source's split, for `catalog.json`.
        skipped: Ids of images left out because they are bad, for `catalog.json`.
        skip_bad: Whether images that are damaged or go meanwhile are left out from there on.
        checked: Hash of what was checked, for `catalog.json`.
        validation: The second split, for stages that read one.
        stages: The table.
        contents: Hashes of the samples' files; None: those that the run keeps.
        plan: The plan that the settings come from, for `plan.yaml`; empty: there is none.
        engine: What does the stages whose images are divided; None: this process.

    Returns:
        What became of each stage, time and memory.

    Raises:
        ConfigError: `until` is no stage, or one that reads a second split where there is none.
        RunError: The folder holds results of other settings, or is in use.
    """
    console = console or Console()
    begun = time.monotonic()
    table = stages_until(until, stages, validation=validation is not None)
    wanted = [stage for stage in table if stage.when(config)]
    summaries = []
    contents = contents or Contents(run.path / CONTENTS)
    if run.is_run:
        had = partial(run.load_catalog, source_tags=True)
        catalog = contents.without_lost(catalog, had, skipped if skip_bad else ())
    if validation is not None and (run.path / VALIDATION).is_file():
        had = partial(run.load_catalog, VALIDATION)
        bad = validation.skipped if skip_bad else ()
        there = contents.without_lost(validation.catalog, had, bad, validation=True)
        validation = replace(validation, catalog=there)
    second = validation.catalog if validation else None
    found = read_corrections(run.path, catalog)
    corrections, reviewed = found or NO_CORRECTIONS, found is not None
    prints = fingerprints(config, catalog, wanted, second, corrections, contents=contents)
    uncorrected, catalog = catalog, corrections.applied(catalog)
    everything = StageContext(
        config, catalog, run, StageDir(run.path), console, second, corrections
    )
    samples = RunSamples(
        run, contents, uncorrected, catalog, source, split, skipped, checked, validation
    )
    with run.locked():
        for stage in wanted:
            own_print = prints[stage.name]
            run.check_stage(
                stage.name, own_print, force=force, reviewed=reviewed, told=samples.changes
            )
        if plan:  # before the catalog, which makes the folder a run: it would be one without a plan
            run.save_plan(plan)
        samples.save()
        run.save_config(config.to_yaml())
        dry = _dry_stages(config, wanted)
        notes = [_corrections_told(corrections, config)] if reviewed else []
        notes += [text] if (text := samples.left_out_told()) else []
        notes += [f"DRY RUN: every training ends after {_steps(config)}; {_NOTHING}"] if dry else []
        if notes:
            _say(console, "\n".join(notes))
        for stage in wanted:
            own_print = prints[stage.name]
            folder = run.open_stage(
                stage.name,
                own_print,
                force=force,
                reviewed=reviewed,
                keep_networks=reviewed and config.review.warm_start > 0,
            )
            if already := folder.done:
                _say(console, f"{stage.name}: done earlier, skipped")
            else:
                second = samples.validation.catalog if samples.validation else None
                _work(
                    stage,
                    replace(everything, catalog=samples.catalog, validation=second, dir=folder),
                    samples.lose if skip_bad else None,
                    dry,
                    engine,
                )
            seconds = float(folder.record["seconds"])
            summaries.append(StageSummary(stage.name, already, seconds, folder.summary))
    told(None)
    if dry:
        _say(console, f"DRY RUN, each training of {_steps(config)}: {_NOTHING}")
    peak, child = _peak_memory()
    done = PipelineSummary(run.path, tuple(summaries), time.monotonic() - begun, peak, child)
    for sentence in done.judgement:
        _say(console, sentence)
    return done


def _work(
    stage: Stage,
    everything: StageContext,
    lose: Lose | None,
    dry: Collection[str],
    engine: StageEngine | None,
) -> None:
    """Runs a stage and finishes its folder."""
    config, folder = everything.config, everything.dir

    def work(context: StageContext) -> Mapping[str, object]:
        told(stage.name)  # to `assist_pipeline`
        with folder.timed(), _told(stage, config, context):
            if engine is not None and stage.divided:
                return engine(stage, config, context)
            summary = stage.load()(context)
            wait_for_all()
        return summary

    _log.info("stage %s begins, fingerprint %s", stage.name, fingerprint_hash(folder.fingerprint))
    if "backbone" in stage.reads:
        everything.say(f"{stage.name}: loading {config.backbone.name}")
    context = replace(everything, config=declared_settings(config, stage.name, stage.reads))
    # Several processes end together where one of them fails.
    alone = process_count() == 1
    summary = attempted(work, context, stage.name, lose) if alone else work(context)
    folder.finish({**summary, **_mark(config, stage, dry)})
    gc.collect()
    release_memory()
    everything.say(f"{stage.name}: done in {folder.record['seconds']:.1f} s")


def _corrections_told(corrections: Corrections, config: RunConfig) -> str:
    """What is taken from the reviews, in a line."""
    counts = (
        (len(corrections.masks), f"true masks, seen {config.review.weight} times an epoch"),
        (len(corrections.rejected), "rejected masks left out of training"),
        (len(corrections.tags), "images with corrected tags"),
        (len(corrections.strangers), "reviewed images that this run does not have"),
    )
    said = [f"{count} {what}" for count, what in counts if count]
    return f"review: {'; '.join(said) or 'nothing is corrected'}"


_NOTHING = "its masks, network and scores say nothing of the method"


def _steps(config: RunConfig) -> str:
    return f"{config.dry_run} step{'s' * (config.dry_run != 1)}"


def _dry_stages(config: RunConfig, stages: Sequence[Stage]) -> set[str]:
    """The stages that a dry run cuts short, and all that read their results."""
    dry: set[str] = set()
    for stage in stages if config.dry_run is not None else ():
        if "dry_run" in stage.reads or not dry.isdisjoint(stage.needs):
            dry.add(stage.name)
    return dry


def _mark(config: RunConfig, stage: Stage, dry: Collection[str]) -> Mapping[str, object]:
    """What `done.json` says of a stage besides its own summary."""
    return {"dry_run": config.dry_run} if stage.name in dry else {}


def assist_pipeline(
    config: RunConfig, run: RunDir, *, stages: Sequence[Stage] = STAGES
) -> PipelineSummary:
    """What a process that is not the first of its launcher does: its share of every stage.

    The first process runs `run_pipeline`; it says which stage is next, and is the only one that
    checks, prints and writes what is of the whole run.

    Args:
        config: The settings, the same in all processes.
        run: The run's folder.
        stages: The table.

    Returns:
        A summary without stages.
    """
    begun = time.monotonic()
    rows = {stage.name: stage for stage in stages}
    everything: StageContext | None = None
    while (name := told(None)) is not None:
        everything = everything or assisting_context(config, run)
        own = declared_settings(config, name, rows[name].reads)
        with _told(rows[name], config, everything):
            rows[name].load()(replace(everything, config=own, dir=StageDir(run.path / name)))
            wait_for_all()
        gc.collect()
        release_memory()
    return PipelineSummary(run.path, (), time.monotonic() - begun)


def assisting_context(config: RunConfig, run: RunDir) -> StageContext:
    """The context that the first process keeps in the run's folder before its first stage."""
    catalog = run.load_catalog(source_tags=True)
    corrections = read_corrections(run.path, catalog) or NO_CORRECTIONS
    folder, catalog = StageDir(run.path), corrections.applied(catalog)
    silent = StageContext.silent(config, catalog, run, folder, corrections)
    there = (run.path / VALIDATION).is_file()
    return replace(silent, validation=run.load_catalog(VALIDATION) if there else None)


def _told(stage: Stage, config: RunConfig, context: StageContext) -> AbstractContextManager[None]:
    section = getattr(config, stage.name, None)
    own = f"{stage.name}." if hasattr(section, "fit") else ""
    samples = [*context.catalog, *(context.validation or ())]
    return outside_faults_told(stage.name, samples, f"{own}fit.workers")


def stages_until(
    until: str | None, stages: Sequence[Stage] = STAGES, *, validation: bool = True
) -> Sequence[Stage]:
    """The table up to a stage, or all of it.

    Args:
        until: The last stage; None: all.
        stages: The table.
        validation: Whether there is a second split; without it, stages that read one are left out.

    Raises:
        ConfigError: `until` is no stage, or one that is left out.
    """
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise ConfigError(f"unknown stage {until!r}; known: {', '.join(names)}")
    chosen = stages if until is None else stages[: names.index(until) + 1]
    if not validation and until is not None and chosen[-1].validation:
        raise ConfigError(f"stage {until!r} reads a second split; give --val NAME")
    return [stage for stage in chosen if validation or not stage.validation]


def fingerprints(
    config: RunConfig,
    catalog: Catalog,
    stages: Sequence[Stage] = STAGES,
    validation: Catalog | None = None,
    corrections: Corrections = NO_CORRECTIONS,
    *,
    contents: Contents | None = None,
) -> dict[str, dict[str, Any]]:
    """What each stage's result depends on: its settings, version, inputs, and the samples.

    Corrections count only where there are some, so that other runs are as if there were none.

    Args:
        config: All settings.
        catalog: The samples with the tags of the source.
        stages: The table.
        validation: The second split.
        corrections: What people corrected.
        contents: Hashes of the samples' files; None: they are read.
    """
    contents = contents or Contents()
    lost, second_lost = contents.lost(), contents.lost(validation=True)
    digest, truth = catalog_digest(catalog, contents, lost), truth_digest(catalog, contents, lost)
    second = []
    if validation:
        second = [
            catalog_digest(validation, contents, second_lost),
            truth_digest(validation, contents, second_lost),
        ]
    prints: dict[str, dict[str, Any]] = {}
    for stage in stages:
        reads = tuple(name for name in stage.reads if name != REVIEW)
        prints[stage.name] = {
            "version": stage.version,
            **config.sections(("seed", *reads)),
            "needs": {
                need: fingerprint_hash(prints[need]) for need in stage.needs if need in prints
            },
            "catalog": digest,
            **({"inputs": stage.inputs} if stage.inputs else {}),
        }
        if review := _review_print(stage, config, corrections):
            prints[stage.name]["review"] = review
        if stage.truth(config) if callable(stage.truth) else stage.truth:
            prints[stage.name]["truth"] = truth
        if stage.validation:
            prints[stage.name]["validation"] = second
    return prints


def made_as_set(
    stage: Stage,
    config: RunConfig,
    made: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> bool:
    """Whether a stage's result is of these settings, and of the results that are there now.

    Args:
        stage: Its row.
        config: The settings.
        made: The fingerprint of the result.
        hashes: Those of the stages before it, by name (`fingerprint_hash`).

    Raises:
        RunError: The fingerprint is damaged.
    """
    needs = made.get("needs", {})
    if not isinstance(needs, dict):
        raise RunError(
            f"the fingerprint.json of stage {stage.name!r} is damaged; remove its folder"
        )
    settings = config.sections(("seed", *(name for name in stage.reads if name != REVIEW)))
    return all(made.get(key, value) == value for key, value in settings.items()) and all(
        hashes.get(need) == used for need, used in needs.items()
    )


def _review_print(
    stage: Stage, config: RunConfig, corrections: Corrections
) -> Mapping[str, object]:
    masks = corrections.masks_digest() if stage.corrected else ""
    found: dict[str, object] = {"tags": corrections.tags_digest(), "masks": masks}
    if any(found.values()) and REVIEW in stage.reads:
        found |= {"weight": config.review.weight if masks else 0}
        found |= {"warm_start": config.review.warm_start}
    return {key: value for key, value in found.items() if value}


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _peak_memory() -> tuple[int | None, int | None]:
    if sys.platform == "win32":
        return None, None
    import resource  # noqa: PLC0415

    unit = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, child = (resource.getrusage(each).ru_maxrss * unit for each in who)
    return own, child
