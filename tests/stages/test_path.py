"""The whole path on a handful of generated pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from weakseg import api
from weakseg.data.demo import write_demo
from weakseg.data.images import image_size, read_mask
from weakseg.stages.masks import map_kinds

SET = (
    "fit.epochs=1",
    "fit.batch_size=4",
    "fit.workers=0",
    "augment.crop=64",
    "augment.long_side=[64, 80]",
    "cams.long_side=96",
    "cams.scales=[1.0]",
    "device=cpu",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("path") / "data"
    write_demo(folder, count=12, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("path") / "run"
    return api.run(data, out, preset="fast", until="evaluate", overrides=SET)


def images_of(run):
    catalog = json.loads((run.run / "catalog.json").read_text())
    return catalog["classes"], catalog["samples"]


def test_every_image_gets_a_mask_of_its_size_within_its_tags(run):
    classes, samples = images_of(run)
    assert len(samples) == 12
    for sample in samples:
        mask = read_mask(run.run / "masks" / f"{sample['id']}.png")
        assert tuple(mask.shape) == image_size(Path(sample["image"]))
        assert set(mask.unique().tolist()) <= {0, *(classes.index(t) + 1 for t in sample["tags"])}


def test_maps_are_half_floats_at_stride_4_of_the_tags_alone(run):
    classes, samples = images_of(run)
    for sample in samples:
        with np.load(run.run / "cams" / f"{sample['id']}.npz") as file:
            assert [classes[k] for k in file["classes"]] == sorted(
                sample["tags"], key=classes.index
            )
            height, width = file["size"]
            assert (height, width) == image_size(Path(sample["image"]))
            for branch in ("spotlight", "compensation"):
                maps = file[branch]
                assert maps.dtype == np.float16
                assert maps.shape[0] == len(sample["tags"])
                assert max(maps.shape[1:]) == 24
                assert float(maps.max(initial=0)) <= 1


def test_scores_are_written(run):
    metrics = json.loads((run.run / "evaluate" / "metrics.json").read_text())
    assert set(metrics["maps"]) == {"spotlight", "compensation", "weighted"}
    for kind in metrics["maps"].values():
        assert kind["oracle"]["mean_iou"] >= kind["blind"]["mean_iou"]
    weighted = metrics["maps"]["weighted"]["blind"]["mean_iou"]
    assert metrics["masks"]["mean_iou"] == pytest.approx(weighted, abs=1e-6)


def test_a_finished_run_does_nothing_again(run, data):
    again = api.run(data, run.run, preset="fast", until="evaluate", overrides=SET)
    assert all(stage.skipped for stage in again.stages)


def test_missing_maps_alone_are_made_again_and_are_the_same(run, data):
    stage = run.run / "cams"
    files = sorted(stage.rglob("*.npz"))
    before = {file: np.load(file)["spotlight"] for file in files}
    times = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    (stage / "done.json").unlink()
    api.run(data, run.run, preset="fast", until="evaluate", overrides=SET)
    assert all(file.stat().st_mtime_ns == times[file] for file in files[1:])
    np.testing.assert_allclose(np.load(files[0])["spotlight"], before[files[0]], atol=2e-3)


def test_a_plain_network_has_the_spotlight_alone(data, tmp_path):
    plain = api.run(
        data,
        tmp_path / "plain",
        preset="fast",
        until="evaluate",
        overrides=(*SET, "amr.compensation=false"),
    )
    assert plain["masks"].summary["maps"] == "spotlight"
    assert set(plain["masks"].summary["thresholds"]) == {"spotlight"}


def test_a_fixed_threshold_is_taken_as_it_is(data, run):
    fixed = api.run(
        data,
        run.run,
        preset="fast",
        until="evaluate",
        overrides=(*SET, "masks.threshold=0.77"),
        force=True,
    )
    assert [stage.skipped for stage in fixed.stages[:2]] == [True, True]
    assert fixed["masks"].summary["thresholds"]["weighted"] == 0.77


def test_map_kinds_of_one_branch():
    kept = {"spotlight": torch.rand(1, 4, 4)}
    assert set(map_kinds(None, kept)) == {"spotlight"}
