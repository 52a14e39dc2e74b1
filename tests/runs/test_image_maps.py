"""The record of an image's maps: saved, loaded, and refused when damaged."""

import numpy as np
import pytest
import torch

from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.stage_dir import StageDir
from weakseg.types import RunError


@pytest.mark.parametrize("classes", [[], [0], [1, 4]])
def test_what_is_saved_is_loaded(tmp_path, classes):
    maps = {kind: torch.rand(len(classes), 5, 7) for kind in ("spotlight", "compensation")}
    kept = ImageMaps(torch.tensor(classes, dtype=torch.int64), (20, 28), maps, torch.rand(5, 7))
    kept.save(StageDir(tmp_path / "cams"), "sub/a")
    found = ImageMaps.load(tmp_path, "cams", "sub/a")
    assert found.classes.tolist() == classes
    assert found.size == (20, 28)
    assert set(found.maps) == set(maps)
    for kind, value in maps.items():
        assert torch.allclose(found.maps[kind], value, atol=1e-3)
        assert found.maps[kind].dtype == torch.float32
    assert torch.allclose(found.boundary, kept.boundary, atol=1e-3)


GOOD = {"classes": [0], "size": [4, 4], "spotlight": np.zeros((1, 2, 2), np.float16)}


@pytest.mark.parametrize(
    "change",
    [
        {"spotlight": np.full((1, 2, 2), 2.0)},
        {"spotlight": np.zeros((2, 2, 2))},
        {"spotlight": np.full((1, 2, 2), np.nan)},
        {"size": [4]},
        {"spotlight": None},
        {"classes": None},
    ],
)
def test_damage_is_named_with_the_remedy(tmp_path, change):
    arrays = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    (tmp_path / "cams").mkdir()
    np.savez(tmp_path / "cams" / "a.npz", **arrays)
    with pytest.raises(RunError, match=r"a\.npz is damaged.*done\.json"):
        ImageMaps.load(tmp_path, "cams", "a")
    with pytest.raises(RunError, match=r"b\.npz is missing"):
        ImageMaps.load(tmp_path, "cams", "b")
