import inspect
import io
import os
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from weakseg.config.run_config import RunConfig
from weakseg.faults import FileError
from weakseg.pipeline import STAGES, Stage, Validation, fingerprints, run_pipeline
from weakseg.runs.contents import Contents, catalog_digest
from weakseg.runs.outside_faults import ReaderEndedError
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.runs.run_samples import RunSamples
from weakseg.types import Catalog, ConfigError, DataError, RunError, Sample


class Config(BaseModel):
    seed: int = 0
    device: str = "cpu"
    dry_run: int | None = None
    fit: dict[str, Any] = {"epochs": 5}
    cams: dict[str, Any] = {"scale": 1}

    def to_yaml(self):
        return f"seed: {self.seed}\n"

    def sections(self, names):
        return self.model_dump(include=set(names))


class Stages:
    """Three stages that write a file and remember that they were called."""

    def __init__(self):
        self.calls = []
        self.fail = None
        self.table = (
            Stage("classify", 1, (), ("fit",), self.stage("classify")),
            Stage("cams", 1, ("classify",), ("cams",), self.stage("cams")),
            Stage("evaluate", 1, ("cams",), (), self.stage("evaluate"), truth=True),
        )

    def stage(self, name):
        def function(context):
            self.calls.append(name)
            context.dir.write_text("out.txt", f"{context.config.seed}")
            for stage in self.table:
                if stage.name == name:
                    for need in stage.needs:
                        context.run.stage(need).file("out.txt").read_text()
            if self.fail == name:
                raise KeyboardInterrupt
            return {"images": len(context.catalog)}

        return function


@pytest.fixture
def stages():
    return Stages()


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "a.png").write_bytes(b"a")
    sample = Sample("a", tmp_path / "a.jpg", frozenset({0}), tmp_path / "a.png")
    return Catalog(("cat",), (sample,))


@pytest.fixture
def go(tmp_path, stages, catalog):
    def go(config=None, **options):
        stages.calls.clear()
        options = {"catalog": catalog, "stages": stages.table, **options}
        console = Console(file=io.StringIO(), width=80)
        run = RunDir(tmp_path / "run")
        return run_pipeline(config or Config(), run, console=console, **options)

    return go


def test_all_stages_then_none(go, stages, tmp_path):
    summary = go(source=tmp_path, split="train", skipped=["bad"])
    assert stages.calls == ["classify", "cams", "evaluate"]
    assert [s.skipped for s in summary.stages] == [False] * 3
    assert summary.metrics == {"images": 1}
    assert summary["cams"].summary == {"images": 1}
    assert summary.peak_bytes > 10_000_000
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\n"
    assert RunDir(tmp_path / "run").catalog_record()["skipped"] == ["bad"]
    again = go()
    assert stages.calls == []
    assert [s.skipped for s in again.stages] == [True] * 3
    assert [s.seconds for s in again.stages] == [s.seconds for s in summary.stages]


def test_an_interrupted_run_goes_on(go, stages):
    stages.fail = "cams"
    with pytest.raises(KeyboardInterrupt):
        go()
    stages.fail = None
    go()
    assert stages.calls == ["cams", "evaluate"]


def test_until(go, stages):
    summary = go(until="cams")
    assert stages.calls == ["classify", "cams"]
    assert summary.metrics == {}
    with pytest.raises(ConfigError, match="'cam'; known: classify, cams, evaluate"):
        go(until="cam")


def test_a_changed_setting_is_refused_before_anything_happens(go, stages, tmp_path):
    go()
    changed = Config(seed=0, cams={"scale": 2})
    (tmp_path / "run" / "classify" / "done.json").unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != ".lock"}
    with pytest.raises(RunError, match=r"'cams'.*cams\.scale: 1 → 2"):
        go(changed)
    assert stages.calls == []
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_force_redoes_only_what_depends_on_the_change(go, stages):
    go()
    go(Config(cams={"scale": 2}), force=True)
    assert stages.calls == ["cams", "evaluate"]
    go(Config(cams={"scale": 2}, fit={"epochs": 6}), force=True)
    assert stages.calls == ["classify", "cams", "evaluate"]


def test_a_forced_run_that_was_interrupted_goes_on_with_the_same_command(go, stages):
    go()
    stages.fail = "cams"
    changed = Config(fit={"epochs": 6})
    with pytest.raises(KeyboardInterrupt):
        go(changed, force=True)
    stages.fail = None
    go(changed, force=True)
    assert stages.calls == ["cams", "evaluate"]


def test_where_it_is_computed_changes_nothing(go, stages):
    go()
    go(Config(device="cuda"))
    assert stages.calls == []


@pytest.mark.parametrize("config", [Config(seed=1), Config(fit={"epochs": 6})])
def test_what_the_first_stage_reads_changes_all(config, stages, catalog):
    first = fingerprints(Config(), catalog, stages.table)
    other = fingerprints(config, catalog, stages.table)
    assert all(first[name] != other[name] for name in first)


def test_a_stages_version_changes_those_after_it(stages, catalog):
    first = fingerprints(Config(), catalog, stages.table)
    table = (stages.table[0], replace(stages.table[1], version=2), stages.table[2])
    other = fingerprints(Config(), catalog, table)
    assert [name for name in first if first[name] != other[name]] == ["cams", "evaluate"]


def test_truth_changes_scores_only(stages, catalog):
    first = fingerprints(Config(), catalog, stages.table)
    catalog.samples[0].mask.write_bytes(b"other")
    other = fingerprints(Config(), catalog, stages.table)
    assert [name for name in first if first[name] != other[name]] == ["evaluate"]


def test_changed_images_change_all(stages, catalog):
    first = fingerprints(Config(), catalog, stages.table)
    os.utime(catalog.samples[0].image, ns=(1, 1))
    assert fingerprints(Config(), catalog, stages.table) == first
    catalog.samples[0].image.write_bytes(b"b")
    other = fingerprints(Config(), catalog, stages.table)
    assert all(first[name] != other[name] for name in first)
    catalog.samples[0].image.unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.jpg: No such file"):
        fingerprints(Config(), catalog, stages.table)


def test_a_run_in_use_is_refused(go, tmp_path):
    with RunDir(tmp_path / "run").locked(), pytest.raises(RunError, match="in use"):
        go()


def test_truth_that_only_some_settings_read_changes_only_their_results(stages, catalog):
    table = (
        *stages.table[:2],
        replace(stages.table[2], truth=lambda config: config.seed == 1),
    )
    before = [fingerprints(Config(seed=seed), catalog, table)["evaluate"] for seed in (0, 1)]
    catalog.samples[0].mask.write_bytes(b"other")
    after = [fingerprints(Config(seed=seed), catalog, table)["evaluate"] for seed in (0, 1)]
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.fixture
def second(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"b")
    catalog = Catalog(("cat",), (Sample("b", tmp_path / "b.jpg", frozenset()),))
    return Validation(catalog, "val")


def test_a_stage_that_reads_a_second_split(go, stages, second, tmp_path):
    stages.table = (*stages.table[:2], replace(stages.table[2], truth=False, validation=True))
    assert [stage.name for stage in go().stages] == ["classify", "cams"]
    with pytest.raises(ConfigError, match="'evaluate' reads a second split; give --val NAME"):
        go(until="evaluate")
    go(validation=second)
    assert stages.calls == ["evaluate"]
    record = RunDir(tmp_path / "run").catalog_record(VALIDATION)
    found = RunDir(tmp_path / "run").load_catalog(VALIDATION)
    assert (record["split"], [sample.id for sample in found]) == ("val", ["b"])
    second.catalog.samples[0].image.write_bytes(b"changed")
    with pytest.raises(RunError, match=r"'evaluate'.*content of the image: 'b'"):
        go(validation=second)
    assert stages.calls == []


def test_a_dry_run_is_said_twice_and_marks_what_depends_on_it(tmp_path, capsys):
    stages = Stages()
    first, *others = stages.table
    maps = Stage("maps", 1, (), ("cams",), lambda context: {"images": 0})
    table = (maps, replace(first, reads=("dry_run", "fit")), *others)
    options = {"catalog": Catalog(("cat",), ()), "stages": table}
    summary = run_pipeline(Config(dry_run=1), RunDir(tmp_path / "run"), **options)
    lines = [line for line in capsys.readouterr().out.splitlines() if "DRY RUN" in line]
    assert len(lines) == 2
    assert "every training ends after 1 step;" in lines[0]
    marks = [stage.summary.get("dry_run") for stage in summary.stages]
    assert marks == [None, 1, 1, 1]
    with pytest.raises(RunError, match="dry_run"):
        run_pipeline(Config(), RunDir(tmp_path / "run"), **options)


def test_the_table_is_in_order_and_its_functions_take_a_context():
    seen = []
    for stage in STAGES:
        assert set(stage.needs) <= set(seen)
        assert all(RunConfig(dry_run=2).sections([name]) for name in stage.reads)
        assert not {"seed", "device", "precision"} & set(stage.reads)
        assert list(inspect.signature(stage.load()).parameters) == ["context"]
        seen.append(stage.name)
    assert len(set(seen)) == len(seen)


def test_every_section_is_read_by_a_stage():
    read = {section.partition(".")[0] for stage in STAGES for section in stage.reads}
    assert set(RunConfig.model_fields) - read == {"seed", "device", "precision"}


class Reading:
    """A stage that opens every image, and writes down which."""

    def __init__(self, gone=(), error=None):
        self.gone, self.error, self.seen = list(gone), error, []

    def __call__(self, context):
        for sample in context.catalog:
            if sample.id in self.gone:
                self.gone.remove(sample.id)
                sample.image.unlink()
            if not sample.image.is_file():
                raise FileError(sample.image, "image_missing", "is gone", "bring it back")
            if self.error is not None:
                error, self.error = self.error, None
                raise error
        self.seen.append([sample.id for sample in context.catalog])
        return {"images": len(context.catalog)}


@pytest.fixture
def many(tmp_path):
    samples = []
    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
        samples.append(Sample(name, tmp_path / f"{name}.jpg", frozenset({0})))
    return Catalog(("cat",), tuple(samples))


def test_images_lost_on_the_way_are_left_out_and_the_run_goes_on(go, stages, many, tmp_path):
    first, second = Reading(), Reading(gone="bc")
    stages.table = (Stage("one", 1, (), (), first), Stage("two", 1, ("one",), (), second))
    summary = go(catalog=many, skip_bad=True)
    assert (first.seen, second.seen) == ([list("abcdef")], [list("adef")])
    assert [stage.summary["images"] for stage in summary.stages] == [6, 4]
    run = RunDir(tmp_path / "run")
    assert run.catalog_record()["skipped"] == ["b", "c"]
    assert [sample.id for sample in run.load_catalog()] == list("adef")
    # The next call, which checked the source anew: nothing is done again.
    again = go(catalog=many.subset(list("adef")), skipped=["b", "c"], skip_bad=True)
    assert [stage.skipped for stage in again.stages] == [True, True]
    # They came back: what was made stays without them.
    for name in "bc":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    again = go(catalog=many)
    assert [stage.skipped for stage in again.stages] == [True, True]
    assert [sample.id for sample in run.load_catalog()] == list("adef")


def test_without_being_asked_to_a_lost_image_is_an_error_and_can_be_left_out_next_time(
    go, stages, many
):
    first, second = Reading(), Reading(gone="b")
    stages.table = (Stage("one", 1, (), (), first), Stage("two", 1, ("one",), (), second))
    with pytest.raises(FileError, match=r"b\.jpg: is gone; .* with --skip-bad, which goes on"):
        go(catalog=many)
    kept = many.subset(list("acdef"))
    with pytest.raises(RunError, match="images not there any more: 'b'"):
        go(catalog=kept)
    summary = go(catalog=kept, skipped=["b"], skip_bad=True)
    assert [stage.skipped for stage in summary.stages] == [True, False]
    assert second.seen == [list("acdef")]


def test_lost_images_of_the_second_split_are_left_out_too(go, stages, many, tmp_path):
    own, theirs = many.subset(list("abc")), many.subset(list("def"))
    reading = Reading(gone="e")

    def validate(context):
        return reading(replace(context, catalog=context.validation))

    first = Reading()
    stages.table = (
        Stage("one", 1, (), (), first),
        Stage("validate", 1, ("one",), (), validate, validation=True),
    )
    with pytest.raises(FileError, match=r"e\.jpg: is gone; .* with --skip-bad, which goes on"):
        go(catalog=own, validation=Validation(theirs, "val"))
    (tmp_path / "e.jpg").write_bytes(b"e")
    reading.gone = ["e"]
    summary = go(catalog=own, validation=Validation(theirs, "val"), skip_bad=True)
    assert [stage.summary["images"] for stage in summary.stages] == [3, 2]
    run = RunDir(tmp_path / "run")
    assert run.catalog_record(VALIDATION)["skipped"] == ["e"]
    assert run.catalog_record()["skipped"] == []
    assert [sample.id for sample in run.load_catalog(VALIDATION)] == ["d", "f"]
    # The next call, which checked the source anew: nothing is done again.
    left = Validation(theirs.subset(["d", "f"]), "val", skipped=["e"])
    again = go(catalog=own, validation=left, skip_bad=True)
    assert [stage.skipped for stage in again.stages] == [True, True]
    # It came back: what was made stays without it.
    (tmp_path / "e.jpg").write_bytes(b"e")
    again = go(catalog=own, validation=Validation(theirs, "val"))
    assert [stage.skipped for stage in again.stages] == [True, True]
    assert first.seen == [list("abc")]


def test_where_most_images_are_gone_it_is_the_disk(go, stages, many):
    stages.table = (Stage("one", 1, (), (), Reading(gone="abcd")),)
    for name in "bcd":
        many[name].image.rename(many[name].image.with_suffix(".png"))
    stages.table[0].function.gone = ["a"]
    with pytest.raises(DataError, match="cannot read"):
        go(catalog=many, skip_bad=True)
    for name in "bcd":
        many[name].image.with_suffix(".png").rename(many[name].image)

    def all_gone(context):
        for name in "abcd":
            many[name].image.unlink()
        raise FileError(many["a"].image, "image_missing", "is gone", "bring it back")

    stages.table = (Stage("one", 1, (), (), all_gone),)
    with pytest.raises(RunError, match="4 of 6 images cannot be read any more"):
        go(catalog=many, skip_bad=True)


def test_lost_images_with_corrected_tags_count_as_the_source_tells_them(many, tmp_path):
    contents = Contents(tmp_path / "contents.json")
    before = catalog_digest(many, contents)
    samples = RunSamples(
        RunDir(tmp_path / "run"),
        contents,
        many,
        Catalog(("cat",), tuple(replace(s, tags=frozenset()) for s in many)),
        tmp_path,
        None,
        (),
        "",
    )
    kept = samples.lose(["b"], "cams: gone")
    assert [sample.id for sample in kept] == list("acdef")
    read = Contents(tmp_path / "contents.json")
    assert catalog_digest(many.subset(list("acdef")), read, read.left_out) == before
    assert read.left_out["b"].why == "cams: gone"


def test_an_ended_reading_process_is_replaced_once(go, stages, many):
    ended = ReaderEndedError("one", "a process was ended", "lower it")
    stage = Reading(error=ended)
    stages.table = (Stage("one", 1, (), (), stage),)
    assert go(catalog=many)["one"].summary == {"images": 6}

    def always(context):
        raise ended

    stages.table = (Stage("two", 1, (), (), always),)
    with pytest.raises(RunError, match="a process was ended; lower it"):
        go(catalog=many)
