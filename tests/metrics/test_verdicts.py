"""What figures of a run mean, in words."""

from dataclasses import replace

import pytest

from weakseg.metrics.verdicts import ClassFigures, Verdict, verdicts, verdicts_of_run

GOOD = ClassFigures(
    images=40,
    told=0.95,
    guessed=0.3,
    surfaces_told=0.8,
    against=0.2,
    against_outside=0.5,
    against_by_chance=0.01,
)


def test_good_figures_have_no_verdict():
    assert verdicts({"cat": GOOD}) == []
    assert verdicts({"cat": replace(GOOD, images=0)}) == []


@pytest.mark.parametrize(
    ("change", "severity", "said"),
    [
        ({"empty_maps": 20}, "red", "maps are zero in 20 of 40 images"),
        ({"without_mask": 20}, "red", "20 of 40 images that show it have no pixel"),
        ({"whole_image": 20}, "yellow", "whole image in 20 of 40"),
        ({"told": None}, "yellow", "in 40 images only, or in nearly all"),
        ({"told": 0.45}, "yellow", "can hardly be told apart (average precision 0.45"),
        ({"told": 0.36}, "red", "cannot be told apart (average precision 0.36"),
        ({"told": 0.1}, "red", "guessing has 0.30"),
        (
            {"against": 0.5},
            "red",
            "50% of its masks cover surfaces that occur rather in images without cat",
        ),
        ({"against": 0.6}, "red", "of the rest of the same images 50% do"),
    ],
)
def test_each_fault_is_told(change, severity, said):
    (found,) = verdicts({"cat": replace(GOOD, **change)})
    assert (found.severity, found.about) == (severity, "cat")
    assert said in found.text
    assert str(found).startswith(f"{severity.upper()} cat: ")


@pytest.mark.parametrize(
    "change",
    [
        {"empty_maps": 19},
        {"without_mask": 19},
        {"whole_image": 19},
        {"told": 0.48},
        {"against": 0.49},
        {"against": 0.9, "surfaces_told": 0.64},  # surfaces do not tell this class
        {"against": 0.9, "surfaces_told": None},
        {"against": 0.6, "against_by_chance": 0.06},  # in half of the images, about
    ],
)
def test_less_is_no_fault(change):
    assert verdicts({"cat": replace(GOOD, **change)}) == []


def test_the_worst_comes_first_and_empty_maps_say_all():
    found = verdicts(
        {
            "cat": replace(GOOD, whole_image=40),
            "dog": replace(GOOD, empty_maps=40, without_mask=40, told=0.3),
        }
    )
    assert [(v.about, v.severity) for v in found] == [("dog", "red"), ("cat", "yellow")]


@pytest.mark.parametrize(
    ("distinct", "severities"), [(0.55, ["red"]), (0.7, ["yellow"]), (0.9, []), (None, [])]
)
def test_masks_that_are_no_other_stuff_than_the_rest(distinct, severities):
    own = ClassFigures(images=10, told=0.9, guessed=0.2, distinct=distinct)
    found = verdicts({"rust": own})
    assert [verdict.severity for verdict in found] == severities
    assert all("from what they leave of the same images" in verdict.text for verdict in found)


def test_a_surface_without_images_of_no_tag_is_to_be_looked_at():
    own = ClassFigures(images=10, told=0.9, guessed=0.2, by_others=0.6)
    (found,) = verdicts({"pit": own})
    assert found.severity == "yellow"
    assert "add images without any tag" in found.text
    assert verdicts({"pit": ClassFigures(images=10, told=0.9, guessed=0.2, by_others=0.3)}) == []


def test_a_network_that_did_not_learn_is_red():
    yellow = {"severity": "yellow", "about": "cat", "text": "look"}
    summaries = {"verify": {"verdicts": [yellow]}, "segment": {"not_learnt": ["cow", "dog"]}}
    network, cat = verdicts_of_run(summaries)
    assert (network.severity, network.about, cat) == ("red", "the network", Verdict(**yellow))
    assert "hardly any of cow, dog even in images that it learnt from" in network.text
    assert verdicts_of_run({"segment": {"not_learnt": []}}) == verdicts_of_run({}) == ()
