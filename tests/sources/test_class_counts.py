"""Images with and without each class: what the numbers say before anything is learnt."""

from pathlib import Path

import pytest
from PIL import Image

from weakseg.sources.check import check_catalog, skip_bad
from weakseg.sources.class_counts import COUNT_KINDS, count_faults
from weakseg.sources.source import open_catalog
from weakseg.types import Catalog, DataError, Sample


def told(*tags, classes=("cat", "dog")):
    samples = (Sample(f"i{n}", Path(f"{n}.jpg"), frozenset(t)) for n, t in enumerate(tags))
    found = count_faults(Catalog(classes, tuple(samples)), Path("photos"))
    return [(fault.kind, fault.severity, fault.found) for fault in found]


ENOUGH = [{0}, {1}, set()] * 20


def test_enough_images_say_nothing():
    assert told(*ENOUGH) == []


def test_no_tag_at_all():
    assert told(*[set()] * 60) == [("no_tags", "fault", "no image has a tag")]


def test_nothing_to_tell_from():
    [(kind, severity, found)] = told(*[{0}] * 60, classes=("cat",))
    assert (kind, severity) == ("no_tags", "fault")
    assert found == "every image has 'cat': there is nothing to tell them from"
    assert told(*[{0, 1}] * 60)[0][1] == "fault"


def test_a_class_that_every_image_has():
    assert told(*[{0}, {0, 1}] * 30) == [
        ("no_tags", "note", "every image has 'cat': its masks will be guesses")
    ]


def test_small_numbers():
    assert told({0}, {1}, set()) == [("few_images", "note", "3 images in all")]
    assert told(*ENOUGH, {2}, {2}, classes=("cat", "dog", "owl")) == [
        ("few_images", "note", "classes on fewer than 20 images: owl (2)")
    ]


@pytest.fixture
def untagged(tmp_path):
    for name in "abc":
        Image.new("RGB", (16, 16), (ord(name), 9, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,tags\na.png,\nb.png,\nc.png,cet\n")
    return tmp_path


def test_a_source_without_tags_is_refused_and_so_is_what_skipping_leaves(untagged):
    report = check_catalog(untagged)
    with pytest.raises(DataError, match="no image with a tag is left without the 1 bad ones"):
        skip_bad(open_catalog(untagged), report)
    (untagged / "labels.csv").write_text("image,tags\na.png,\nb.png,\nc.png,\n")
    report = check_catalog(untagged)
    assert "no_tags" in {fault.kind for fault in report.faults}
    assert report.without(*COUNT_KINDS).ok
    with pytest.raises(DataError, match="no image with a tag"):
        skip_bad(open_catalog(untagged), report)
