import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from weakseg.faults import FAULT_KINDS, Fault
from weakseg.sources import check
from weakseg.sources.check import skip_bad
from weakseg.sources.class_counts import COUNT_KINDS
from weakseg.sources.source import open_catalog
from weakseg.types import DataError


def check_catalog(*arguments, **options):
    """What is found but for the numbers of images, which are small here and tested apart."""
    return check.check_catalog(*arguments, **options).without(*COUNT_KINDS)


def photo(path, seed=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def make(root, rows, *, classes=None, header="image,tags"):
    """A folder with a tags file; every image that is named by a plain name exists."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, row in enumerate(rows):
        name = row.split(",")[0]
        if name.endswith(".jpg") and "/" not in name and not (root / name).exists():
            photo(root / name, seed)
    (root / "labels.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    if classes:
        (root / "classes.txt").write_text("\n".join(classes) + "\n")
    return root


GOOD = ["a.jpg,cat", "b.jpg,cat horse", "c.jpg,horse", "d.jpg,"]


def only(report, kind):
    [fault] = [fault for fault in report.faults if fault.kind == kind]
    assert fault.remedy
    assert Path(fault.file).is_absolute()
    return fault


def test_a_good_folder(tmp_path):
    report = check_catalog(make(tmp_path, GOOD))
    assert report.ok
    assert report.faults == report.notes == report.bad == report.doubtful == ()
    assert report.fingerprint.classes == ("cat", "horse")
    assert report.fingerprint.cooccurrence == ((2, 1), (1, 2))
    assert report.fingerprint.untagged == 1
    assert report.fingerprint.aspect.median == pytest.approx(4 / 3, abs=1e-3)


def test_a_hand_written_file_with_typos(tmp_path):
    rows = [
        *GOOD,
        "e.jpg,Cat",  # 6
        "f.jpg,hrose",  # 7
        "missing.jpg,cat",  # 8 (made below to be missing)
        "a.jpg,cat",  # 9
        "g.jpg,cat ,",  # 10
        "../h.jpg,cat",  # 11
        "i.jpg,cat  horse",  # 12
    ]
    make(tmp_path, rows)
    (tmp_path / "missing.jpg").rename(tmp_path / "Missing.jpg")
    report = check_catalog(tmp_path)
    assert [(f.kind, f.line) for f in report.faults] == [
        ("tag_spelling", 6),
        ("tag_once", 7),
        ("image_missing", 8),
        ("duplicate_row", 9),
        ("row", 10),
        ("path_leaves", 11),
    ]
    assert ("tag_blanks", 12) in [(note.kind, note.line) for note in report.notes]
    by_kind = {fault.kind: fault for fault in report.faults}
    assert "did you mean 'horse'?" in by_kind["tag_once"].remedy
    assert by_kind["tag_spelling"].remedy == "write 'cat'"
    assert "did you mean 'Missing.jpg'?" in by_kind["image_missing"].remedy
    assert report.bad == ("../h", "e", "f", "g", "missing")
    catalog, skipped = skip_bad(open_catalog(tmp_path), report)
    assert skipped == ["../h", "e", "f", "g", "missing"]
    assert catalog.classes == ("cat", "horse")
    assert [sample.id for sample in catalog] == ["a", "b", "c", "d", "i"]
    assert [len(sample.tags) for sample in catalog] == [1, 2, 1, 0, 2]


@pytest.mark.parametrize(
    ("spelt", "usual"),
    [("Cat", "cat"), ("CAT", "cat"), ("c\u200bat", "cat"), ("ＣＡＴ", "cat")],
)
def test_the_rarer_spelling_is_the_bad_one(tmp_path, spelt, usual):
    rows = ["a.jpg,cat", "b.jpg,cat", "c.jpg,cat", f"e.jpg,{spelt}", f"f.jpg,{spelt}"]
    fault = only(check_catalog(make(tmp_path / "x", rows)), "tag_spelling")
    assert fault.samples == ("e", "f")
    assert fault.line == 5
    assert "line 6" in fault.found
    assert fault.remedy == f"write {usual!r}"
    swapped = [row.replace("cat", "?").replace(spelt, usual).replace("?", spelt) for row in rows]
    fault = only(check_catalog(make(tmp_path / "y", swapped)), "tag_spelling")
    assert fault.remedy == f"write {spelt!r}"


def test_declared_spelling_wins_however_rare(tmp_path):
    rows = ["a.jpg,Cat", "b.jpg,Cat", "c.jpg,cat"]
    report = check_catalog(make(tmp_path, rows, classes=["cat"]))
    assert only(report, "tag_spelling").samples == ("a", "b")


def test_blanks_inside_of_a_name_are_read_alike(tmp_path):
    rows = ["a.jpg,traffic light;cat", "b.jpg,cat;traffic light", "c.jpg,traffic  light;cat"]
    report = check_catalog(make(tmp_path, [*rows, "d.jpg,cat"]))
    assert report.ok
    assert report.fingerprint.counts == {"cat": 4, "traffic light": 3}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a.jpg,traffic light", "b.jpg,traffic light dog", "c.jpg,dog"], ["traffic light"]),
        (["a.jpg,new york city", "b.jpg,new york city", "c.jpg,dog"], ["new york city"]),
        (["a.jpg,traffic light", "b.jpg,light traffic", "c.jpg,dog"], []),
        (["a.jpg,traffic light", "b.jpg,traffic light", "c.jpg,light"], []),
        (["a.jpg,traffic light", "b.jpg,traffic dog light", "c.jpg,dog"], []),
        (["a.jpg,traffic;light", "b.jpg,traffic;light", "c.jpg,dog"], []),
        (["a.jpg,traffic light", "c.jpg,dog"], []),
    ],
)
def test_words_that_occur_only_together_are_noted(tmp_path, rows, words):
    report = check_catalog(make(tmp_path, rows))
    notes = [note for note in report.notes if note.kind == "tag_words"]
    assert [note.remedy.split("'")[1] for note in notes] == [f"{word};" for word in words]


@pytest.mark.parametrize(
    "tag", ["nan", "None", "null", "NA", "N/A", "<NA>", "background", "_background_"]
)
def test_what_programs_write_for_nothing_is_no_class(tmp_path, tag):
    rows = [*GOOD, f"e.jpg,{tag}", f"f.jpg,{tag}"]
    report = check_catalog(make(tmp_path, rows))
    fault = only(report, "tag_reserved")
    assert fault.samples == ("e", "f")
    assert "empty" in fault.remedy
    assert open_catalog(tmp_path).classes == ("cat", "horse")
    declared = check_catalog(make(tmp_path, rows, classes=["cat", "horse", tag]))
    assert declared.ok


@pytest.mark.parametrize("tag", ["[cat", "cat]", "'cat'", '"cat"', "{cat"])
def test_signs_of_lists_and_quotes_are_faults(tmp_path, tag):
    rows = [*GOOD, f"e.jpg;{tag}", f"f.jpg;{tag}"]
    rows = [row.replace(",", ";") for row in rows]
    quoted = tag.replace('"', '""')
    rows = [row.replace(tag, f'"{quoted}"') if '"' in tag else row for row in rows]
    make(tmp_path, [], header="image;tags")
    for seed, row in enumerate(rows):
        photo(tmp_path / row.split(";")[0], seed)
    (tmp_path / "labels.csv").write_text("\n".join(["image;tags", *rows, ""]))
    assert only(check_catalog(tmp_path), "tag_characters").samples == ("e", "f")
    assert open_catalog(tmp_path).classes == ("cat", "horse")


def test_a_name_of_two_words_without_semicolon(tmp_path):
    rows = ["a.jpg,traffic light;cat", "b.jpg,traffic light;cat", "c.jpg,traffic light"]
    report = check_catalog(make(tmp_path, rows, classes=["cat", "traffic light"]))
    fault = only(report, "tag_blanks")
    assert (fault.line, fault.samples) == (4, ("c",))
    assert "'traffic light;'" in fault.remedy


def test_unknown_tags(tmp_path):
    report = check_catalog(
        make(tmp_path, [*GOOD, "e.jpg,hrose cat", "f.jpg,hrose"], classes=["cat", "horse"])
    )
    fault = only(report, "tag_unknown")
    assert fault.samples == ("e", "f")
    assert "did you mean 'horse'?" in fault.remedy
    catalog, skipped = skip_bad(open_catalog(tmp_path), report)
    assert skipped == ["e", "f"]
    assert catalog.classes == ("cat", "horse")


def test_a_tag_seen_once_is_right_if_declared(tmp_path):
    rows = [*GOOD, "e.jpg,zebra"]
    assert only(check_catalog(make(tmp_path / "x", rows)), "tag_once").samples == ("e",)
    assert check_catalog(make(tmp_path / "y", rows, classes=["cat", "horse", "zebra"])).ok


def test_background_is_no_tag(tmp_path):
    rows = [*GOOD, "e.jpg,background", "f.jpg,background"]
    assert only(check_catalog(make(tmp_path, rows)), "tag_reserved").samples == ("e", "f")


def test_a_class_nobody_has(tmp_path):
    report = check_catalog(make(tmp_path, GOOD, classes=["cat", "horse", "wolf"]))
    assert "'wolf'" in only(report, "class_unused").found
    wide = ["a.jpg,1,0,0", "b.jpg,1,1,0", "c.jpg,0,1,0"]
    report = check_catalog(make(tmp_path / "wide", wide, header="image,cat,dog,wolf"))
    assert "'wolf'" in only(report, "class_unused").found


def test_a_class_the_split_lacks_is_a_note(tmp_path):
    make(tmp_path, GOOD)
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nd\nzz\na\n")
    report = check_catalog(tmp_path, split="train")
    assert [(fault.kind, fault.line) for fault in report.faults] == [("split", 3)]
    assert [note.kind for note in report.notes] == ["class_unused", "split"]
    assert report.fingerprint.images == 2


def test_faults_outside_of_the_split_do_not_count(tmp_path):
    make(tmp_path, [*GOOD, "e.jpg,hrose", "f.jpg,cat"])
    (tmp_path / "f.jpg").write_bytes(b"")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, ids in {"good": "a b c d", "bad": "a b c e f"}.items():
        path = tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.write_text(ids.replace(" ", "\n"))
    assert check_catalog(tmp_path, split="good").ok
    assert check_catalog(tmp_path, split="bad").bad == ("e", "f")


def test_duplicate_rows(tmp_path):
    report = check_catalog(make(tmp_path / "same", [*GOOD, "b.jpg,horse cat"]))
    fault = only(report, "duplicate_row")
    assert (fault.line, fault.samples) == (6, ())
    report = check_catalog(make(tmp_path / "other", [*GOOD, "b,cat"]))
    fault = only(report, "duplicate_row")
    assert (fault.line, fault.samples) == (6, ("b",))
    assert "other tags" in fault.found


def test_duplicate_content(tmp_path):
    make(tmp_path, [*GOOD, "e.jpg,cat", "f.jpg,horse"])
    for name in ("e", "f"):
        (tmp_path / f"{name}.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    faults = [f for f in check_catalog(tmp_path).faults if f.kind == "duplicate_content"]
    assert [fault.samples for fault in faults] == [("a", "e"), ("a", "f")]
    assert "other tags (horse – cat)" in faults[1].found
    make(tmp_path / "alike", GOOD)
    (tmp_path / "alike" / "e.jpg").write_bytes((tmp_path / "alike" / "a.jpg").read_bytes())
    make(tmp_path / "alike", [*GOOD, "e.jpg,cat"])
    report = check_catalog(tmp_path / "alike")
    assert report.ok
    [note] = [note for note in report.notes if note.kind == "duplicate_content"]
    assert (note.samples, Path(note.file).name) == ((), "e.jpg")


def test_duplicate_content_with_other_truth(tmp_path):
    make(tmp_path, [*GOOD, "e.jpg,cat"])
    (tmp_path / "e.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "masks").mkdir()
    for name, value in (("a", 1), ("e", 0)):
        Image.new("L", (40, 30), value).save(tmp_path / "masks" / f"{name}.png")
    assert only(check_catalog(tmp_path), "duplicate_content").samples == ("a", "e")
    Image.new("L", (40, 30), 1).save(tmp_path / "masks" / "e.png")
    assert check_catalog(tmp_path).ok


def test_duplicate_names(tmp_path):
    make(tmp_path, [*GOOD, "a.png,cat"])
    photo(tmp_path / "a.png", 9)
    assert only(check_catalog(tmp_path), "duplicate_name").samples == ("a",)
    assert len(open_catalog(tmp_path)) == 4


def test_names_that_differ_in_case_only_are_noted(tmp_path):
    make(tmp_path, [*GOOD, "A.jpg,cat"])
    if len(list(tmp_path.glob("*.jpg"))) < 5:
        pytest.skip("this file system has no case")
    report = check_catalog(tmp_path)
    assert [note.kind for note in report.notes] == ["duplicate_name"]


def test_encodings(tmp_path):
    make(tmp_path, GOOD)
    content = (tmp_path / "labels.csv").read_bytes()
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    report = check_catalog(tmp_path)
    assert report.ok
    assert [note.kind for note in report.notes] == ["encoding", "encoding"]
    path.write_bytes(content.decode().encode("utf-16"))
    assert "UTF-16" in only(check_catalog(tmp_path), "encoding").found
    path.write_bytes(content.replace(b"d.jpg,", b"d.jpg,\xe9"))
    fault = only(check_catalog(tmp_path), "encoding")
    assert (fault.line, fault.samples) == (5, ("d",))


def test_images_nobody_names_are_noted(tmp_path):
    make(tmp_path, GOOD)
    photo(tmp_path / "extra.png", 11)
    photo(tmp_path / "._a.jpg", 12)
    report = check_catalog(tmp_path)
    assert report.ok
    [note] = report.notes
    assert note.kind == "image_unnamed"
    assert note.found.startswith("1 image that")
    assert "'extra'" in note.found


def test_all_ways_an_image_can_be_broken(tmp_path):
    rows = [f"{name}.jpg,cat" for name in ("empty", "cut", "text", "bomb", "tiny", "long", "fine")]
    make(tmp_path, rows)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-30])
    (tmp_path / "text.jpg").write_text("no image")
    header = struct.pack(">IIBBBBB", 50000, 50000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    (tmp_path / "bomb.jpg").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\r"
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    Image.new("RGB", (40, 5)).save(tmp_path / "tiny.jpg")
    Image.new("RGB", (500, 10)).save(tmp_path / "long.jpg")
    report = check_catalog(tmp_path)
    assert {(fault.kind, fault.samples) for fault in report.faults} == {
        ("image_empty", ("empty",)),
        ("image_damaged", ("cut",)),
        ("image_format", ("text",)),
        ("image_too_large", ("bomb",)),
        ("image_too_small", ("tiny",)),
    }
    assert [note.kind for note in report.notes] == ["image_shape"]
    assert report.fingerprint.images == 7
    assert report.fingerprint.readable == 3


def test_an_image_that_may_not_be_read(tmp_path):
    make(tmp_path, GOOD)
    (tmp_path / "a.jpg").chmod(0)
    if os.access(tmp_path / "a.jpg", os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission" in only(check_catalog(tmp_path), "image_damaged").found


def masked(root, indices, size=(40, 30), mode="L"):
    (root / "masks").mkdir(exist_ok=True)
    mask = Image.new(mode, size, 0)
    for i, value in enumerate(indices):
        mask.paste(value, (i, 0, i + 1, size[1]))
    mask.save(root / "masks" / "a.png")


def test_masks(tmp_path):
    make(tmp_path, GOOD)
    masked(tmp_path, [0, 1, 2, 255])
    report = check_catalog(tmp_path)
    assert report.ok
    assert report.fingerprint.masks == 1
    masked(tmp_path, [0, 1], size=(30, 40))
    fault = only(check_catalog(tmp_path), "mask_size")
    assert (fault.samples, fault.file) == (("a",), str(tmp_path / "masks" / "a.png"))
    assert "30×40" in fault.found
    masked(tmp_path, [0, 1, 3, 200, 255])
    assert "3, 200 stand for no class" in only(check_catalog(tmp_path), "mask_indices").found
    masked(tmp_path, [(0, 0, 0), (128, 0, 0)], mode="RGB")
    assert "class index" in only(check_catalog(tmp_path), "mask_channels").remedy
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    assert only(check_catalog(tmp_path), "mask_damaged").samples == ("a",)
    masked(tmp_path, [1])
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "zz.png")
    report = check_catalog(tmp_path)
    assert report.ok
    assert [note.kind for note in report.notes] == ["mask_unused"]


def test_masks_of_0_and_255_only(tmp_path):
    make(tmp_path, GOOD)
    masked(tmp_path, [0, 255])
    assert "'ignored'" in only(check_catalog(tmp_path), "mask_indices").found


def test_the_mask_of_a_turned_photo(tmp_path):
    make(tmp_path, GOOD)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg", exif=exif)
    masked(tmp_path, [1], size=(30, 40))
    report = check_catalog(tmp_path)
    assert report.ok
    assert report.fingerprint.rotated == 1
    masked(tmp_path, [1], size=(40, 30))
    assert "turn the mask" in only(check_catalog(tmp_path), "mask_size").remedy


def test_structural_faults_are_in_the_list(tmp_path):
    make(tmp_path, GOOD, header="foo,bar")
    report = check_catalog(tmp_path)
    assert only(report, "tags_file").line == 1
    assert report.fingerprint.images == 0
    with pytest.raises(DataError, match="no such file"):
        check_catalog(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="workers"):
        check_catalog(tmp_path, workers=0)


def test_nothing_left_to_go_on_with(tmp_path):
    make(tmp_path, ["a.jpg,cat", "b.jpg,cat"])
    catalog = open_catalog(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no image is left"):
        skip_bad(catalog, check_catalog(tmp_path))


def test_the_report_is_the_same_every_time(tmp_path):
    make(tmp_path, [*GOOD, "e.jpg,Cat", "f.jpg,hrose", "zz/zz.jpg,cat", "b.jpg,cat"])
    (tmp_path / "a.jpg").write_bytes(b"")
    first = check_catalog(tmp_path)
    assert first == check_catalog(tmp_path, workers=1)
    assert type(first).model_validate_json(first.model_dump_json()) == first


def test_progress_can_stop_it(tmp_path):
    make(tmp_path, GOOD)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_catalog(tmp_path, progress=stop)


def test_a_fault_as_text():
    fault = Fault(kind="row", file="a.csv", line=3, found="one column", remedy="add a comma")
    assert str(fault) == "a.csv:3: one column; add a comma"
    assert fault.kind in FAULT_KINDS


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=120), st.sampled_from(["a.jpg", "classes.txt", "masks/a.png", "s"]))
def test_random_bytes_anywhere_are_never_a_traceback(tmp_path, noise, place):
    root = make(tmp_path / "x", GOOD)
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    (sets / "s.txt").write_bytes(b"a\nb\n")
    Image.new("L", (40, 30), 1).save(root / "masks" / "a.png")
    path = sets / "s.txt" if place == "s" else root / place
    kept = path.read_bytes() if path.exists() else None
    path.write_bytes(noise)
    report = check_catalog(root, split="s")
    for fault in (*report.faults, *report.notes):
        assert "\n" not in str(fault)
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(kept)
