"""File and class names that are no clean text are faults with their place, never a crash."""

import json
import os
import sys

import pytest
from PIL import Image

from weakseg.faults import printable
from weakseg.sources.check import check_catalog
from weakseg.sources.source import open_catalog

LATIN = b"caf\xe9.jpg"


def photo(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (shade, 60, 90)).save(path)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "photos"
    for shade, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        photo(folder / name, 40 * shade)
    (folder / "labels.csv").write_text("image,tags\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\n")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize(
    "name", [LATIN, b"new\nline.jpg", b"\x1b[31mred.jpg", b"a\\b.jpg", b"C:d.jpg"]
)
def test_file_names(source, name):
    path = os.path.join(os.fsencode(source), name)  # noqa: PTH118
    os.rename(os.fsencode(source / "c.jpg"), path)  # noqa: PTH104
    report = check_catalog(source)
    fault = next(fault for fault in report.faults if fault.kind == "image_name")
    assert "rename the file" in fault.remedy
    assert str(fault).isprintable()
    json.loads(report.model_dump_json())
    assert [sample.id for sample in open_catalog(source)] == ["a", "b"]


def test_a_loop_of_links(source):
    (source / "loop").symlink_to(source, target_is_directory=True)
    (source / "self.jpg").symlink_to(source / "self.jpg")
    report = check_catalog(source)
    assert {"path_leaves"} <= {fault.kind for fault in (*report.faults, *report.notes)}
    assert len(open_catalog(source)) == 3


def test_an_image_beside_a_folder_of_its_name(source):
    photo(source / "a.png" / "d.jpg", 200)
    assert [sample.id for sample in open_catalog(source)] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["cat\ud800", "cat\x1b[31m", "cat\u2028dog", "cat\x0bdog"])
def test_class_names(source, name):
    rows = [{"image": "a.jpg", "tags": [name]}, {"image": "b.jpg", "tags": ["dog"]}]
    rows += [{"image": "c.jpg", "tags": [name, "dog"]}]
    (source / "labels.csv").unlink()
    (source / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = check_catalog(source)
    fault = next(fault for fault in report.faults if fault.kind == "tag_characters")
    assert str(fault).isprintable()
    json.loads(report.model_dump_json())
    assert open_catalog(source).classes == ("dog",)


def test_printable_escapes_what_harms():
    assert printable("caf\udce9 \x1b[31m \u2028 ok\n") == "caf\\xe9 \\x1b[31m \\u2028 ok\\n"
