"""What weakseg writes for a tool is read back from that tool's format: the same tags and masks."""

import json

import numpy as np
import pytest

from weakseg.apps.formats import cvat, label_studio, labelme, yolo_seg
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.truth import true_mask
from weakseg.types import DataError, Sample

CLASSES = ("zebra", "big dog", "cat <&>")


@pytest.fixture
def labelled(made, tmp_path):
    """Three images, one turned by its EXIF orientation, one without any class."""
    other = type(made)(tmp_path / "photos")
    made_of = []
    for name, indices in (("a", (1, 2)), ("sub/b c", (3, 1)), ("none", ())):
        path = other.photo(f"{name}.jpg", 14, 9, turned=name == "a")
        labels = np.zeros((9, 14), np.uint8)
        for k, index in enumerate(indices):
            rows, columns = np.indices(labels.shape)
            labels[(rows - 4) ** 2 + (columns - 4 - 5 * k) ** 2 < 11 - 3 * k] = index
        labels[4, 4] = 0  # a hole
        sample = Sample(name, path, frozenset(index - 1 for index in indices))
        made_of.append(Labelled(sample, labels, {}))
    return made_of


def same(made, labelled) -> None:
    catalog = made.open()
    assert catalog.classes == CLASSES
    assert {sample.id.removeprefix("train/") for sample in catalog} == {"a", "sub/b c", "none"}
    for item in labelled:
        sample = next(s for s in catalog if s.id.endswith(item.sample.id))
        assert sample.tags == item.sample.tags
        np.testing.assert_array_equal(true_mask(sample, CLASSES), item.labels)
    faults, notes = made.check()
    assert faults == []
    expected = "nothing is marked in 1 of 3", "named by a path of another place"
    assert all(any(text in note for text in expected) for note in notes)


def copy_images(made, labelled) -> None:
    for item in labelled:
        target = made.root / "images" / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(item.sample.image.read_bytes())


def test_cvat(made, labelled):
    cvat.write(labelled, Job(CLASSES, 3, False), made.root)
    copy_images(made, labelled)
    same(made, labelled)


def test_label_studio(made, labelled):
    label_studio.write(labelled, Job(CLASSES, 3, False), made.root)
    copy_images(made, labelled)
    with pytest.raises(DataError, match="only predictions"):
        made.open()
    tasks = json.loads((made.root / "tasks.json").read_text())
    for number, task in enumerate(tasks):  # as if somebody had accepted them
        predictions = task.pop("predictions")
        result = predictions[0]["result"] if predictions else []
        task |= {"id": number, "annotations": [{"result": result, "was_cancelled": False}]}
    (made.root / "tasks.json").write_text(json.dumps(tasks))
    (made.root / "classes.txt").write_text("\n".join(CLASSES))
    same(made, labelled)


def test_labelme(made, labelled):
    labelme.write(labelled, Job(CLASSES, 3, False), made.root)
    (made.root / "classes.txt").write_text("\n".join(CLASSES))
    same(made, labelled)


def test_yolo(made, labelled):
    yolo_seg.write(labelled, Job(CLASSES, 3, False), made.root)
    same(made, labelled)
