"""`check` and both ways to score say when true masks mean other classes than the tags."""

import numpy as np
import pytest
from PIL import Image

from weakseg.apps.mask_folders import evaluate_masks
from weakseg.sources.check import check_catalog

IMAGES = {"a": "cat", "b": "dog", "c": "cat dog", "d": "dog", "e": "cat", "f": "dog", "g": ""}
INDEX = {"cat": 1, "dog": 2}


def source(folder, index, *, blank=()):
    (folder / "masks").mkdir(parents=True)
    lines = ["image,tags"]
    rng = np.random.default_rng(0)
    for name, tags in IMAGES.items():
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        lines.append(f"{name}.png,{tags}")
        mask = np.zeros((16, 16), np.uint8)
        for place, tag in enumerate(tags.split()):
            mask[4 * place : 4 * place + 4] = index[tag]
        if name in blank:
            mask[:] = 0
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def kinds(faults):
    return [fault.kind for fault in faults]


def test_right_truth_says_nothing(tmp_path):
    report = check_catalog(source(tmp_path, INDEX))
    assert "mask_tags" not in kinds(report.faults) + kinds(report.notes)


@pytest.mark.parametrize("index", [{"cat": 2, "dog": 1}, {"cat": 0, "dog": 1}])
def test_other_indices_are_a_fault_that_tells_which(tmp_path, index):
    report = check_catalog(source(tmp_path, index))
    fault = next(fault for fault in report.faults if fault.kind == "mask_tags")
    assert "index 1 is in the masks of images tagged 'dog', whose index is 2" in fault.found
    assert "classes.txt" in fault.remedy
    assert fault.file.endswith("masks")


def test_one_mask_without_its_object_is_a_note(tmp_path):
    report = check_catalog(source(tmp_path, INDEX, blank=["a"]))
    note = next(note for note in report.notes if note.kind == "mask_tags")
    assert note.found == "1 of 7 true masks lack a tagged class (a)"
    assert "mask_tags" not in kinds(report.faults)


def test_scores_of_swapped_classes_come_with_a_warning(tmp_path):
    ours = source(tmp_path / "ours", INDEX) / "masks"
    theirs = source(tmp_path / "theirs", {"cat": 2, "dog": 1}) / "masks"
    assert evaluate_masks(ours, ours).warnings == ()
    warnings = evaluate_masks(ours, theirs).warnings
    assert warnings[0].startswith("index 1 of the truth is where the masks have index 2")
    assert evaluate_masks(ours, theirs).to_json()["warnings"] == list(warnings)


def test_truth_of_0_and_255_comes_with_a_warning(tmp_path):
    ours = source(tmp_path / "ours", INDEX) / "masks"
    theirs = source(tmp_path / "theirs", {"cat": 255, "dog": 255}) / "masks"
    scores = evaluate_masks(ours, theirs, classes=["cat", "dog"])
    assert "only 0 and 255" in scores.warnings[0]
