import contextlib
import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from weakseg.sources import check
from weakseg.sources.class_counts import COUNT_KINDS
from weakseg.sources.class_names import VOC_CLASSES
from weakseg.sources.source import READERS, open_catalog
from weakseg.types import DataError


def check_catalog(*arguments, **options):
    """What is found but for the numbers of images, which are small here and tested apart."""
    return check.check_catalog(*arguments, **options).without(*COUNT_KINDS)


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20 + seed, 16), (seed * 37 % 256, 90, 10)).save(path)


def tagged(root, rows, header="image,tags"):
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return root


def names(catalog):
    return {s.id: {catalog.classes[i] for i in s.tags} for s in catalog}


def test_what_cannot_be_opened_is_told_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "plain" / "a.jpg")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "x.json").write_text("{}")
    tagged(tmp_path / "nobody", ["a.jpg,cat"])
    photo(tmp_path / "two" / "a.jpg")
    tagged(tmp_path / "two", ["a.jpg,cat"])
    (tmp_path / "two" / "labels.tsv").write_text("image\ttags\n")
    tagged(tmp_path / "header", ["a.jpg,cat"], "name,what")
    cases = {
        "nowhere": "no such file",
        "empty": "no images found",
        "plain": "no tags",
        "notes.txt": "neither a tags file",
        "x.json": "no list 'images'",
        "nobody": "no images found",
        "two": "labels.csv and labels.tsv",
        "header": "header is 'name,what'",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            open_catalog(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_kinds_are_listed(tmp_path):
    with pytest.raises(DataError, match=r"unknown kind 'vox'.*tags, voc, coco.*imagefolder"):
        open_catalog(tmp_path, kind="vox")
    photo(tmp_path / "cat" / "a.jpg")
    for kind in set(READERS) - {"imagefolder"}:
        with pytest.raises(DataError, match=str(tmp_path.name)):
            open_catalog(tmp_path, kind=kind)


@pytest.mark.parametrize(
    "written",
    ["sub/B.jpg", "sub\\B.jpg", "sub/B", "./sub/B.JPG", "images/sub/B.jpeg", "sub/x/../B.JPEG"],
)
def test_ways_to_name_an_image(tmp_path, written):
    suffix = ".JPEG" if "jpeg" in written.lower() else ".JPG"
    photo(tmp_path / "images" / "sub" / f"B{suffix}")
    photo(tmp_path / "images" / "a.v1.png", 1)
    tagged(tmp_path, [f"{written},cat", "a.v1,dog"])
    catalog = open_catalog(tmp_path)
    assert [sample.id for sample in catalog] == ["a.v1", "sub/B"]
    assert catalog["sub/B"].image == tmp_path / "images" / "sub" / f"B{suffix}"


@pytest.mark.parametrize("folder", ["", "images", "JPEGImages", "Images"])
def test_where_images_may_be(tmp_path, folder):
    photo(tmp_path / folder / "x" / "a.jpg")
    tagged(tmp_path, ["x/a.jpg,cat"])
    assert [sample.id for sample in open_catalog(tmp_path)] == ["x/a"]


def test_the_folder_with_the_named_images_wins(tmp_path):
    photo(tmp_path / "images" / "logo.png")
    photo(tmp_path / "a.jpg", 1)
    photo(tmp_path / "b.jpg", 2)
    tagged(tmp_path, ["a.jpg,cat", "b.jpg,cat"])
    assert [sample.id for sample in open_catalog(tmp_path)] == ["a", "b"]


def test_names_are_compared_in_composed_form(tmp_path):
    photo(tmp_path / "cafe\u0301.jpg")
    tagged(tmp_path, ["caf\u00e9.jpg,cat"])
    assert [sample.id for sample in open_catalog(tmp_path)] == ["caf\u00e9"]


@pytest.mark.parametrize(
    "written", ["../out.jpg", "/etc/out.jpg", "C:\\out.jpg", "x/../../out.jpg", "..\\out.jpg", ".."]
)
def test_paths_that_leave_are_left_out_and_told(tmp_path, written, caplog):
    photo(tmp_path / "out.jpg", 5)
    photo(tmp_path / "in" / "a.jpg")
    photo(tmp_path / "in" / "b.jpg", 1)
    tagged(tmp_path / "in", ["a.jpg,cat", f"{written},cat", "b.jpg,cat"])
    with caplog.at_level(logging.WARNING):
        assert [sample.id for sample in open_catalog(tmp_path / "in")] == ["a", "b"]
    assert "1 of 3 images" in caplog.text
    [fault] = check_catalog(tmp_path / "in").faults
    assert (fault.kind, fault.line) == ("path_leaves", 3)


def test_rows_with_unknown_tags_are_left_out(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg", 1)
    tagged(tmp_path, ["a.jpg,cat", "b.jpg,cat wolf"])
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    catalog = open_catalog(tmp_path)
    assert names(catalog) == {"a": {"cat"}}
    assert catalog.classes == ("dog", "cat")


def test_what_is_left_out_is_warned_of(tmp_path, caplog):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg", 1)
    tagged(tmp_path, ["a.jpg,cat", "b.jpg,cat,dog", "c.jpg,cat"])
    with caplog.at_level(logging.WARNING):
        assert set(names(open_catalog(tmp_path))) == {"a"}
    assert "2 of 3 images cannot be used" in caplog.text


def test_classes_txt(tmp_path):
    photo(tmp_path / "a.jpg")
    tagged(tmp_path, ["a.jpg,cat"])
    (tmp_path / "classes.txt").write_text("__background__\n\n zebra\ncat\n")
    assert open_catalog(tmp_path).classes == ("zebra", "cat")
    for content, message in {
        "cat\nCat\n": "also 'cat'",
        "cat\ncat": "twice",
        "\n": "no class",
    }.items():
        (tmp_path / "classes.txt").write_text(content)
        with pytest.raises(DataError, match=message):
            open_catalog(tmp_path)


def test_too_many_classes(tmp_path):
    photo(tmp_path / "a.jpg")
    tagged(tmp_path, ["a.jpg," + " ".join(f"c{i}" for i in range(255))])
    with pytest.raises(DataError, match="255 classes"):
        open_catalog(tmp_path)


def test_several_kinds_at_once(tmp_path):
    for i, name in enumerate(("a", "b", "c")):
        photo(tmp_path / "JPEGImages" / f"{name}.jpg", i)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(
        "<annotation><object><name>bird</name></object></annotation>"
    )
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nc\n")
    (tmp_path / "masks").mkdir()
    Image.new("L", (22, 16), 1).save(tmp_path / "masks" / "c.png")
    tagged(tmp_path, ["a,cat", "b,dog", "c,cat"])
    catalog = open_catalog(tmp_path, split="train")
    assert names(catalog) == {"a": {"cat"}, "c": {"cat"}}
    assert catalog.classes == ("cat", "dog")
    assert catalog["c"].mask == tmp_path / "masks" / "c.png"
    assert catalog["a"].mask is None
    assert names(open_catalog(tmp_path, kind="voc")) == {"a": {"bird"}}


def test_split_lines(tmp_path):
    for i, name in enumerate(("a", "b", "my photo 1", "d")):
        photo(tmp_path / "JPEGImages" / f"{name}.jpg", i)
    tagged(tmp_path, ["a,cat", "b,dog", "my photo 1,cat", "d,dog"])
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "cat_train.txt").write_text("a  1\nb -1\nd  0\n")
    (sets / "named.txt").write_text("my photo 1\nb.jpg\n")
    (sets / "paths.txt").write_text("/JPEGImages/a.jpg /SegmentationClass/a.png\n")
    assert set(names(open_catalog(tmp_path, split="cat_train"))) == {"a", "d"}
    assert set(names(open_catalog(tmp_path, split="named"))) == {"b", "my photo 1"}
    assert set(names(open_catalog(tmp_path, split="paths"))) == {"a"}


def test_image_folder_with_parts(tmp_path):
    for i, name in enumerate(("train/cat/a", "train/dog/b", "val/cat/c", "val/cat/deep/d")):
        photo(tmp_path / f"{name}.jpg", i)
    assert names(open_catalog(tmp_path, split="train")) == {
        "train/cat/a": {"cat"},
        "train/dog/b": {"dog"},
    }
    assert open_catalog(tmp_path, split="val").classes == ("cat", "dog")
    assert len(open_catalog(tmp_path)) == 4
    assert open_catalog(tmp_path / "val").classes == ("cat",)
    with pytest.raises(DataError, match="train, val"):
        open_catalog(tmp_path, split="test")


def voc(root, annotated):
    for i, (name, tags) in enumerate(annotated.items()):
        photo(root / "JPEGImages" / f"{name}.jpg", i)
        (root / "Annotations").mkdir(exist_ok=True)
        objects = "".join(f"<object><name>{tag}</name></object>" for tag in tags)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


def test_vocs_own_order_where_there_are_vocs_masks(tmp_path):
    root = voc(tmp_path / "VOCdevkit" / "VOC2012", {"a": ["dog", "cat"], "b": ["dog", "cat"]})
    assert open_catalog(root).classes == ("cat", "dog")
    (root / "SegmentationClass").mkdir()
    Image.new("L", (20, 16), 12).save(root / "SegmentationClass" / "a.png")
    for source in (root, tmp_path / "VOCdevkit"):
        catalog = open_catalog(source)
        assert catalog.classes == VOC_CLASSES
        assert names(catalog) == {"a": {"dog", "cat"}, "b": {"dog", "cat"}}
    assert check_catalog(root).faults == ()
    assert VOC_CLASSES[11] == "dog"
    voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": ["dog"]})
    with pytest.raises(DataError, match="VOC2007, VOC2012"):
        open_catalog(tmp_path / "VOCdevkit")


def test_masks_name_vocs_classes_without_annotations(tmp_path):
    photo(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "SegmentationClass").mkdir()
    mask = Image.new("L", (20, 16), 0)
    mask.paste(8, (0, 0, 5, 5))
    mask.paste(255, (6, 6, 9, 9))
    mask.save(tmp_path / "SegmentationClass" / "a.png")
    assert names(open_catalog(tmp_path)) == {"a": {"cat"}}
    mask.paste(30, (0, 0, 5, 5))
    mask.save(tmp_path / "SegmentationClass" / "a.png")
    assert {"mask_indices"} < {fault.kind for fault in check_catalog(tmp_path).faults}


@pytest.mark.parametrize(
    "content",
    ["", "<annotation>", "<annotation><object/></annotation>", "<!DOCTYPE a [", "\0\1", "not xml"],
)
def test_broken_annotations(tmp_path, content):
    root = voc(tmp_path, {"a": ["dog"], "b": ["dog"], "c": ["dog"]})
    (root / "Annotations" / "b.xml").write_text(content)
    [fault] = check_catalog(root).faults
    assert (fault.kind, fault.samples) == ("annotation", ("b",))
    assert fault.file.endswith("b.xml")
    assert set(names(open_catalog(root))) == {"a", "c"}


def coco(root, **changes):
    photo(root / "a.jpg")
    photo(root / "b.jpg", 1)
    record = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 5, "name": "zebra"}, {"id": 7, "name": "ant"}],
        "annotations": [
            {"image_id": 1, "category_id": 5, "iscrowd": 1},
            {"image_id": 1, "category_id": 7, "iscrowd": 0},
            {"image_id": 2, "category_id": 7},
        ],
    }
    record.update(changes)
    (root / "x.json").write_text(json.dumps(record))
    return root / "x.json"


def test_coco_crowds_count_and_categories_are_ordered_by_id(tmp_path):
    catalog = open_catalog(coco(tmp_path))
    assert catalog.classes == ("zebra", "ant")
    assert names(catalog) == {"a": {"zebra", "ant"}, "b": {"ant"}}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"annotations": [{"image_id": 9, "category_id": 5}]}, "not listed"),
        ({"annotations": [{"image_id": 1, "category_id": 6}]}, "unknown categories: '6'"),
        ({"annotations": [3, None, {}, {"image_id": [1], "category_id": {}}]}, "not listed"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2}]}, "without a file_name"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": [], "file_name": "b.jpg"}]}, "id"),
        ({"categories": [{"id": 5, "name": "ant"}, {"id": 7, "name": "ant"}]}, "same name"),
        ({"categories": [{"id": 7, "name": "ant"}, {"id": 5}]}, "without name"),
    ],
)
def test_faults_of_a_coco_file(tmp_path, changes, found):
    source = coco(tmp_path, **changes)
    report = check_catalog(source)
    assert any(found in fault.found for fault in report.faults), report.faults
    open_catalog(source)


def test_a_coco_folder_with_several_splits(tmp_path):
    coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val"):
        target = tmp_path / "annotations" / f"instances_{name}.json"
        target.write_text((tmp_path / "x.json").read_text())
    assert len(open_catalog(tmp_path, split="val")) == len(open_catalog(tmp_path)) == 2
    assert {fault.kind for fault in check_catalog(tmp_path).faults} == {"duplicate_row"}
    assert check_catalog(tmp_path, split="val").ok
    assert len(open_catalog(tmp_path / "annotations" / "instances_val.json")) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "file_name", "image_id", "category_id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["images", "categories", "annotations"]), st.lists(JSON, max_size=4) | JSON)
def test_strange_json_is_never_a_traceback(tmp_path, key, value):
    source = coco(tmp_path, **{key: value})
    check_catalog(source)
    with contextlib.suppress(DataError):
        open_catalog(source)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=100), st.sampled_from(["x.json", "labels.csv", "labels.jsonl"]))
def test_random_files_are_never_a_traceback(tmp_path, noise, name):
    photo(tmp_path / "a.jpg")
    (tmp_path / name).write_bytes(noise)
    assert not check_catalog(tmp_path / name).ok
    with pytest.raises(DataError):
        open_catalog(tmp_path / name)


PARTS = ("images", "labels", "img_dir", "ann_dir", "train", "val", "valid", "test", "masks")


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_data_set_are_never_classes(tmp_path, part):
    photo(tmp_path / part / "a.jpg")
    photo(tmp_path / part / "sub" / "b.jpg", 1)
    if part in ("train", "val", "valid", "test"):
        (tmp_path / part / "sub").rename(tmp_path / part / "images")
    with pytest.raises(DataError, match=r"no tags|no images found"):
        open_catalog(tmp_path)


def test_parts_beside_classes_are_refused(tmp_path):
    photo(tmp_path / "train" / "cat" / "a.jpg")
    photo(tmp_path / "extra" / "b.jpg", 1)
    with pytest.raises(DataError, match=r"parts of a data set \(train\) beside .* \(extra\)"):
        open_catalog(tmp_path)


def test_what_nobody_reads_is_named(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"no tags; nothing reads 'annotations/a.json'.*COCO"):
        open_catalog(tmp_path)


def test_the_only_table_that_names_images_is_read_with_a_note(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg", 1)
    (tmp_path / "results.csv").write_text("epoch,loss\n1,0.5\n")
    (tmp_path / "annotations.csv").write_text("filename,label\na.jpg,cat\nb.jpg,dog\n")
    assert names(open_catalog(tmp_path)) == {"a": {"cat"}, "b": {"dog"}}
    notes = check_catalog(tmp_path).notes
    assert "tags are read from 'annotations.csv'" in [note.found for note in notes]
    (tmp_path / "train.csv").write_text("filename,label\na.jpg,cat\n")
    with pytest.raises(DataError, match=r"annotations.csv and train.csv; name the one"):
        open_catalog(tmp_path)


def test_splits_of_a_column(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg", 1)
    tagged(tmp_path, ["a.jpg,cat,train", "b.jpg,dog,test"])
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("image,tags", "image,tags,split"))
    assert names(open_catalog(tmp_path, split="test")) == {"b": {"dog"}}
    with pytest.raises(DataError, match="unknown split 'val'; known splits: test, train"):
        open_catalog(tmp_path, split="val")


@pytest.mark.parametrize(
    "written", ["/data/x/a.jpg", "https://host/a.jpg", "C:\\x\\a.jpg", "x/a.jpg"]
)
def test_images_of_another_place_are_found_with_one_note(tmp_path, written):
    photo(tmp_path / "sub" / "a.jpg")
    photo(tmp_path / "sub" / "b.jpg", 1)
    tagged(tmp_path, [f"{written},cat", f"{written.replace('a.jpg', 'b.jpg')},dog"])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    report = check_catalog(tmp_path)
    assert report.ok
    [note] = [note for note in report.notes if note.kind == "image_elsewhere"]
    assert note.found.startswith("2 images named by a path of another place")
    assert names(open_catalog(tmp_path)) == {"sub/a": {"cat"}, "sub/b": {"dog"}}
