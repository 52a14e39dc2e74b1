import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.files import plain, write_atomic
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir, changed_keys, fingerprint_hash
from weakseg.types import Catalog, RunError, Sample

PRINT = {"version": 1, "fit": {"epochs": 5, "lr": 0.01}, "needs": {}}


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    return run


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"bb")
    return Catalog(
        ("cat", "größerer Hund"),
        (
            Sample("a", tmp_path / "a.jpg", frozenset({0, 1}), tmp_path / "a.png"),
            Sample("x/b.c", tmp_path / "b.jpg", frozenset()),
        ),
    )


def refingerprinted(**fit):
    return {**PRINT, "fit": {**PRINT["fit"], **fit}}


def test_finished_stage_is_done_when_opened_again(run):
    stage = run.open_stage("fit", PRINT)
    assert not stage.done
    stage.finish({"images": 3, "miou": np.float32(0.5), "worst": float("nan")})
    again = run.open_stage("fit", PRINT)
    assert again.done
    assert again.summary == {"images": 3, "miou": 0.5, "worst": None}
    assert set(again.record["versions"]) == {"python", "weakseg", "torch", "timm"}
    assert again.record["fingerprint"] == fingerprint_hash(PRINT)
    assert again.fingerprint == PRINT


def test_unfinished_stage_keeps_its_files(run):
    run.open_stage("fit", PRINT).write_text("log.jsonl", "{}\n")
    again = run.open_stage("fit", PRINT)
    assert not again.done
    assert again.file("log.jsonl").read_text() == "{}\n"
    with pytest.raises(RunError, match="not finished"):
        _ = again.summary


@pytest.mark.parametrize("finished", [True, False])
def test_other_fingerprint_is_refused_naming_the_keys(run, finished):
    stage = run.open_stage("fit", PRINT)
    stage.write_text("old.txt", "old")
    if finished:
        stage.finish({})
    before = sorted(stage.path.iterdir())
    with pytest.raises(RunError, match=r"fit\.epochs: 5 → 6") as error:
        run.open_stage("fit", refingerprinted(epochs=6))
    assert "--force" in str(error.value)
    assert "lr" not in str(error.value)
    with pytest.raises(RunError, match=r"fit\.epochs: 5 → 6"):
        run.check_stage("fit", refingerprinted(epochs=6))
    assert sorted(stage.path.iterdir()) == before


def test_force_empties_the_stage_but_keeps_what_weakseg_never_writes(run, tmp_path):
    stage = run.open_stage("cams", PRINT)
    stage.write_npz("dog/1.npz", maps=np.zeros(3))
    stage.write_bytes("state.safetensors", b"x")
    stage.path.joinpath("notes.md").write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.png").write_bytes(b"x")
    stage.path.joinpath("link").symlink_to(outside, target_is_directory=True)
    stage.finish({})
    run.check_stage("cams", refingerprinted(lr=1.0), force=True)
    assert stage.done
    again = run.open_stage("cams", refingerprinted(lr=1.0), force=True)
    assert not again.done
    left = {p.relative_to(stage.path).as_posix() for p in stage.path.rglob("*")}
    assert left - {"link/keep.png"} == {"notes.md", "link", "fingerprint.json"}
    assert (outside / "keep.png").exists()
    assert again.fingerprint["fit"]["lr"] == 1.0


def test_force_with_the_same_fingerprint_keeps_the_result(run):
    run.open_stage("fit", PRINT).finish({})
    assert run.open_stage("fit", PRINT, force=True).done


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_of_foreign_files_is_never_taken(run, force):
    (run.path / "masks").mkdir()
    (run.path / "masks" / "truth.png").write_bytes(b"mine")
    with pytest.raises(RunError, match="did not write"):
        run.open_stage("masks", PRINT, force=force)
    assert (run.path / "masks" / "truth.png").read_bytes() == b"mine"


def test_create_refuses_a_folder_that_is_no_run(tmp_path, catalog):
    with pytest.raises(RunError, match="not empty"):
        RunDir(tmp_path).create()
    with pytest.raises(RunError, match="cannot use"):
        RunDir(tmp_path / "a.jpg" / "run").create()
    run = RunDir(tmp_path / "new" / "run")
    run.create()
    (run.path / "traceback.txt").write_text("")
    run.create()
    run.save_catalog(catalog, source=tmp_path)
    run.open_stage("fit", PRINT)
    run.create()


def test_catalog_round_trip(run, catalog, tmp_path):
    run.save_catalog(catalog, source=tmp_path, split="train", skipped=["bad.jpg"])
    assert run.load_catalog() == catalog
    record = run.catalog_record()
    assert record["split"] == "train"
    assert record["skipped"] == ["bad.jpg"]
    assert "samples" not in record
    written = json.loads((run.path / "catalog.json").read_text("utf-8"))
    assert written["samples"][0]["tags"] == ["cat", "größerer Hund"]


def test_damaged_records_are_told_in_one_line(run, catalog, tmp_path):
    with pytest.raises(RunError, match="no run of weakseg"):
        run.load_catalog()
    run.save_catalog(replace(catalog), source=tmp_path)
    path = run.path / "catalog.json"
    record = json.loads(path.read_text())
    record["samples"][0]["tags"] = ["bird"]
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match="damaged"):
        run.load_catalog()
    path.write_text("{")
    with pytest.raises(RunError, match="cannot read"):
        run.load_catalog()


@pytest.mark.parametrize(
    "strange",
    [
        "../../OUT/x",
        "/tmp/x",
        "a/../../x",
        "..",
        "a/./b",
        "a//b",
        "a/",
        "",
        "..\\x",
        "a\\b",
        "C:x",
        "C:/x",
        "\\\\host\\share\\x",
        "a\0b",
        "a\nb",
        "b/c",
    ],
)
@pytest.mark.parametrize("name", ["catalog.json", "catalog_val.json"])
def test_ids_of_a_strangers_catalog_stay_below(run, catalog, tmp_path, strange, name):
    kept = catalog.samples[0]
    samples = (replace(kept, id="b/c"), replace(kept, id=strange))
    run.save_catalog(Catalog(catalog.classes, samples), source=tmp_path, name=name)
    with pytest.raises(RunError, match=r"catalog.*\.json is damaged: .* id") as error:
        run.load_catalog(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 3},
        {"samples": [3]},
        {"samples": [{}]},
        {"samples": [{"id": 3, "image": "a", "tags": []}]},
        {"samples": [{"id": "a", "image": "a\0", "tags": []}]},
        {"samples": [{"id": "a", "image": "a", "tags": [["cat"]]}]},
        {"classes": {"cat": 1}},
        {"classes": [["cat"]]},
    ],
)
def test_catalogs_of_another_form(run, catalog, tmp_path, change):
    run.save_catalog(catalog, source=tmp_path)
    path = run.path / "catalog.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=r"catalog\.json is damaged"):
        run.load_catalog()


@pytest.mark.parametrize("relative", ["../x", "/x", "a/../../x", ""])
def test_paths_that_leave_the_stage_are_refused(run, relative):
    with pytest.raises(ValueError, match="expected a path below"):
        run.open_stage("fit", PRINT).write_bytes(relative, b"")


def test_long_names_and_subfolders(run):
    stage = run.open_stage("masks", PRINT)
    name = "ä/" + "n" * 251 + ".png"
    assert stage.write_bytes(name, b"x").read_bytes() == b"x"


def test_npz_without_pickle(run):
    stage = run.open_stage("cams", PRINT)
    maps = np.random.default_rng(0).random((2, 5, 7)).astype(np.float16)
    for compressed in (True, False):
        path = stage.write_npz("a.npz", compressed, maps=maps, classes=np.array([1, 4]))
        with np.load(path, allow_pickle=False) as found:
            np.testing.assert_array_equal(found["maps"], maps)
            assert found["maps"].dtype == np.float16
    with pytest.raises(ValueError, match="objects"):
        stage.write_npz("b.npz", bad=np.array([{}]))


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    write_atomic(path, b"old")

    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_finish_removes_what_killed_processes_left(run):
    stage = run.open_stage("masks", PRINT)
    part = stage.write_bytes(f"dog/.{gone()}-2-3.tmp", b"half")
    stage.finish({})
    assert not part.exists()


def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_taking_the_lock_removes_what_killed_processes_left(run, catalog):
    run.save_catalog(catalog, source="photos")
    dead = gone()
    stage = run.open_stage("masks", PRINT)
    (run.path / "mine").mkdir()
    left = [
        run.path / f".{dead}-1-2.tmp",
        run.path / "truth" / "dog" / f".{dead}-1-2.tmp",
        stage.path / f".{dead}-140-0.tmp",
        stage.path / "dog" / f".{dead}-140-7.tmp",
        stage.path / ".tmpAb3dE9",
        stage.path / f".{os.getpid()}-1-2.tmp",
    ]
    kept = [
        stage.path / f".{os.getppid()}-1-2.tmp",
        stage.path / f".{os.getpid()}-1-3.tmp",
        stage.path / "dog" / "1.png",
        stage.path / f"a.{dead}-1-2.tmp",
        stage.path / f".{dead}-1.tmp",
        stage.path / ".tmpAb3dE9x",
        stage.path / "a.tmp",
        run.path / "mine" / f".{dead}-1-2.tmp",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    os.utime(left[-1], (0, 0))
    folder = stage.path / f".{dead}-1-5.tmp"
    (folder / "inner").mkdir(parents=True)
    with run.locked():
        assert [path for path in (*left, folder) if path.exists()] == []
        assert [path for path in kept if not path.exists()] == []


def test_a_full_disk_is_told_with_what_is_needed(run, monkeypatch):
    stage = run.open_stage("masks", PRINT)

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    told = pytest.raises(RunError, match=r"No space left .*\(2\.0 MB are needed and [\d.]+ MB are")
    with told, stage.timed():
        stage.write_bytes("a.npz", bytes(2_000_000))
    assert not list(stage.path.glob(".*"))


def test_many_threads_write_at_once(run):
    stage = run.open_stage("masks", PRINT)
    data = [bytes([n]) * 100_000 for n in range(8)]
    threads = [threading.Thread(target=stage.write_bytes, args=("one.png", d)) for d in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.file("one.png").read_bytes() in data


HOLDER = """
    import sys
    from weakseg.runs.run_dir import RunDir
    with RunDir(sys.argv[1]).locked():
        print("held", flush=True)
        sys.stdin.read()
"""


def test_two_processes_in_one_run(run):
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(run.path)]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid} on"), run.locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with run.locked():  # a killed process's lock is taken over
        assert f"process {os.getpid()} " in (run.path / ".lock").read_text()
    with run.locked():
        pass


HELD = """
import os, signal, sys, time
from weakseg.runs.run_dir import RunDir
with RunDir(sys.argv[1]).locked():
    if os.fork() == 0:
        time.sleep(30)  # a process that reads images, which outlives the one that is killed
        os._exit(0)
    print("locked", flush=True)
    time.sleep(30)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked")
def test_the_lock_of_a_killed_process_ends_though_its_children_live(run):
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, run.path], stdout=subprocess.PIPE, start_new_session=True
    )
    process.stdout.readline()
    with pytest.raises(RunError, match="in use"), run.locked():
        pass
    process.kill()
    process.wait()
    try:
        until = time.monotonic() + 10  # the child may still be on its way to letting go
        while True:
            try:
                with run.locked():
                    break
            except RunError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_other_ranks_of_a_launch_share_the_lock(run, monkeypatch):
    with run.locked():
        with pytest.raises(RunError, match="in use"), run.locked():
            pass
        monkeypatch.setenv("RANK", "1")
        with run.locked():
            pass


def test_stage_of_another_that_is_not_finished(run):
    run.open_stage("classify", PRINT)
    with pytest.raises(RunError, match="'classify' is not finished"):
        run.stage("classify")
    run.open_stage("classify", PRINT).finish({"a": 1})
    assert run.stage("classify").summary == {"a": 1}
    assert isinstance(run.stage("classify"), StageDir)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_plain_values_survive_json_and_hash_alike(value):
    found = json.loads(json.dumps(plain(value), allow_nan=False))
    assert found == plain(value)
    assert fingerprint_hash(found) == fingerprint_hash(value)
    assert changed_keys(found, value) == []


def test_text_that_is_no_unicode_has_a_hash():
    assert fingerprint_hash({"a": "\ud800"}) != fingerprint_hash({"a": "\ud801"})


def test_what_was_left_in_a_finished_stage_goes_too(run, catalog):
    run.save_catalog(catalog, source="photos")
    stage = run.open_stage("masks", PRINT)
    stage.finish({})
    part = stage.path / f".{gone()}-1-2.tmp"
    part.write_bytes(b"half")
    written = (stage.path / "fingerprint.json").stat().st_mtime_ns
    with run.locked():
        assert run.open_stage("masks", PRINT).done
    assert not part.exists()
    assert (stage.path / "fingerprint.json").stat().st_mtime_ns == written


def test_hash_ignores_order_and_tuples_but_sees_values():
    assert fingerprint_hash({"a": (1, 2), "b": 2}) == fingerprint_hash({"b": 2, "a": [1, 2]})
    assert fingerprint_hash({"a": 1}) != fingerprint_hash({"a": 2})
    with pytest.raises(TypeError, match="got <class 'object'>"):
        plain({"a": object()})


def test_changed_keys_tells_added_and_removed():
    old = {"fit": {"epochs": 5, "lr": 0.1}, "seed": 0, "extra": {}}
    new = {"fit": {"epochs": 5, "steps": None}, "seed": 1, "extra": {}}
    assert changed_keys(old, new) == [
        "fit.lr: 0.1 → (absent)",
        "fit.steps: (absent) → None",
        "seed: 0 → 1",
    ]


def test_time_is_counted_over_interruptions(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    run = RunDir(tmp_path)

    def work(seconds):
        clock[0] += seconds
        raise KeyboardInterrupt

    for seconds in (30, 12):
        stage = run.open_stage("fit", PRINT)
        with pytest.raises(KeyboardInterrupt), stage.timed():
            work(seconds)
        clock[0] += 1000  # until the run goes on
    stage = run.open_stage("fit", PRINT)
    with stage.timed():
        clock[0] += 5
    stage.finish({})
    assert stage.record["seconds"] == 47
    assert not (stage.path / "spent.json").exists()
