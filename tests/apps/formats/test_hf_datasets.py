import importlib.util
import json

import datasets
import numpy as np
import pytest

from weakseg.apps.formats import hf_datasets
from weakseg.types import ConfigError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("how", ["folder", "parquet"])
def test_datasets_reads_images_masks_and_tags(finished, how):
    out = finished.export("hf-datasets").path
    if how == "folder":
        found = datasets.load_dataset(str(out), split="train")
    else:
        files = [str(path) for path in sorted((out / "data").iterdir())]
        found = datasets.load_dataset("parquet", data_files=files, split="train")
    assert type(found.features["image"]) is type(found.features["mask"]) is datasets.Image
    assert found["id"][:] == finished.keys
    for row in found:
        key = row["id"]
        assert row["mask"].mode == "L"
        np.testing.assert_array_equal(np.asarray(row["mask"]), finished.labels(key))
        assert row["image"].size == row["mask"].size
        assert set(row["tags"]) == finished.tags(key)
        if key != finished.turned:
            np.testing.assert_array_equal(np.asarray(row["image"]), finished.image(key))
    names = json.loads((out / "id2label.json").read_text("utf-8"))
    assert names == {"0": "background", "1": "dog", "2": "big cat", "3": "Löwe"}


def test_many_rows_become_several_files(finished, monkeypatch):
    monkeypatch.setattr(hf_datasets, "_GROUP_BYTES", 1)
    monkeypatch.setattr(hf_datasets, "_SHARD_BYTES", 1)
    out = finished.export("hf-datasets").path
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        f"train-0000{number}-of-00004.parquet" for number in range(4)
    ]
    assert len(datasets.load_dataset(str(out), split="train")) == 4


def test_the_extra_is_named(finished, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        hf_datasets.importlib.util, "find_spec", lambda n: None if n == "pyarrow" else find(n)
    )
    with pytest.raises(ConfigError, match=r"needs pyarrow; pip install 'weakseg\[parquet\]'"):
        finished.export("hf-datasets")
    assert not (finished.photos.parent / "out").exists()
