import json
import os
import shutil
import time

import pytest

from weakseg.runs import contents as module
from weakseg.runs.contents import CONTENTS, Contents, catalog_digest, truth_digest
from weakseg.types import Catalog, DataError, RunError, Sample


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"data/{name}.jpg").write_bytes(f"image {name}".encode())
        (tmp_path / f"data/{name}.png").write_bytes(f"mask {name}".encode())
    return at(tmp_path / "data")


def at(folder, tags=(0, 1)):
    samples = (
        Sample(name, folder / f"{name}.jpg", frozenset({tag}), folder / f"{name}.png")
        for name, tag in zip("ab", tags, strict=True)
    )
    return Catalog(("cat", "dog"), tuple(samples))


@pytest.fixture
def read(monkeypatch):
    """The files that were read."""
    read, hashed = [], module._hashed

    def counted(path):
        read.append(path.name)
        return hashed(path)

    monkeypatch.setattr(module, "_hashed", counted)
    return read


def taken(catalog, path, *, save=True):
    contents = Contents(path)
    contents.take(catalog)
    if save:
        contents.save()
    return contents


@pytest.fixture
def kept(catalog, tmp_path, monkeypatch):
    """Hashes of files that were old already."""
    monkeypatch.setattr(module, "_NEW_SECONDS", -60)
    taken(catalog, tmp_path / CONTENTS)
    return tmp_path / CONTENTS


def test_files_are_read_once(catalog, kept, read):
    contents = taken(catalog, kept)
    assert read == []
    assert catalog_digest(catalog, contents) == catalog_digest(catalog)
    assert truth_digest(catalog, contents) == truth_digest(catalog)


def test_a_copy_is_read_and_is_the_same(catalog, kept, read, tmp_path):
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)
    copy = at(tmp_path / "copy")
    contents = taken(copy, kept)
    assert sorted(read) == ["a.jpg", "a.png", "b.jpg", "b.png"]
    assert contents.changes(copy, catalog) == {}
    assert catalog_digest(copy, contents) == catalog_digest(catalog)


def test_what_was_moved_is_not_read(catalog, kept, read, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    taken(at(tmp_path / "moved"), kept)
    assert read == []


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time of its own")
def test_other_content_of_the_same_size_and_time_is_found(catalog, kept):
    image = catalog["a"].image
    stat = image.stat()
    time.sleep(0.02)
    image.write_bytes(b"image c")
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    contents = taken(catalog, kept, save=False)
    assert contents.changes(catalog, catalog) == {
        "catalog": "other content of the image: 'a'",
    }


def test_what_changed_is_named(catalog, kept, tmp_path):
    (tmp_path / "data/b.png").write_bytes(b"drawn anew")
    now = Catalog(
        ("cat", "dog"),
        (*at(tmp_path / "data", tags=(1, 1)), Sample("c", tmp_path / "data/a.jpg", frozenset())),
    )
    contents = taken(now, kept, save=False)
    assert contents.changes(now, catalog) == {
        "catalog": "other tags: 'a'; new images: 'c'",
        "truth": "other content of the true mask: 'b'",
    }
    fewer = Catalog(("cat",), catalog.samples[:1])
    assert contents.changes(fewer, catalog) == {
        "catalog": "other classes: 'dog'; images not there any more: 'b'",
    }


def test_a_file_that_is_just_written_is_read_again(catalog, tmp_path, read):
    taken(catalog, tmp_path / CONTENTS)
    read.clear()
    taken(catalog, tmp_path / CONTENTS)
    assert len(read) == 4


@pytest.mark.parametrize("text", ["", "[]", '{"images": {"a": "b"}}', '{"images": [1]}'])
def test_damage_is_told(tmp_path, text):
    path = tmp_path / CONTENTS
    path.write_text(text)
    with pytest.raises(RunError, match=r"contents\.json.*remove it"):
        Contents(path)


def test_a_file_that_is_gone_is_named(catalog):
    catalog["b"].image.unlink()
    with pytest.raises(DataError, match=r"cannot read .*b\.jpg: No such file"):
        Contents().take(catalog)


def test_progress_counts_what_is_read(catalog):
    seen = []
    Contents().take(catalog, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_is_kept_is_plain_json(kept):
    record = json.loads(kept.read_text())
    assert sorted(record) == ["images", "masks"]
    assert sorted(record["images"]) == ["a", "b"]
