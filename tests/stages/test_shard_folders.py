"""Runs and labels of more images than one folder should hold: the same files, in shard folders."""

import json

import pytest

import weakseg
from smallest import SMALLEST
from weakseg import api
from weakseg.demo_data.data_set import write_demo
from weakseg.runs import image_files
from weakseg.runs.image_files import LAYOUT, without_shard
from weakseg.runs.review_dir import ReviewDir
from weakseg.stages import segment

SET = (*SMALLEST, "segment.rounds=2", "precision=fp32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "data"
    write_demo(folder, count=8, seed=1)
    return folder


@pytest.fixture(scope="module")
def usual(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "usual"
    return api.run(data, out, preset="fast", overrides=SET).run


@pytest.fixture(scope="module")
def sharded(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "sharded"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_files, "MOST_FILES", 5)
        return api.run(data, out, preset="fast", overrides=SET).run


def files(run, suffix):
    shards = (run / LAYOUT).is_file()
    found = {}
    for path in sorted(run.rglob(f"*{suffix}")):
        stage, _, rest = path.relative_to(run).as_posix().partition("/")
        rest = rest.removeprefix("round-1/").removeprefix("labels/")
        found[f"{stage}/{without_shard(rest) if shards else rest}"] = path.read_bytes()
    return found


@pytest.mark.parametrize("suffix", [".png", ".npz"])
def test_all_files_of_images_are_the_same_elsewhere(usual, sharded, suffix):
    assert not (usual / LAYOUT).exists()
    assert (sharded / LAYOUT).is_file()
    assert files(sharded, suffix) == files(usual, suffix)
    for path in sharded.rglob(f"*{suffix}"):
        assert any(part.startswith("shard-") for part in path.relative_to(sharded).parts)


def test_a_second_call_does_nothing(data, sharded):
    before = {path: path.stat().st_mtime_ns for path in sharded.rglob("*.png")}
    assert all(s.skipped for s in api.run(data, sharded, preset="fast", overrides=SET).stages)
    assert {path: path.stat().st_mtime_ns for path in sharded.rglob("*.png")} == before


def test_what_reads_a_run_reads_both(usual, sharded, data, tmp_path):
    scores = [api.evaluate(run / "masks", data / "masks").mean_iou for run in (usual, sharded)]
    assert scores[0] == scores[1]
    exports = [tmp_path / "usual.json", tmp_path / "sharded.json"]
    for run, out in zip((usual, sharded), exports, strict=True):
        api.export(run, to="coco", out=out)
        assert [stage.state for stage in api.status(run).stages].count("done") > 10
    assert json.loads(exports[0].read_text()) == json.loads(exports[1].read_text())
    assert '"shard-' in api.report(sharded).read_text("utf-8")
    assert '"shard-' not in api.report(usual).read_text("utf-8")


def test_reviews_lie_in_shard_folders_too(sharded):
    sample = json.loads((sharded / "catalog.json").read_text())["samples"][0]
    reviews = ReviewDir(sharded, json.loads((sharded / "catalog.json").read_text())["classes"])
    mask = segment.read_mask(image_files.image_file(sharded, "masks", sample["id"], ".png"))
    reviews.change(sample["id"], None, lambda: (sample["tags"], mask), who="ann", action="accept")
    assert list(reviews.ids()) == [sample["id"]]
    assert next((sharded / "review" / "entries").glob("shard-*"))


def test_labels_of_very_many_images(usual, data, tmp_path, monkeypatch):
    options = {"device": "cpu", "precision": "fp32"}
    plain = weakseg.label(usual, [data / "images"], tmp_path / "plain", **options).out
    monkeypatch.setattr(image_files, "MOST_FILES", 5)
    many = weakseg.label(usual, [data / "images"], tmp_path / "many", **options)
    assert many.made == 8
    assert not list(many.out.glob("*.png"))
    found = {
        without_shard(path.relative_to(many.out).as_posix()): path.read_bytes()
        for path in many.out.rglob("*.png")
    }
    assert found == {path.name: path.read_bytes() for path in plain.rglob("*.png")}
    assert weakseg.label(usual, [data / "images"], many.out, **options).kept == 8
    # A folder that began without goes on without.
    assert weakseg.label(usual, [data / "images"], plain, **options).kept == 8
