"""CVAT for images 1.1, by its documentation and exports."""

import numpy as np
import pytest

from weakseg.types import DataError

LABELS = "cat", "dog", "bird"


def xml(*images: str, labels=LABELS, more: str = "") -> str:
    told = "".join(f"<label><name>{n}</name><attributes/></label>" for n in labels)
    return (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task>'
        f"<id>4</id><labels>{told}</labels></task><dumped>2024</dumped></meta>"
        f"{''.join(images)}{more}</annotations>"
    )


def image(name: str, *shapes: str, width: int = 8, height: int = 8, more: str = "") -> str:
    return (
        f'<image id="0" name="{name}" {more} width="{width}" height="{height}">'
        f"{''.join(shapes)}</image>"
    )


def polygon(label: str, points: str, z_order: int = 0) -> str:
    return (
        f'<polygon label="{label}" source="manual" occluded="0" points="{points}" '
        f'z_order="{z_order}"><attribute name="sure">yes</attribute></polygon>'
    )


WHOLE, CORNER = "0.00,0.00;8.00,0.00;8.00,8.00;0.00,8.00", "0,0;4,0;4,4;0,4"


def test_tags_and_order_of_classes(made):
    for name in "abc":
        made.photo(f"images/{name}.jpg", 8, 8)
    made.text(
        "annotations.xml",
        xml(
            image("a.jpg", '<tag label="dog" source="manual"/>', polygon("cat", CORNER)),
            image("b.jpg", '<box label="dog" xtl="1" ytl="1" xbr="3" ybr="3" z_order="0"/>'),
            image("c.jpg"),
        ),
    )
    assert made.tags() == {"a": {"cat", "dog"}, "b": {"dog"}, "c": set()}
    assert made.open().classes == ("cat", "dog")
    assert made.truth("a") is made.truth("b") is None
    faults, notes = made.check()
    assert faults == []
    assert ["nothing is marked in 1 of 3" in note for note in notes] == [True]


def test_shapes_are_drawn_by_their_layer(made):
    made.photo("a.jpg", 8, 8)
    ellipse = '<ellipse label="bird" cx="4" cy="4" rx="1" ry="3" rotation="90" z_order="9"/>'
    mask = '<mask label="dog" rle="1, 2, 1" left="6" top="6" width="2" height="2" z_order="2"/>'
    shapes = [ellipse, polygon("dog", CORNER, 1), mask, polygon("cat", WHOLE, 0)]
    made.text("annotations.xml", xml(image("a.jpg", *shapes)))
    mask = np.array(made.truth("a"))
    assert mask[0].tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    assert mask[3].tolist() == [2, 3, 3, 3, 3, 3, 3, 1]
    assert mask[6:, 6:].tolist() == [[1, 2], [2, 1]]


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="dog" xtl="1" ytl="1" xbr="3" ybr="3"/>',
        '<polyline label="dog" points="1,1;2,2"/>',
        '<points label="dog" points="1,1"/>',
        '<cuboid label="dog" xtl1="1"/>',
        '<skeleton label="dog"><points label="head" points="1,1"/></skeleton>',
    ],
)
def test_shapes_without_pixels_are_tags_only(made, shape):
    for name in "ab":
        made.photo(f"{name}.jpg", 8, 8)
    both = image("a.jpg", polygon("cat", CORNER), shape), image("b.jpg", polygon("cat", CORNER))
    made.text("annotations.xml", xml(*both))
    assert made.tags() == {"a": {"cat", "dog"}, "b": {"cat"}}
    assert made.truth("a") is None
    assert made.truth("b") is not None


def test_an_image_without_shapes_is_all_background(made):
    for name in "ab":
        made.photo(f"{name}.jpg", 8, 8)
    made.text("annotations.xml", xml(image("a.jpg", polygon("cat", CORNER)), image("b.jpg")))
    assert made.truth("b") == np.zeros((8, 8)).tolist()


def test_subsets_of_a_project_are_splits(made):
    made.photo("images/train/a.jpg", 8, 8)
    made.photo("images/val/a.jpg", 8, 8)
    tag = '<tag label="{}"/>'.format
    made.text(
        "annotations.xml",
        xml(
            image("a.jpg", tag("cat"), more='subset="train" task_id="1"'),
            image("a.jpg", tag("dog"), more='subset="val" task_id="2"'),
        ),
    )
    assert made.tags() == {"train/a": {"cat"}, "val/a": {"dog"}}
    assert made.tags(split="val") == {"val/a": {"dog"}}


def test_background_and_parts_of_skeletons_are_no_classes(made):
    made.photo("a.jpg", 8, 8)
    made.photo("b.jpg", 8, 8)
    shapes = polygon("cat", WHOLE), polygon("background", CORNER, 1)
    labels = "background", "cat</name><parent></parent><name>", "dog"
    text = xml(image("a.jpg", *shapes), image("b.jpg", '<tag label="dog"/>'), labels=labels)
    text = text.replace("</labels>", "<label><name>leg</name><parent>dog</parent></label></labels>")
    made.text("annotations.xml", text)
    assert made.open().classes == ("cat", "dog")
    mask = np.array(made.truth("a"))
    assert not mask[:4, :4].any()
    assert (mask[4:] == 1).all()


def test_sizes_are_of_the_upright_photo(made):
    made.photo("a.jpg", 16, 8, turned=True)
    made.text("annotations.xml", xml(image("a.jpg", polygon("cat", CORNER), width=16)))
    assert np.array(made.truth("a")).shape == (8, 16)
    assert made.check() == ([], [])


def test_tracks_are_refused(made):
    made.photo("a.jpg")
    track = '<track id="0" label="cat"><box frame="0" outside="0" xtl="1"/></track>'
    made.text("annotations.xml", xml(more=track))
    with pytest.raises(DataError, match=r"tracks of a video.*'CVAT for images 1\.1'"):
        made.open()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (xml(image("a.jpg", polygon("cat", WHOLE)))[:-20], "not XML that can be read"),
        (
            '<!DOCTYPE x [<!ENTITY a "b">]>' + xml(image("a.jpg"))[38:],
            "document type declaration",
        ),
        (xml(), "has no images"),
    ],
)
def test_files_that_cannot_be_read(made, content, found):
    made.photo("a.jpg")
    made.text("annotations.xml", content)
    with pytest.raises(DataError, match=found):
        made.open()
    with pytest.raises(DataError, match=found):
        made.open("annotations.xml")


def test_shapes_that_cannot_be_read(made):
    for name in "abcd":
        made.photo(f"{name}.jpg", 8, 8)
    made.text(
        "annotations.xml",
        xml(
            image("a.jpg", polygon("cat", "1,1;2;3,3")),
            image("b.jpg", '<mask label="cat" rle="9" left="0" top="0" width="2" height="2"/>'),
            image("c.jpg", '<ellipse label="cat" cx="nan" cy="1" rx="1" ry="1"/>'),
            image("d.jpg", '<hexagon label="cat"/>'),
            image("gone.jpg", polygon("cat", WHOLE)),
        ),
    )
    assert made.tags() == {"a": {"cat"}, "b": {"cat"}, "c": {"cat"}, "d": set()}
    faults, _ = made.check()
    assert len(faults) == 3
    assert any(
        "image 'a.jpg': a polygon of 'cat' that cannot be read (and 2 more" in f for f in faults
    )
    assert any("a region of 'cat' cannot be drawn" in fault for fault in faults)
    assert any("there is no image 'gone.jpg'" in fault for fault in faults)


def test_several_files_are_refused(made):
    made.photo("a.jpg")
    for name in "xy":
        made.text(f"{name}.xml", xml(image("a.jpg", '<tag label="cat"/>')))
    with pytest.raises(DataError, match=r"several files of CVAT \(x\.xml, y\.xml\)"):
        made.open()
    assert made.tags("x.xml") == {"a": {"cat"}}
