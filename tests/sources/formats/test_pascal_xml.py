"""VOC's XML outside of devkits, by files of LabelImg and Roboflow."""

import pytest

from weakseg.types import DataError


def xml(*names: str, filename: str = "a.jpg", before: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        "<difficult>1</difficult><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax>"
        "</bndbox><part><name>head</name></part></object>"
        for name in names
    )
    return (
        f'{before}<annotation verified="yes"><folder>photos</folder><filename>{filename}</filename>'
        f"<path>C:\\photos\\{filename}</path><source><database>Unknown</database></source>"
        f"<size><width>12</width><height>10</height><depth>3</depth></size>{objects}</annotation>"
    )


PLACES = {
    "beside": ("photos/a.jpg", "photos/a.xml", "photos/a"),
    "apart": ("images/a.jpg", "annotations/a.xml", "a"),
    "below": ("a.jpg", "xml/a.xml", "a"),
    "parts": ("train/images/a.jpg", "train/annotations/a.xml", "train/images/a"),
    "parallel": ("images/train/a.jpg", "annotations/train/a.xml", "train/a"),
    "by file name": ("images/b.jpg", "annotations/1.xml", "b"),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_images_are(made, place):
    image, file, sample_id = PLACES[place]
    made.photo(image)
    name = image.rpartition("/")[2]
    made.text(file, xml("cat", "dog", "cat", filename=name))
    assert made.tags() == {sample_id: {"cat", "dog"}}
    assert made.open()[sample_id].has_truth is False
    assert made.check() == ([], [])


def test_its_own_name_goes_before_the_written_one(made):
    for name in "ab":
        made.photo(f"{name}.jpg")
        made.text(f"{name}.xml", xml(name, filename="a.jpg"))
    assert made.tags() == {"a": {"a"}, "b": {"b"}}


def test_roboflow_has_parts(made):
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        made.photo(f"{part}/{name}.jpg")
        made.text(f"{part}/{name}.xml", xml(name, filename=f"{name}.jpg"))
    assert made.tags() == {"train/a": {"a"}, "valid/b": {"b"}, "test/c": {"c"}}
    assert made.tags(split="valid") == {"valid/b": {"b"}}
    with pytest.raises(DataError, match="known splits: test, train, valid"):
        made.open(split="val")


def test_an_image_of_another_part_is_taken_with_a_note(made):
    made.photo("val/a.jpg")
    made.photo("train/b.jpg")
    made.text("train/a.xml", xml("cat"))
    made.text("train/b.xml", xml("cat", filename="b.jpg"))
    _, notes = made.check()
    assert any("'a.jpg' is taken for 'val/a.jpg'" in note for note in notes)


def test_one_file_is_a_source(made):
    for name in "ab":
        made.photo(f"{name}.jpg")
        made.text(f"{name}.xml", xml(name))
    assert made.tags("b.xml") == {"b": {"b"}}


def test_faults(made):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    for name in ("good", "torn", "bomb", "nameless", "empty", "left"):
        made.photo(f"{name}.jpg")
    made.text("good.xml", xml("cat", "dog "))
    made.text("torn.xml", xml("cat")[:100])
    made.text("bomb.xml", xml("&b;", before=bomb))
    made.text("nameless.xml", xml(""))
    made.text("empty.xml", xml())
    made.text("gone.xml", xml("cat", filename="gone.jpg"))
    made.text("plan.xml", "<project/>")
    assert set(made.tags()) == {"good", "nameless", "empty"}
    faults, notes = made.check()
    assert len(faults) == 3
    assert any("bomb.xml: has a document type declaration" in fault for fault in faults)
    assert any("(and 1 more like this); write the annotation anew" in fault for fault in faults)
    assert any("a mark without a label in image 'nameless'" in fault for fault in faults)
    assert any("there is no image 'gone'" in fault for fault in faults)
    assert any("1 XML files are no annotations" in note for note in notes)
    assert any("nothing is marked in 1 of" in note for note in notes)
    assert any("'left'" in note for note in notes)
    assert any("spaces around the label 'dog '" in note for note in notes)


def test_a_devkit_is_one(made):
    made.photo("JPEGImages/a.jpg")
    made.text("Annotations/a.xml", xml("cat"))
    from weakseg.sources.source import read_source  # noqa: PLC0415

    assert read_source(made.root).kind == "voc"
