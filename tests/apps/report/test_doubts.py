import json

import numpy as np
import pytest
from markupsafe import Markup

from weakseg.apps.report import doubts
from weakseg.apps.report.doubts import Doubt, Judge, LikelyWrong, ranked, survey
from weakseg.apps.report.facts import read_facts
from weakseg.types import RunError

SET = ["refine.threshold=0.5"]


def kinds_of(found, sample_id):
    return [doubt.kind for doubt in found.doubts.get(sample_id, ())]


def box(rows, columns, inside=1.0, outside=0.0):
    """A map [12,16] that is high in a box."""
    maps = np.full((12, 16), outside)
    maps[rows, columns] = inside
    return maps


SURE = box(slice(2, 10), slice(2, 14))


def test_a_clean_run_has_nothing_to_look_at(drawing):
    for k in range(5):
        drawing.add(f"{k}", ["cat"], [SURE])
    found = survey(read_facts(drawing.run(overrides=SET)))
    assert (found.looked_at, found.damaged, found.maskless) == (5, 0, 0)
    assert found.doubts == {}
    assert float(found.histogram.sum()) == pytest.approx(1)
    assert float(found.histogram[-1]) == pytest.approx(SURE.mean(), abs=1e-6)


def test_a_tag_without_a_pixel_comes_first(drawing):
    drawing.add("a", ["cat"], [SURE])
    drawing.add("b", ["cat", "dog"], [SURE, np.zeros((12, 16))])
    found = survey(read_facts(drawing.run(overrides=SET)))
    assert next(iter(found.doubts)) == "b"
    assert kinds_of(found, "b")[0] == "empty"
    assert found.doubts["b"][0].text == "tagged <em>dog</em>, but no pixel of it in the mask"
    assert found.maskless == 1


def test_branches_that_look_elsewhere_disagree_by_their_overlap(drawing):
    left, right = box(slice(0, 12), slice(0, 9)), box(slice(0, 12), slice(6, 15))
    drawing.add("same", ["cow"], [SURE], [SURE])
    drawing.add("apart", ["cow"], [left], [right])
    found = survey(read_facts(drawing.run(overrides=SET)))
    (doubt,) = (d for d in found.doubts["apart"] if d.kind == "disagree")
    assert doubt.text == "the two branches disagree on where the <em>cow</em> is (overlap 0.20)"
    assert doubt.weight == pytest.approx(1 - 3 / 15)
    assert "same" not in found.doubts


def test_branches_that_both_find_nothing_agree(drawing):
    drawing.add("a", ["cow"], [np.zeros((12, 16))])
    found = survey(read_facts(drawing.run(overrides=SET)))
    assert kinds_of(found, "a") == ["empty"]


def test_one_branch_cannot_disagree(drawing):
    drawing.add("a", ["cow"], [SURE], [box(slice(0, 3), slice(0, 3))])
    found = survey(read_facts(drawing.run(overrides=SET, branches=1)))
    assert found.doubts == {}


def test_a_class_that_hardly_leads_is_unsure(drawing):
    rival = box(slice(2, 10), slice(2, 14), 0.9)
    rival[0, 0] = 1  # its peak is elsewhere, so that normalizing keeps 0.9
    drawing.add("a", ["cow", "dog"], [SURE, rival])
    found = survey(read_facts(drawing.run(overrides=SET)))
    (doubt,) = (d for d in found.doubts["a"] if d.kind == "unsure")
    assert (
        "the <em>cow</em> barely stands out (on average 0.10 above everything else)" in doubt.text
    )


def test_a_mask_at_the_border_of_the_threshold(drawing):
    edge = box(slice(0, 6), slice(0, 16), 1.0, outside=0.0)
    edge[6:9] = 0.52
    drawing.add("edge", ["dog"], [edge])
    drawing.add("sure", ["dog"], [SURE])
    found = survey(read_facts(drawing.run(overrides=SET)))
    (doubt,) = (d for d in found.doubts["edge"] if d.kind == "border")
    assert doubt.weight == pytest.approx(3 / 9, abs=0.01)
    assert "33 % of the <em>dog</em>" in doubt.text
    assert "sure" not in found.doubts


def test_few_are_named_and_the_strongest_first(drawing):
    for k in range(12):
        drawing.add(
            f"{k:02d}",
            ["cow"],
            [box(slice(0, 12), slice(0, 8))],
            [box(slice(0, 12), slice(4 - k // 3, 12 - k // 3 + 1))],
        )
    found = survey(read_facts(drawing.run(overrides=SET)))
    weights = [d.weight for ds in found.doubts.values() for d in ds if d.kind == "disagree"]
    assert len(weights) == doubts.PER_KIND
    assert weights == sorted(weights, reverse=True)


def test_of_many_images_some_are_looked_at_always_the_same(drawing, monkeypatch):
    for k in range(30):
        drawing.add(f"{k:02d}", ["cow"], [SURE])
    facts = read_facts(drawing.run(overrides=SET))
    monkeypatch.setattr(doubts, "MAX_LOOKED_AT", 7)
    first = [sample.id for sample in doubts.looked_at(facts)]
    assert len(set(first)) == 7
    assert first == [sample.id for sample in doubts.looked_at(facts)] == sorted(first)
    assert survey(facts).looked_at == 7


def test_damaged_maps_and_masks_are_counted(drawing):
    for name in "abcd":
        drawing.add(name, ["cow"], [SURE])
    run = drawing.run(overrides=SET)
    (run / "cams" / "a.npz").write_bytes((run / "cams" / "a.npz").read_bytes()[:300])
    (run / "cams" / "b.npz").unlink()
    (run / "masks" / "c.png").write_bytes(b"")
    found = survey(read_facts(run))
    assert (found.looked_at, found.damaged) == (1, 3)


def test_maps_of_unknown_classes_are_damaged(drawing):
    drawing.add("a", ["cow"], [SURE])
    run = drawing.run(overrides=SET)
    np.savez(
        run / "cams" / "a.npz",
        classes=np.array([7]),
        size=np.array([48, 64]),
        spotlight=np.ones((1, 12, 16), np.float16),
    )
    assert survey(read_facts(run)).damaged == 1


JUDGED = [*SET, "evidence.images=600"]
HARDLY = box(slice(2, 10), slice(8, 14), 0.55)
HARDLY[2, 8:14] = 0.65


def test_a_mask_that_is_likely_wrong_is_named_with_its_estimate(drawing):
    drawing.add("sure", ["cow"], [SURE])
    drawing.add("two", ["cow", "dog"], [box(slice(2, 10), slice(2, 7)), HARDLY])
    drawing.add("untagged", [])
    run = drawing.run(overrides=JUDGED)
    judge = Judge(read_facts(run))
    sure, two, untagged = map(judge.of, drawing.samples)
    assert sure.doubts == {}
    assert share(sure.wrong[1]) < 0.1
    assert 0.5 < share(two.wrong[2]) < 1
    percent = f"{100 * (1 - share(two.wrong[2])):.0f} %"
    assert (
        two.doubts["poor"].text
        == f"the mask of the <em>dog</em> is estimated to overlap it by {percent}"
    )
    assert untagged[:2] == ({}, {})
    ranks = survey(read_facts(run)).ranks
    assert ranks["two"] > ranks["sure"] > ranks["untagged"]


def share(mask):
    return mask.wrong / mask.pixels


def test_what_the_run_found_of_a_class_counts_in_the_estimates_of_its_images(drawing):
    drawing.add("a", ["cow"], [SURE])
    other = {"against": 0.0, "surfaces_told": 1.0, "guessed": 0.5, "distinct": 1.0}
    wrong = {**other, "against": 0.95}
    fine, bad = (
        Judge(
            read_facts(
                drawing.run(
                    name, overrides=JUDGED, figures={"cat": other, "cow": cow, "dog": other}
                )
            )
        )
        .of(drawing.samples[0])
        .wrong[1]
        for name, cow in (("fine", other), ("bad", wrong))
    )
    assert fine.pixels == bad.pixels
    assert share(bad) > 0.5 > share(fine)


def test_without_evidence_there_are_no_estimates(drawing):
    drawing.add("a", ["dog"], [HARDLY])
    judge = Judge(read_facts(drawing.run(overrides=SET)))
    assert judge.of(drawing.samples[0]).wrong == {}


def test_images_count_by_the_share_of_each_class_that_is_likely_wrong_in_them():
    found = {key: {} for key in ("large", "small", "rare", "none", "fine", "unseen")}
    wrong = {
        "large": {0: LikelyWrong(600, 300.0)},  # half of a mask that is 60 % of the class
        "small": {0: LikelyWrong(100, 90.0)},
        "rare": {1: LikelyWrong(10, 5.0)},  # half of all there is of it
        "none": {0: LikelyWrong(0, 0.0)},  # as a mask of usual size, all wrong
        "fine": {0: LikelyWrong(300, 0.0)},
    }
    ranks, _ = ranked(found, wrong)
    assert ranks == {
        "large": pytest.approx(0.3),
        "small": pytest.approx(0.09),
        "rare": pytest.approx(0.5),
        "none": pytest.approx(1 / 3),
        "fine": 0.0,
        "unseen": pytest.approx(1 / 4),
    }


def test_without_estimates_reasons_count():
    empty = {"empty": Doubt("empty", 1.0, Markup("nothing"))}
    unsure = {"unsure": Doubt("unsure", 1.0, Markup("hardly"))}
    ranks, _ = ranked({"a": {}, "b": empty, "c": unsure}, {"a": {}})
    assert ranks["b"] > ranks["c"] > ranks["a"] == 0


@pytest.mark.parametrize(
    ("stage", "figures"), [("masks", None), ("verify", {"cow": {"against": 1}})]
)
def test_damaged_notes_of_a_stage_are_refused(drawing, stage, figures):
    drawing.add("a", ["cow"], [SURE])
    run = drawing.run(overrides=JUDGED, figures=figures)
    done = run / stage / "done.json"
    if stage == "masks":
        record = json.loads(done.read_text())
        record["summary"]["thresholds"] = {"evidence": "half"}
        done.write_text(json.dumps(record))
    with pytest.raises(RunError, match=rf"{stage}.done\.json"):
        Judge(read_facts(run))
