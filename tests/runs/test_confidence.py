import numpy as np
import pytest
import torch
from torch.nn import functional

from weakseg.config.run_config import load_config
from weakseg.runs.confidence import mask_confidences
from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.types import Catalog, RunError

BARE = ("spread.prototypes=false", "spread.spreading=false", "evidence.images=0")


def context(run, *overrides):
    config = load_config("fast", overrides=[*BARE, *(overrides or ("refine.kind=none",))])
    return StageContext.silent(config, Catalog((), ()), RunDir(run), StageDir(run))


def save(run, stage="cams", **arrays):
    (run / stage / "sub").mkdir(parents=True, exist_ok=True)
    np.savez(run / stage / "sub" / "a.npz", size=np.array([20, 30]), **arrays)


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((2, 2, 5, 8)).astype(np.float16)


def slow(map_, labels, index):
    full = functional.interpolate(
        torch.from_numpy(map_)[None, None].float(), labels.shape, mode="bilinear"
    )[0, 0]
    values = [
        float(full[y, x])
        for y in range(labels.shape[0])
        for x in range(labels.shape[1])
        if labels[y, x] == index
    ]
    return sum(values) / len(values)


def test_is_the_mean_of_the_weighted_map_inside_the_mask(tmp_path, maps):
    classes = np.array([1, 4])
    save(tmp_path, "weigh", classes=classes, compensation=maps[0], weighted=maps[1])
    labels = torch.zeros(20, 30, dtype=torch.uint8)
    labels[3:9, 4:20], labels[10:, 2:7], labels[0, 0] = 2, 5, 3
    found = mask_confidences(context(tmp_path), "sub/a", labels)
    assert sorted(found) == [2, 5]
    for place, index in enumerate((2, 5)):
        expected = slow(maps[1, place], labels, index)
        assert found[index] == pytest.approx(expected, abs=1e-5)
        assert 0 < found[index] < 1


def test_a_plain_networks_only_map_is_taken_and_classes_without_pixels_have_none(tmp_path, maps):
    save(tmp_path, classes=np.array([0, 1]), spotlight=maps[0])
    labels = torch.zeros(20, 30, dtype=torch.uint8)
    labels[5:9] = 1
    found = mask_confidences(
        context(tmp_path, "refine.kind=none", "amr.compensation=false"), "sub/a", labels
    )
    assert found == {1: pytest.approx(slow(maps[0, 0], labels, 1), abs=1e-5)}


def test_missing_maps_are_named(tmp_path):
    with pytest.raises(RunError, match=r"weigh/a\.npz is missing"):
        mask_confidences(context(tmp_path), "a", torch.zeros(2, 2, dtype=torch.uint8))


def test_walked_maps_are_taken_where_masks_are_made_of_them(tmp_path, maps):
    save(tmp_path, classes=np.array([1, 4]), spotlight=maps[0])
    (tmp_path / "walk" / "sub").mkdir(parents=True)
    np.savez(
        tmp_path / "walk" / "sub" / "a.npz",
        classes=np.array([1, 4]),
        size=np.array([20, 30]),
        walk=maps[1],
        boundary=maps[0, 0],
    )
    labels = torch.full((20, 30), 2, dtype=torch.uint8)
    found = mask_confidences(context(tmp_path, "refine.kind=irn"), "sub/a", labels)
    assert found == {2: pytest.approx(slow(maps[1, 0], labels, 2), abs=1e-5)}
