import json
import os
import socket

import pytest
from rich.console import Console

from weakseg.api import status
from weakseg.config.run_config import load_config
from weakseg.console import show_status
from weakseg.pipeline import fingerprints, stages_until
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_progress import PROGRESS, noted, read_progress
from weakseg.types import Catalog, RunError, Sample

CONFIG = load_config("fast")


@pytest.fixture
def run(tmp_path):
    """A run whose first stage is finished and whose second is under way."""
    (tmp_path / "a.png").write_bytes(b"a")
    catalog = Catalog(("cat",), (Sample("a", tmp_path / "a.png", frozenset({0})),))
    run = RunDir(tmp_path / "run")
    run.save_catalog(catalog, source=tmp_path, split="train", skipped=["b"])
    run.save_config(CONFIG.to_yaml())
    prints = fingerprints(CONFIG, catalog, stages_until(None, validation=False))
    first = run.open_stage("classify", prints["classify"])
    first.write_text("out.txt", "abc")
    with first.timed():
        pass
    first.finish({"images": 1})
    run.open_stage("cams", prints["cams"])
    return run


def stages(found):
    return {stage.name: stage.state for stage in found.stages}


def test_a_run_that_stopped(run):
    found = status(run.path)
    assert (found.images, found.classes, found.skipped, found.split) == (
        1,
        ("cat",),
        ("b",),
        "train",
    )
    assert list(stages(found).items())[:3] == [
        ("classify", "done"),
        ("cams", "stopped"),
        ("spread", "to do"),
    ]
    assert "validate" not in stages(found)
    assert (found.next, found.worker, found.wrong) == ("cams", "", ())
    assert found.stages[0].seconds is not None
    assert found.stages[0].size > 3


def test_a_run_at_work_is_told_with_how_far_it_is(run):
    at_work = noted(run.path / "cams", lambda n=1: None, "cams", total=9, done=2, unit="images")
    with run.locked(), at_work:
        found = status(run.path)
    assert found.worker == f"process {os.getpid()} on {socket.gethostname()}"
    assert stages(found)["cams"] == "at work"
    assert (found.stages[1].progress.done, found.stages[1].progress.total) == (2, 9)
    assert status(run.path).worker == ""


def test_a_lock_that_a_killed_process_left_is_none(run):
    (run.path / ".lock").write_text(f"process 999999999 on {socket.gethostname()}\n")
    assert status(run.path).worker == ""
    (run.path / ".lock").write_text("process 999999999 on another-machine\n")
    assert status(run.path).worker == "process 999999999 on another-machine"


def test_what_is_wrong_is_told(run, tmp_path, weak):
    record = json.loads((run.path / "classify/done.json").read_text())
    record["summary"]["verdicts"] = [{"severity": "red", "about": "cat", "text": "no masks"}]
    (run.path / "classify/done.json").write_text(json.dumps(record))
    (tmp_path / "a.png").unlink()
    (run.path / "traceback.txt").write_text("…")
    red, lost, bug = status(run.path).wrong
    assert red == "RED cat: no masks"
    assert lost.startswith("1 image is not where the run found them: 'a'; put them back")
    assert "traceback.txt tells of a bug" in bug
    code, out, _ = weak("status", run.path)
    assert code == 1
    assert "wrong: RED cat: no masks" in out


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"seconds": 1}'])
def test_damaged_records_of_stages_are_told_and_the_rest_is_shown(run, text):
    (run.path / "classify/done.json").write_text(text)
    found = status(run.path)
    assert stages(found)["classify"] == "damaged"
    assert "done.json" in found.wrong[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"needs": 3}'])
def test_damaged_fingerprints_are_told(run, text):
    (run.path / "cams/fingerprint.json").write_text(text)
    found = status(run.path)
    assert stages(found)["classify"] == "done"
    assert stages(found)["cams"] in ("damaged", "outdated", "stopped")


def test_results_of_other_settings_are_outdated(run):
    run.save_config(CONFIG.model_copy(update={"seed": 7}).to_yaml())
    assert set(stages(status(run.path)).values()) == {"outdated", "to do"}


@pytest.mark.parametrize("name", ["catalog.json", "config.yaml"])
@pytest.mark.parametrize("text", ["", "[", "3", '{"format": "weakseg-run-1"}'])
def test_a_damaged_run_is_one_line(run, weak, name, text):
    (run.path / name).write_text(text)
    code, out, err = weak("status", run.path)
    if name == "config.yaml" and text == "":  # no settings of its own: all are as they come
        return
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_no_run(tmp_path):
    with pytest.raises(RunError, match="is no run of weakseg"):
        status(tmp_path)


def test_as_json(run, weak):
    code, out, _ = weak("status", run.path, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["next"] == "cams"
    assert record["stages"][0]["state"] == "done"


def test_the_table_fits_a_narrow_terminal(run, capsys):
    with noted(run.path / "cams", lambda n=1: None, "cams", total=9, done=2, unit="images"):
        show_status(status(run.path), Console(width=80))
    out = capsys.readouterr().out
    assert "cams: 2 of 9 images" in " ".join(out.split())
    assert "next: cams; nobody works on it" in out


def test_progress_is_noted_now_and_then(tmp_path):
    (tmp_path / "fingerprint.json").write_text("{}")
    now, shown = [100.0], []
    with noted(
        tmp_path,
        lambda n=1, **fields: shown.append((n, fields)),
        "cams",
        total=10,
        done=2,
        unit="images",
        clock=lambda: now[0],
    ) as advance:
        assert read_progress(tmp_path).seconds_left is None
        advance(loss=1.0)
        assert read_progress(tmp_path).done == 2  # said a moment ago
        now[0] += 6
        advance(2)
        found = read_progress(tmp_path)
    assert shown == [(1, {"loss": 1.0}), (2, {})]
    assert (found.done, found.total, found.seconds_left, found.at) == (5, 10, 10.0, 106.0)


def test_where_no_stage_works_nothing_is_noted(tmp_path):
    with noted(tmp_path, lambda n=1: None, "x", total=1, done=0, unit="images") as advance:
        advance()
    assert list(tmp_path.iterdir()) == []
    assert read_progress(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"label": 1, "done": "x"}'])
def test_a_damaged_note_is_told(run, text):
    (run.path / "cams" / PROGRESS).write_text(text)
    assert PROGRESS in status(run.path).wrong[0]


def test_a_finished_stage_keeps_no_note(run):
    folder = run.open_stage("cams", status_print(run))
    with noted(folder.path, lambda n=1: None, "cams", total=1, done=0, unit="images"):
        assert (folder.path / PROGRESS).is_file()
    folder.finish({})
    assert not (folder.path / PROGRESS).exists()


def status_print(run):
    return json.loads((run.path / "cams/fingerprint.json").read_text())
