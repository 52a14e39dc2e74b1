import pytest

from weakseg.apps.mask_shards import MaskRow, writing_masks
from weakseg.runs import image_files
from weakseg.runs.image_files import (
    LAYOUT,
    image_file,
    needs_shard_folders,
    relative_file,
    without_shard,
)
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, DataError, Sample


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(image_files, "MOST_FILES", 3)


def catalog(tmp_path, *ids):
    return Catalog(("cat",), tuple(Sample(i, tmp_path / f"{i}.jpg", frozenset({0})) for i in ids))


def test_each_folder_counts_by_itself(few):
    assert not needs_shard_folders(["a", "b", "c", "x/a", "x/b", "x/c"])
    assert needs_shard_folders(["a", "x/a", "x/b", "x/c", "x/d"])
    assert not needs_shard_folders([])


def test_a_million_ids_are_spread_evenly():
    folders = {}
    for number in range(40_960):
        name = relative_file(f"images/{number:07}", ".png", shards=True)
        assert without_shard(name) == f"images/{number:07}.png"
        folder = name.partition("/")[0]
        folders[folder] = folders.get(folder, 0) + 1
    assert 4000 < len(folders) <= 4096
    assert max(folders.values()) < 40


def test_names_that_look_like_shard_folders_are_no_trouble():
    assert relative_file("shard-000/a", ".png", shards=False) == "shard-000/a.png"
    name = relative_file("shard-000/a", ".png", shards=True)
    assert without_shard(name) == "shard-000/a.png"


def test_a_run_decides_when_it_begins(few, tmp_path):
    small, large = RunDir(tmp_path / "small"), RunDir(tmp_path / "large")
    small.save_catalog(catalog(tmp_path, "a", "b", "c"), source=tmp_path)
    large.save_catalog(catalog(tmp_path, "a", "b", "c", "d"), source=tmp_path)
    assert image_file(small.path, "masks", "a", ".png") == small.path / "masks" / "a.png"
    expected = large.path / "masks" / relative_file("a", ".png", shards=True)
    assert image_file(large.path, "masks", "a", ".png") == expected
    # Neither changes when images come or go.
    small.open_stage("cams", {"version": 1})
    small.save_catalog(catalog(tmp_path, *"abcde"), source=tmp_path)
    assert not (small.path / LAYOUT).exists()
    large.open_stage("cams", {"version": 1})
    large.save_catalog(catalog(tmp_path, "a"), source=tmp_path)
    assert image_file(large.path, "masks", "a", ".png") == expected
    assert large.open_stage("masks", {"version": 1}).image_file("a", ".png") == expected
    RunDir(tmp_path / "large").create()  # it is still known to be a run


def test_a_shard_of_pngs_that_is_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("weakseg.apps.mask_shards.MOST_FILES", 2)
    rows = [MaskRow(str(n), str(n), b"png", None) for n in range(3)]

    def write(kind):
        with writing_masks(tmp_path, "s", kind, {}) as add:
            for row in rows:
                add(row)

    with pytest.raises(DataError, match=r"more than 2 images of one folder; give --to tar"):
        write("png")
    assert not (tmp_path / "s.jsonl").exists()
    write("tar")
    assert (tmp_path / "s.tar").is_file()
