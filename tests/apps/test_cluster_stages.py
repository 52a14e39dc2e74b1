"""A run's stages by workers, each of which does parts of the images: the same results."""

import json
import os
import signal
import threading
import time

import psutil
import pytest

from weakseg import api
from weakseg.apps import cluster, cluster_stages
from weakseg.data.images import read_mask
from weakseg.demo_data.data_set import write_demo
from weakseg.faults import FileError
from weakseg.runs.image_maps import ImageMaps
from weakseg.types import ConfigError

SET = (
    "device=cpu",
    "precision=fp32",
    "fit.epochs=1",
    "fit.batch_size=4",
    "fit.workers=0",
    "augment.crop=64",
    "augment.long_side=[64, 80]",
    "cams.long_side=64",
    "cams.scales=[1.0]",
    "cams.batch_size=1",
    "spread.scales=[1.0]",
    "prototypes.clusters=2",
    "amr.compensation=false",
    "seeds.long_side=64",
    "relate.fit.epochs=1",
    "relate.fit.batch_size=4",
    "relate.fit.workers=0",
    "relate.augment.crop=64",
    "relate.augment.long_side=[64, 80]",
)
OPTIONS = {"preset": "fast", "overrides": SET, "until": "masks"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "data"
    write_demo(folder, count=7, seed=1)
    return folder


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    return api.run(data, tmp_path_factory.mktemp("stages") / "alone", **OPTIONS).run


def assert_same(run, alone):
    samples = json.loads((alone / "catalog.json").read_text())["samples"]
    for sample in samples:
        for stage in ("cams", "spread", "evidence", "walk"):
            one, other = (ImageMaps.load(each, stage, sample["id"]) for each in (alone, run))
            for kind, maps in one.maps.items():
                assert maps.shape == other.maps[kind].shape
                assert maps.numel() == 0 or float((maps - other.maps[kind]).abs().max()) < 0.01
        for stage in ("seeds", "masks"):
            one, other = (read_mask(each / stage / f"{sample['id']}.png") for each in (alone, run))
            assert float((one == other).float().mean()) > 0.99
    for stage in ("cams", "spread", "evidence", "seeds", "walk", "masks"):
        one, other = (
            json.loads((each / stage / "done.json").read_text())["summary"] for each in (alone, run)
        )
        share, other_share = (each.pop("mean_foreground", 0.0) for each in (one, other))
        assert other == one
        assert abs(share - other_share) < 1e-3


def test_parts_of_stages_make_the_run_that_one_process_makes(alone, data, tmp_path, monkeypatch):
    done = []

    def parts(make, jobs, *, batch, workers):
        assert (batch, workers) == (1, 3)
        for job in reversed(list(jobs)):  # workers end in any order
            done.append(job)
            yield from make()([json.loads(json.dumps(job))])

    monkeypatch.setattr(cluster_stages, "_LEAST", 2)
    monkeypatch.setattr(cluster_stages, "map_on_ray", parts)
    monkeypatch.setattr(cluster, "check_ray", lambda: None)
    out = tmp_path / "run"
    api.run(data, out, engine="ray", workers=3, **OPTIONS)
    # A worker is told of its part's samples, and of no others.
    ids = [sample["id"] for sample in json.loads((alone / "catalog.json").read_text())["samples"]]
    for job, start in zip(done, [6, 4, 2, 0] * 6, strict=True):
        assert job.keys() == {"start", "samples"}
        assert job["start"] == start
        samples = cluster_stages._unpacked(job["samples"])
        assert [sample.id for sample in samples] == ids[start : start + 2]
    assert len(done) == 6 * 4
    assert_same(out, alone)
    # Here or there, it is the same run; what is finished is not done again.
    assert all(stage.skipped for stage in api.run(data, out, **OPTIONS).stages)
    masks = {path: path.stat().st_mtime_ns for path in (out / "masks").glob("*.png")}
    (out / "masks" / "done.json").unlink()
    next(iter(masks)).unlink()
    api.run(data, out, engine="ray", workers=3, **OPTIONS)
    again = {path for path, at in masks.items() if path.stat().st_mtime_ns != at}
    assert again == {next(iter(masks))}
    assert_same(out, alone)


def test_ray_and_launchers_do_not_go_together(data, tmp_path, monkeypatch):
    monkeypatch.setattr("weakseg.apps.refusals.process_count", lambda: 2)
    with pytest.raises(ConfigError, match="brings its own processes"):
        api.run(data, tmp_path / "run", engine="ray", **OPTIONS)
    assert not (tmp_path / "run").exists()


class Killer(threading.Thread):
    """Ends a worker once an image is finished, and notes what was finished then."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.finished, self.killed = folder, {}, None

    def run(self):
        until = time.monotonic() + 300
        while time.monotonic() < until and self.killed is None:
            files = [path for path in self.folder.glob("*.npz") if not path.name.startswith(".")]
            workers = [
                process.pid
                for process in psutil.process_iter(["cmdline"])
                if (process.info["cmdline"] or [""])[0].startswith("ray::MapWorker")
            ]
            if files and workers:
                self.finished = {path: path.stat().st_mtime_ns for path in files}
                os.kill(workers[0], signal.SIGKILL)
                self.killed = workers[0]
            time.sleep(0.01)


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray")
    cluster._connect()
    yield found
    found.shutdown()


def test_a_worker_that_is_killed_loses_nothing(ray, alone, data, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_stages, "_LEAST", 2)
    out = tmp_path / "run"
    killer = Killer(out / "cams")
    killer.start()
    api.run(data, out, engine="ray", workers=2, **OPTIONS)
    killer.join()
    assert killer.killed is not None
    for path, written in killer.finished.items():
        assert path.stat().st_mtime_ns == written
    assert_same(out, alone)


class Bad:
    def __call__(self):
        return self.work

    def work(self, jobs):
        raise FileError("x.png", "image_damaged", "it is cut off", "replace it")


def test_an_image_that_a_worker_cannot_read(ray):
    with pytest.raises(FileError, match="it is cut off") as caught:
        list(cluster.map_on_ray(Bad(), [{"start": 0}], batch=1, workers=1))
    assert caught.value.kind == "image_damaged"
