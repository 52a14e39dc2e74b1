"""Labelling by Ray's workers: the same masks, also when a worker is killed."""

import io
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import weakseg
from weakseg.apps import cluster
from weakseg.data.images import read_mask
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.processors import one_thread
from weakseg.types import ConfigError, RunError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray")
    cluster._connect()
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "model"
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none")
    settings = SegmenterSettings(channels=32)
    Segmenter(2, backbone, settings, class_names=("cat", "dog"), long_side=64).save_pretrained(
        folder
    )
    return folder


def pictures(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        yield Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path):
    for number, picture in enumerate(pictures(20)):
        path = tmp_path / "photos" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "tables"
    for shard in range(2):
        rows = []
        for number, picture in enumerate(pictures(4)):
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue() if number else b"", "path": None})
        path = folder / f"part-{shard}" / "train.parquet"
        path.parent.mkdir(parents=True)
        names = [f"{shard}/{number}" for number in range(4)]
        parquet.write_table(pa.table({"id": names, "image": rows}), path)
    return folder


def masks(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")
    }


def test_workers_make_the_masks_that_one_process_makes(ray, model, photos, tmp_path):
    plain = weakseg.label(model, [photos], tmp_path / "plain", device="cpu", precision="fp32")
    options = {"device": "cpu", "precision": "fp32", "engine": "ray", "workers": 2}
    shared = weakseg.label(model, [photos], tmp_path / "shared", **options)
    assert (shared.made, shared.kept) == (plain.made, plain.kept) == (20, 0)
    assert shared.bad == plain.bad
    assert len(shared.bad) == 1
    first, second = masks(tmp_path / "plain"), masks(tmp_path / "shared")
    assert first.keys() == second.keys()
    for name in first:
        same = read_mask(tmp_path / "plain" / name) == read_mask(tmp_path / "shared" / name)
        assert float(same.float().mean()) > 0.999  # batches of other sizes round otherwise
    # Either goes on where the other stopped.
    gone = sorted(first)[3]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").rglob("*.png")}
    (tmp_path / "shared" / gone).unlink()
    again = weakseg.label(model, [photos], tmp_path / "shared", **options)
    assert (again.made, again.kept) == (1, 19)
    kept = [path for path in times if path != tmp_path / "shared" / gone]
    assert all(path.stat().st_mtime_ns == times[path] for path in kept)
    assert (
        weakseg.label(model, [photos], tmp_path / "shared", device="cpu", precision="fp32").kept
        == 20
    )


@pytest.mark.parametrize("engine", ["here", "ray"])
def test_tables_of_images_become_tables_of_masks(request, engine, model, tables, tmp_path):
    if engine == "ray":
        request.getfixturevalue("ray")
    out = tmp_path / "out"
    options = {"device": "cpu", "engine": engine}
    summary = weakseg.label(model, [tables], out, **options)
    assert (summary.made, summary.kept, len(summary.bad)) == (6, 0, 2)
    assert "part-0/train.parquet: 0/0: " in str(summary.bad[0])
    for shard in range(2):
        path = out / f"part-{shard}" / "train.parquet"
        rows = parquet.read_table(path).to_pylist()
        assert [row["name"] for row in rows] == [f"{shard}/{number}" for number in range(4)]
        assert rows[0]["mask"] is None
        assert "empty" in rows[0]["fault"]
        for row in rows[1:]:
            assert row["fault"] is None
            assert Image.open(io.BytesIO(row["mask"])).size == (80, 60)
    (out / "part-1" / "train.parquet").unlink()
    again = weakseg.label(model, [tables], out, **options)
    assert (again.made, again.kept) == (3, 1)
    os.utime(tables / "part-0" / "train.parquet", (1, 1))
    assert weakseg.label(model, [tables], out, **options).kept == 1


@pytest.mark.parametrize("to", ["png", "parquet", "tar"])
def test_workers_make_the_shards_that_one_process_makes(ray, model, photos, tmp_path, to):
    (photos / "bad.jpg").unlink()
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(photos, ".")
    rows = [f"{path.stem},file://{path}" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(["name,url", *rows]))
    for source in ("s.tar", "list.csv"):
        given, options = [tmp_path / source], {"device": "cpu", "to": to}
        with one_thread():  # as workers
            plain = weakseg.label(model, given, tmp_path / "plain" / source, **options)
        options |= {"engine": "ray", "workers": 2}
        shared = weakseg.label(model, given, tmp_path / "shared" / source, **options)
        assert (shared.made, shared.bad) == (plain.made, ()) == (20, ())
        if source == "list.csv" and to == "png":  # batches of other sizes round otherwise
            continue
        files = [path for path in plain.out.rglob("*") if path.suffix in (".png", ".tar")]
        files += [] if to != "parquet" else list(plain.out.rglob("*.parquet"))
        assert files
        for path in files:
            other = shared.out / path.relative_to(plain.out)
            assert path.read_bytes() == other.read_bytes()


class Killed:
    """Doubles numbers; the process that gets the number 5 first is killed there."""

    def __init__(self, mark):
        self.mark = Path(mark)

    def __call__(self):
        return self.work

    def work(self, jobs):
        numbers = [job["number"] for job in jobs]
        if 5 in numbers and not self.mark.exists():
            self.mark.write_text("killed once")
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"number": 2 * number} for number in numbers]


def test_a_killed_worker_is_replaced_and_nothing_is_lost(ray, tmp_path):
    jobs = [{"number": number} for number in range(20)]
    results = list(cluster.map_on_ray(Killed(tmp_path / "mark"), jobs, batch=2, workers=2))
    assert (tmp_path / "mark").exists()
    assert sorted(result["number"] for result in results) == [2 * n for n in range(20)]


class Failing:
    def __call__(self):
        return self.work

    def work(self, jobs):
        raise RunError("the disk is full")


def test_a_workers_error_arrives_as_it_is(ray):
    with pytest.raises(RunError, match=r"^the disk is full$"):
        list(cluster.map_on_ray(Failing(), [{"number": 1}], batch=1, workers=1))


def test_without_ray(monkeypatch, model, photos, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    with pytest.raises(ConfigError, match=r"pip install 'weakseg\[ray\]'"):
        weakseg.label(model, [photos], tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
