"""Processes of a launcher work on one run, as `torchrun` and `accelerate launch` start them."""

import json
import os
import shutil
import subprocess
import sys
import time
from itertools import chain

import pytest
import torch
from safetensors.torch import load_file

from smallest import SMALLEST
from weakseg import api
from weakseg.demo_data.data_set import write_demo

SET = (
    *SMALLEST,
    "precision=fp32",
    "verify.images=0",
    "segment.fit.epochs=2",
    # AdamW's steps are as long where a gradient is nothing but rounding: below what is asserted.
    "segment.fit.lr=2e-5",
    "segment.held_out=0.2",
)
TRAININGS = ("classify", "recalibrate", "relate", "segment")


def command(data, out, *more):
    given = chain.from_iterable(("--set", setting) for setting in SET)
    return ["-m", "weakseg", "run", data, "--out", out, "--preset", "fast", *given, *more]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed") / "data"
    write_demo(folder, count=9, seed=1)
    return folder


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("distributed") / "alone"
    return api.run(data, out, preset="fast", overrides=SET).run


def lines(run, stage):
    return [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]


def test_two_processes_make_the_run_that_one_makes(data, alone, tmp_path, launched):
    out = tmp_path / "run"
    (first, said), (second, heard) = launched(*[command(data, out)] * 2).ended()
    assert (first, second) == (0, 0), (said, heard)
    assert "segment: done" in said
    assert "done" not in heard
    for stage in TRAININGS:
        ours, theirs = lines(out, stage), lines(alone, stage)
        assert len(ours) == len(theirs) > 0
        for own, other in zip(ours, theirs, strict=True):
            assert own["loss"] == pytest.approx(other["loss"], abs=1e-4)
            assert own["lr"] == other["lr"]
    states = [*(f"{stage}/state.safetensors" for stage in TRAININGS[:3])]
    for name in (*states, "segment/model/model.safetensors"):
        own, other = load_file(out / name), load_file(alone / name)
        for key, value in own.items():
            torch.testing.assert_close(value, other[key], rtol=0, atol=1e-3)
    made = {path.relative_to(out) for path in out.rglob("*.*") if path.name != ".lock"}
    assert made == {path.relative_to(alone) for path in alone.rglob("*.*") if path.name != ".lock"}
    scores = [json.loads((run / "evaluate/metrics.json").read_text()) for run in (out, alone)]
    assert scores[0]["images"] == scores[1]["images"] == 9
    assert scores[0]["masks"]["mean_iou"] == pytest.approx(scores[1]["masks"]["mean_iou"], abs=0.01)

    # What two began, one goes on with; what one began, two do anew where it was made otherwise.
    (out / "walk/done.json").unlink()
    kept = sorted((out / "walk").rglob("*.npz"))
    times = {path: path.stat().st_mtime_ns for path in kept}
    kept[0].unlink()
    more = ("--set", "evaluate.threshold_step=0.05", "--set", "segment.fit.epochs=1", "--force")
    (first, said), (second, heard) = launched(*[command(data, out, *more)] * 2).ended()
    assert (first, second) == (0, 0), (said, heard)
    assert "walk: done in" in said
    assert "evaluate: done in" in said
    assert len(lines(out, "segment")) < len(lines(alone, "segment"))
    assert kept[0].is_file()
    assert all(path.stat().st_mtime_ns == times[path] for path in kept[1:])


def test_one_whose_settings_are_wrong_ends_both(data, tmp_path, launched):
    bad = command(data, tmp_path / "run", "--set", "fit.epochs=none")
    (first, said), (second, heard) = launched(command(data, tmp_path / "run"), bad).ended()
    assert (first, second) == (2, 2)
    assert "process 1 of 2 failed: " in said
    assert "fit.epochs" in said
    assert "fit.epochs" in heard


def test_torchrun_begins_again_without_an_image_that_is_lost(data, tmp_path):
    own, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data, own)
    lost = next((own / "images").glob("demo_00003.*"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = [*torchrun, "--max-restarts=1", *command(own, out, "--skip-bad", "--until", "cams")]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not (out / "classify/done.json").is_file():
        time.sleep(0.01)
    lost.unlink()  # after the check, before `cams` reads it
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert f"{lost}: there is no such file" in said
    assert "classify: done earlier, skipped" in said
    assert json.loads((out / "catalog.json").read_text())["skipped"] == ["demo_00003"]
    assert len(list((out / "cams").rglob("*.npz"))) == 8
