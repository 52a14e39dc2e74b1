"""What a run says of its masks stands on top of its report."""

from weakseg.apps.report import write_report


def test_verdicts_come_first(drawing):
    drawing.add("a", ["cat"])
    red = {"severity": "red", "about": "cat", "text": "they paint <the sofa>"}
    yellow = {"severity": "yellow", "about": "dog", "text": "in 3 images only"}
    third = {"severity": "yellow", "about": "cow", "text": "little"}
    page = write_report(drawing.run(verdicts=[red, yellow, third])).read_text("utf-8")
    place = page.index("Do not use the masks of cat:</b> they paint &lt;the sofa&gt;.")
    assert place < page.index("Look first at the masks of dog:</b>") < page.index("<nav")
    folded = page.index("<summary>Further verdicts, on cow</summary>")  # the photo stays in sight
    assert page.index("Look first at the masks of dog:</b>") < folded
    assert folded < page.index("Look first at the masks of cow:</b> little.") < page.index("<nav")
    assert "Do not use" not in write_report(drawing.run("other")).read_text("utf-8")


def test_how_good_masks_are_likely_to_be(drawing):
    drawing.add("a", ["cat"])
    estimate = {"value": 0.4, "low": 0.2, "high": 0.6}
    page = write_report(drawing.run(verdicts=[], estimate=estimate)).read_text("utf-8")
    said = "Their mean IoU is estimated at about 40%, likely 20% to 60%."
    assert page.index(said) < page.index("<nav")
    assert "is estimated" not in write_report(drawing.run("other")).read_text("utf-8")
