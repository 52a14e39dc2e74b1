"""Truth whose indices mean other classes than the tags is found by the images they share."""

import pytest

from weakseg.metrics.truth_agreement import TruthAgreement

CLASSES = ("cat", "dog", "cow")
TAGS = [{1}, {2}, {3}, {1, 2}, {2, 3}, {1}, {2}, {3}, set()]


def agreement(masks, tags=TAGS):
    found = TruthAgreement(CLASSES)
    for number, (shown, tagged) in enumerate(zip(masks, tags, strict=True)):
        found.update(f"i{number}", {0, *shown}, tagged)
    return found


def test_masks_as_tagged_say_nothing():
    found = agreement(TAGS)
    assert not found.contradicts
    assert found.findings() == []


@pytest.mark.parametrize(
    ("order", "moved"),
    [
        ({1: 2, 2: 3, 3: 1}, {1: 3, 2: 1, 3: 2}),
        ({1: 2, 2: 3, 3: 4}, {2: 1, 3: 2, 4: 3}),
        ({1: 0, 2: 1, 3: 2}, {1: 2, 2: 3}),
        ({1: 1, 2: 3, 3: 2}, {2: 3, 3: 2}),
    ],
    ids=["permuted", "off by one", "from 0", "two swapped"],
)
def test_another_count_contradicts_and_is_told(order, moved):
    found = agreement([{order[k] for k in tags} for tags in TAGS])
    assert found.contradicts
    assert dict(found.moved()) == moved
    index, k = next(iter(moved.items()))
    assert any(f"index {index} " in text and CLASSES[k - 1] in text for text in found.findings())


def test_few_differences_are_told_and_do_not_contradict():
    masks = [*TAGS[:-2], {3, 1}, set()]
    masks[3] = {1}
    found = agreement(masks)
    assert not found.contradicts
    assert (found.untagged, found.lacking, found.differing) == (["i7"], ["i3"], 2)
    assert found.findings()[0] == "1 of 9 true masks show a class that is not tagged (i7)"


def test_objects_too_small_to_be_drawn_do_not_contradict():
    found = agreement([set()] * len(TAGS))
    assert not found.contradicts
    assert found.lacking
    assert not found.two_values


def test_only_0_and_255_is_no_class():
    found = TruthAgreement(CLASSES)
    found.update("a", {0, 255}, {1})
    found.update("b", {0}, {2})
    assert found.two_values
    assert "only 0 and 255" in found.findings()[0]


def test_two_masks_are_enough_where_another_order_explains_all():
    tags = [{1}, {1, 2}, {2}, set()]
    assert agreement([{2}, {1, 2}, {1}, set()], tags).contradicts
    assert not agreement([{2}, {1, 2}, {2}, set()], tags).contradicts
