"""What the readers of other tools' annotations share."""

from pathlib import Path

import pytest
from PIL import Image

from weakseg.sources import annotation_files
from weakseg.sources.annotation_files import (
    Tally,
    beside,
    best_listing,
    ends,
    exact,
    few_files,
    files_below,
    images_of,
    load_json,
    load_xml,
    xml_root,
)


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9)).save(path)
    return path


def test_files_below_are_sorted_and_visible(tmp_path):
    for name in ("b.XML", "a.xml", ".c.xml", "d.txt", "sub/a.xml", ".hidden/a.xml", "x.xml/a.xml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.xml").symlink_to(tmp_path / "self.xml")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, ".xml")]
    assert found == ["a.xml", "b.XML", "sub/a.xml", "x.xml/a.xml"]
    assert list(files_below(tmp_path / "nowhere", ".xml")) == []


def test_few_files_passes_over_those_of_single_images_where_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(annotation_files, "_FEW", 3)
    for name in "abc":
        (tmp_path / f"{name}.json").write_text("")
        photo(tmp_path / f"{name}.jpg")
    assert [path.name for path in few_files(tmp_path, ".json")] == ["a.json", "b.json", "c.json"]
    (tmp_path / "export.json").write_text("")
    assert [path.name for path in few_files(tmp_path, ".json")] == ["export.json"]
    assert few_files(None, ".json") == []


def test_ends_of_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a" * 70_000 + b"b" * 4096)
    assert ends(path) == b"a" * 65_536 + b"b" * 4096
    path.write_bytes(b"short")
    assert ends(path) == b"short"
    assert ends(tmp_path / "none") == b""


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "not JSON: Expecting property name"),
        (b"\xff\xfe\x00\x00\xff\xff", "not JSON that can be read (UnicodeDecodeError)"),
        ("[" * 100_000, "not JSON that can be read (RecursionError)"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_json_that_cannot_be_read(tmp_path, content, found):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    value, problem = load_json(path)
    assert value is None
    assert problem.startswith(found)


BOMB = '<!DOCTYPE b [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (BOMB + "<annotation>&b;</annotation>", "document type declaration"),
        ((BOMB + "<annotation/>").encode("utf-16"), "document type declaration"),
        (f"<!-- {' ' * 200_000} -->{BOMB}<annotation/>", "document type declaration"),
        ("<annotation>", "not XML that can be read"),
        ("<annotation>&b;</annotation>", "not XML that can be read"),
        ("", "not XML that can be read"),
        ("<?xml version='1.0' encoding='nonsense'?><annotation/>", "not XML that can be read"),
        (None, "cannot be read"),
    ],
)
def test_xml_that_cannot_be_read(tmp_path, content, found):
    path = tmp_path / "x.xml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    root, problem = load_xml(path)
    assert root is None
    assert found in problem


def test_xml_that_can(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text("\ufeff<?xml version='1.0'?><!-- made by hand --><annotation a='1'/>")
    assert xml_root(path) == ("annotation", "")
    root, problem = load_xml(path)
    assert (root.get("a"), problem) == ("1", "")


def test_faults_of_many_files_are_told_once():
    tally = Tally()
    for number in range(3):
        tally.add("annotation", Path(f"{number}.xml"), f"torn {number}", "fix", f"s{number}")
    tally.add("annotation", Path("n.xml"), "odd", "fix", severity="note", line=4)
    first, second = tally.faults()
    assert str(first) == "0.xml: torn 0 (and 2 more like this); fix"
    assert first.samples == ("s0", "s1", "s2")
    assert (str(second), second.severity) == ("n.xml:4: odd; fix", "note")


def test_where_an_image_may_be():
    names = beside(Path("s/train/labels/sub/a.xml"), Path("s"))
    assert names[0] == "train/labels/sub/a"
    assert {"train/images/sub/a", "train/sub/a"} <= set(names)
    assert beside(Path("s/a.2020.xml"), Path("s")) == ["a.2020"]


def test_listings_and_names(tmp_path):
    for name in ("images/a.jpg", "images/sub/b.JPG", "images/c.jpg", "images/c.png", "x/d.jpg"):
        photo(tmp_path / name)
    listing = best_listing(tmp_path, [["a.jpg"], ["images/sub/b"]])
    assert listing.root.name == "images"
    assert [path.name for path in exact(listing, "images/sub/b.jpg")] == ["b.JPG"]
    assert len(exact(listing, "c")) == 2
    assert [path.name for path in exact(listing, "c.png")] == ["c.png"]
    assert exact(listing, "b") == []
    sample_id, found, missing = images_of(listing, ["labels/c", "images/c"])
    assert (sample_id, len(found), missing) == ("c", 2, None)
    sample_id, found, missing = images_of(listing, ["gone"], "C:/photos/b.jpg")
    assert (sample_id, len(found), missing) == ("sub/b", 1, None)
    assert listing.elsewhere == {"C:/photos/b.jpg": tmp_path / "images/sub/b.JPG"}
    sample_id, found, missing = images_of(listing, ["labels/sub/gone", "sub/gone"])
    assert (sample_id, found) == ("sub/gone", [])
    assert missing is not None
    assert best_listing(tmp_path, [["x/d.jpg"], ["images/a.jpg"]]).root == tmp_path
