import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.data.masks import write_mask
from weakseg.runs.corrections import NO_CORRECTIONS, read_corrections
from weakseg.runs.review_dir import ReviewDir
from weakseg.types import Catalog, RunError, Sample

CLASSES = ("cat", "dog")
H, W = 6, 8


@pytest.fixture
def catalog(tmp_path):
    samples = []
    for name in "abcd":
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / f"{name}.png")
        samples.append(Sample(name, tmp_path / f"{name}.png", frozenset({0})))
    return Catalog(CLASSES, tuple(samples))


@pytest.fixture
def say(tmp_path):
    def say(sample_id, size=(H, W), **what):
        made = torch.zeros(size, dtype=torch.uint8)
        reviews = ReviewDir(tmp_path, CLASSES)
        found = reviews.load(sample_id)
        return reviews.change(
            sample_id, found and found.version, lambda: (["cat"], made), who="ann", action="x", **what
        )  # fmt: skip

    return say


def test_a_run_that_nobody_reviewed_has_none(tmp_path, catalog):
    assert read_corrections(tmp_path, catalog) is None
    assert NO_CORRECTIONS.tags_digest() == NO_CORRECTIONS.masks_digest() == ""
    assert NO_CORRECTIONS.summary == {}


def test_tags_true_masks_and_rejected_ones_are_told_apart(tmp_path, catalog, say):
    drawn = torch.full((H, W), 2, dtype=torch.uint8)
    say("a", state="corrected", mask=drawn, tags=["cat", "dog"])
    say("b", state="accepted")
    say("c", state="rejected")
    say("d", tags=["dog"])
    say("elsewhere", state="accepted")
    found = read_corrections(tmp_path, catalog)
    assert found.tags == {"a": {0, 1}, "d": {1}}
    assert found.masks.keys() == {"a", "b"}
    assert found.rejected == {"c"}
    assert found.strangers == ("elsewhere",)
    assert found.summary == {"corrected": 2, "rejected": 1}
    assert [sorted(s.tags) for s in found.applied(catalog)] == [[0, 1], [0], [0], [1]]


def test_what_is_undone_is_not_counted(tmp_path, catalog, say):
    found = say("a", state="corrected", tags=["dog"])
    ReviewDir(tmp_path, CLASSES).undo("a", found.version)
    read = read_corrections(tmp_path, catalog)
    assert (read.tags_digest(), read.masks_digest()) == ("", "")


def test_each_kind_of_correction_changes_its_own_hash(tmp_path, catalog, say):
    say("a", state="accepted")
    first = read_corrections(tmp_path, catalog)
    say("a", tags=["dog"])
    second = read_corrections(tmp_path, catalog)
    assert second.tags_digest()
    assert second.masks_digest() == first.masks_digest()
    say("b", state="rejected")
    third = read_corrections(tmp_path, catalog)
    assert third.tags_digest() == second.tags_digest()
    assert third.masks_digest() != second.masks_digest()


def test_true_masks_are_seen_oftener_and_rejected_ones_never(tmp_path, catalog, say):
    say("a", state="corrected")
    say("c", state="rejected")
    found = read_corrections(tmp_path, catalog)
    usual = [tmp_path / f"made/{s.id}.png" for s in catalog]
    samples, masks = found.learnt_from(catalog.samples, usual, 3)
    assert [s.id for s in samples] == ["a", "a", "a", "b", "d"]
    assert masks == [*[found.masks["a"]] * 3, usual[1], usual[3]]


def test_if_all_are_rejected_nothing_is_left_out(tmp_path, catalog, say):
    for sample in catalog:
        say(sample.id, state="rejected")
    found = read_corrections(tmp_path, catalog)
    usual = [tmp_path / f"{s.id}.png" for s in catalog]
    assert found.learnt_from(catalog.samples, usual, 3) == (list(catalog.samples), usual)


def test_a_mask_of_another_size_is_refused(tmp_path, catalog, say):
    say("a", size=(H, W + 1), state="accepted")
    with pytest.raises(RunError, match="is 9×6, but its image is 8×6"):
        read_corrections(tmp_path, catalog)


def test_a_mask_of_other_classes_is_refused(tmp_path, catalog, say):
    say("a", state="accepted")
    other = Catalog(("dog", "cat"), catalog.samples)
    with pytest.raises(RunError, match="was drawn for other classes"):
        read_corrections(tmp_path, other)


def test_a_tag_that_is_no_class_is_refused(tmp_path, catalog, say):
    say("a", tags=["bird"])
    with pytest.raises(RunError, match="'bird', which is none of the run's classes"):
        read_corrections(tmp_path, catalog)


def test_what_people_left_unknown_is_as_it_was_made_within_their_tags(tmp_path, catalog, say):
    drawn = torch.full((H, W), 255, dtype=torch.uint8)
    drawn[:2] = 2
    say("a", state="corrected", mask=drawn, tags=["dog"])
    made = torch.ones(H, W, dtype=torch.uint8)
    made[4:] = 2
    path = tmp_path / "masks" / "a.png"
    path.parent.mkdir()
    write_mask(path, made, CLASSES)
    found = read_corrections(tmp_path, catalog)
    now = found.mask_now(catalog["a"], path)
    expected = torch.zeros(H, W, dtype=torch.uint8)  # no cat any more
    expected[:2] = expected[4:] = 2
    assert torch.equal(now, expected)
    assert torch.equal(found.completed("a", lambda: made)[2:], made[2:])
    assert found.since(path.parent) == "1 masks and 1 images' tags"
    write_mask(path, now, CLASSES)
    assert found.since(path.parent) == "1 images' tags"
