import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from weakseg import api
from weakseg.apps.report import doubts, page, pictures, viewer, write_report
from weakseg.apps.report.facts import read_facts
from weakseg.apps.review.photo_desk import Patch, PhotoDesk
from weakseg.cli import main
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.types import RunError

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The page's elements; fails where tags do not close as they should."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self):
        return [section["id"] for section in self.named("section")]


def test_a_full_report_has_every_part(evil_run):
    found = Page(write_report(evil_run))
    assert found.sections == [
        "masks", "run", "first", "gallery", "scores", "threshold", "confusion", "training", "settings",
    ]  # fmt: skip
    assert {link["href"] for link in found.named("a")} >= {f"#{name}" for name in found.sections}
    assert "11 images of 3 classes; from tags alone, a mask for every image." in found.text
    assert "all 11 images" in found.text
    assert "chosen: 0.50" in found.text
    assert "the two branches disagree on where the cow is (overlap 0.00)" in found.text
    assert "fit: # how classification learns" in found.text
    masks = json.loads((evil_run / "evaluate/metrics.json").read_text())["masks"]
    assert f"{100 * masks['mean_iou']:.1f} %" in found.text


def test_names_that_are_html_are_shown_as_they_are_written(evil_run):
    found = Page(write_report(evil_run))
    assert [script.get("type") for script in found.named("script")] == ["application/json", None]
    assert not [a for _, attributes in found.elements for a in attributes if a.startswith("on")]
    assert '<script>alert("1")</script>' not in found.source
    assert 'dog & <script>alert("1")</script>' in found.text
    assert '" onclick="alert(1)' in found.text
    assert any(
        'dog & <script>alert("1")</script>' in s.get("aria-label", "") for s in found.named("svg")
    )


def test_nothing_is_fetched_and_nothing_else_may_run(evil_run):
    found = Page(write_report(evil_run))
    for tag, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            own = ("#", "data:image/", *(["masks/"] if tag == "a" else []))  # a link is not fetched
            assert tag != "script" or "src" not in attributes
            assert attributes.get(name, "#").startswith(own)
    assert not re.search(
        r"url\(|@import|https?://", re.sub(r"<pre>.*?</pre>", "", found.source, flags=re.S)
    )
    (policy,) = (m["content"] for m in found.named("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[\w+/]+='$", policy)


def viewed(found):
    """What the page's viewer is told."""
    place = found.source.index('<script type="application/json" id="viewed">')
    return json.loads(
        found.source[found.source.index(">", place) + 1 : found.source.index("</script>", place)]
    )


def test_every_image_is_in_the_viewer_and_the_command_to_correct_it_is_named(evil_run):
    found = Page(write_report(evil_run))
    told, catalog = viewed(found), read_facts(evil_run).catalog
    assert sorted(row[0] for row in told["images"]) == [sample.id for sample in catalog]
    ids = {a["id"] for _, a in found.elements if "id" in a}
    for key, tags, split, state, _, at in told["images"]:
        assert tags == sorted(catalog[key].tags)
        assert (split, state) == (0, "open")
        assert at in ids  # all of so few have a card, where their pictures are
    assert told["beside"] == ""
    assert f"weakseg review {evil_run}" in found.text
    assert not (evil_run / "report").exists()


def test_the_doubtful_come_first_with_all_their_reasons(evil_run):
    told = viewed(Page(write_report(evil_run)))
    reasons = {row[0]: dict(row[4]) for row in told["images"]}
    assert told["images"][0][0] in ("both", "missing")
    assert reasons["missing"]["empty"].startswith("tagged <em>&#34; onclick=")
    assert "disagree" in reasons["apart"]


def many(drawing, count=70):
    for k in range(count):
        drawing.add(f"{k:02d}", [drawing.classes[k % 3]])
    return drawing.run()


def test_pictures_without_room_in_the_page_lie_beside_it(drawing, monkeypatch):
    run = many(drawing)
    monkeypatch.setattr(viewer, "PER_FILE", 10)
    whole = viewed(Page(write_report(run)))
    carded = [row[5] for row in whole["images"] if row[5][0] in "fg"]
    assert len(whole["pictures"]) + len(carded) == 70
    assert not (run / "report").exists()

    monkeypatch.setattr(pictures, "MAX_BYTES", 260_000 + page._FRAME_BYTES)
    told = viewed(Page(write_report(run)))
    assert len(told["images"]) == 70
    inside = len(told["pictures"])
    assert inside < len(whole["pictures"])
    (folder,) = (run / "report").iterdir()
    assert told["beside"] == f"report/{folder.name}"
    by_place = {row[5]: row[0] for row in told["images"]}
    seen = 0
    for number in range(len(list(folder.iterdir()))):
        text = (folder / f"{number}.js").read_text()
        head = f"weaksegPictures({number},"
        assert text.startswith(head)
        for place, (photo, layers) in enumerate(json.loads(text[len(head) : -3])):
            assert by_place[f"{number}.{place}"]
            assert photo.startswith("data:image/jpeg;base64,")
            assert layers[-1][0] == "mask"
            seen += 1
    assert inside + seen == len(whole["pictures"])

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_report(run)  # of the same files: nothing is made anew
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    changed = by_place["0.3"]
    (run / "masks" / f"{changed}.png").write_bytes((run / "masks" / "00.png").read_bytes())
    write_report(run)
    (other,) = (run / "report").iterdir()  # the earlier pictures are gone
    assert other != folder

    monkeypatch.undo()
    write_report(run)
    assert not (run / "report").exists()


def test_images_of_small_runs_have_their_maps_of_large_ones_their_masks(drawing, monkeypatch):
    run = many(drawing)
    kinds = ["spotlight", "compensation", "weighted map", "mask"]
    whole = viewed(Page(write_report(run)))["pictures"]
    assert {tuple(title for title, _ in layers) for _, layers in whole} == {tuple(kinds)}
    monkeypatch.setattr(viewer, "_WITH_MAPS", 69)
    bare = viewed(Page(write_report(run)))["pictures"]
    assert {tuple(title for title, _ in layers) for _, layers in bare} == {("mask",)}


def test_a_report_that_is_killed_leaves_the_one_before(drawing, monkeypatch):
    run = many(drawing)
    monkeypatch.setattr(pictures, "MAX_BYTES", 260_000 + page._FRAME_BYTES)
    write_report(run)
    (folder,) = (run / "report").iterdir()
    before = (run / "report.html").read_bytes()
    (run / "masks" / "65.png").write_bytes((run / "masks" / "00.png").read_bytes())

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert folder.is_dir()
    assert folder.name in before.decode()


def test_of_very_many_images_the_doubtful_are_in_the_list(drawing, monkeypatch):
    for k in range(30):
        drawing.add(f"{k:02d}", ["cat"])
    drawing.add("zz", ["cat", "cow"], [np.ones((12, 16)), np.zeros((12, 16))])
    run = drawing.run(overrides=["refine.threshold=0.5"])
    monkeypatch.setattr(viewer, "MOST", 20)
    found = Page(write_report(run))
    told = viewed(found)
    assert len(told["images"]) == 20
    assert told["images"][0][0] == "zz"
    assert "20 of 31 images are in this list" in found.text


def test_images_of_the_second_split_are_in_the_list_with_what_the_network_found(drawing):
    drawing.add("a", ["cat"])
    run = drawing.run()
    second = drawing.__class__(drawing.folder / "second", drawing.classes)
    second.add("new", ["dog"])
    RunDir(run).save_catalog(second.catalog, source=drawing.folder, split="val", name=VALIDATION)
    (run / "validate").mkdir()
    for file in ("fingerprint.json", "done.json"):
        shutil.copyfile(run / "cams" / file, run / "validate" / file)
    shutil.copyfile(run / "masks" / "a.png", run / "validate" / "new.png")
    found = Page(write_report(run))
    told = viewed(found)
    assert told["splits"] == ["", "val"]
    (row,) = (row for row in told["images"] if row[0] == "new")
    assert row[1:5] == [[2], 1, "open", []]
    (picture,) = told["pictures"]
    assert [title for title, _ in picture[1]] == ["prediction"]  # it has no maps
    assert any(a.get("name") == "split" for a in found.named("select"))


def test_what_people_corrected_is_shown_as_corrected(drawing):
    drawing.add("a", ["cat"])
    drawing.add("b", ["cat"])
    drawing.add("c", ["dog"])
    run = drawing.run()
    desk = PhotoDesk(run, "ann")
    desk.draw(desk.sample("a"), None, Patch(0, 0, np.full((48, 64), 1, np.uint8)), "brush")
    desk.tag(desk.sample("b"), None, [])
    desk.judge(desk.sample("c"), None, "rejected")
    found = Page(write_report(run))
    told = {row[0]: row for row in viewed(found)["images"]}
    assert [told[key][3] for key in "abc"] == ["corrected", "open", "rejected"]
    assert [told[key][1] for key in "abc"] == [[0], [], [2]]
    assert "People corrected 1 masks and 1 images' tags since these masks were made" in found.text
    assert f"weakseg run {drawing.folder} --out {run}" in found.text
    labels = [a["aria-label"] for a in found.named("svg") if "mask: " in a.get("aria-label", "")]
    assert "mask: cat 100 %" in labels
    assert "mask: all background" in labels


def test_pictures_and_charts_are_told_in_words(evil_run):
    found = Page(write_report(evil_run))
    pictured = [a for tag, a in found.elements if a.get("role") == "img"]
    assert len(pictured) > 30
    assert all(attributes["aria-label"].strip() for attributes in pictured)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {use["href"][1:] for use in found.named("use")} <= set(ids)


def test_the_same_files_give_the_same_page(evil_run):
    first = write_report(evil_run).read_bytes()
    assert write_report(evil_run).read_bytes() == first


@pytest.mark.parametrize(
    ("until", "sections"),
    [
        ("classify", ["run", "gallery", "scores", "training", "settings"]),
        ("cams", ["run", "gallery", "scores", "training", "settings"]),
        (
            "masks",
            ["masks", "run", "first", "gallery", "scores", "threshold", "training", "settings"],
        ),
    ],
)
def test_what_is_not_there_is_left_out(drawing, until, sections):
    drawing.add("a", ["cat"])
    found = Page(write_report(drawing.run(until=until)))
    assert found.sections == sections
    assert "There are no scores, because no image has a true mask." in found.text


def test_a_stage_that_is_not_finished_is_said_to_be(drawing):
    drawing.add("a", ["cat"])
    run = drawing.run(until="cams")
    (run / "cams" / "done.json").unlink()
    assert "cams not finished" in Page(write_report(run)).text


def test_images_that_are_gone_leave_the_numbers(drawing):
    drawing.add("a", ["cat"], truth=True)
    run = drawing.run()
    drawing.samples[0].image.unlink()
    found = Page(write_report(run))
    assert "The images are not where they were" in found.text
    assert viewed(found)["pictures"] == [None]
    assert "scores" in found.sections


def test_images_to_look_at_are_named_even_if_they_are_gone(drawing):
    drawing.add("far/away", ["cat", "cow"], [np.ones((12, 16)), np.zeros((12, 16))])
    run = drawing.run(overrides=["refine.threshold=0.5"])
    drawing.samples[0].image.unlink()
    assert "far/away : tagged cow , but no pixel of it in the mask" in Page(write_report(run)).text


def test_damaged_maps_are_told(drawing):
    drawing.add("a", ["cat"])
    drawing.add("b", ["cat"])
    run = drawing.run()
    (run / "cams" / "b.npz").unlink()
    text = Page(write_report(run)).text
    assert "all 2 images" in text
    assert "1 image could not be checked" in text


def test_without_any_image_or_tag(drawing):
    drawing.add("a", [])
    assert "no tag" in Page(write_report(drawing.run())).text


def test_scores_of_stages_yet_unknown_are_shown(drawing):
    drawing.add("a", ["cat"], truth=True)
    run = drawing.run()
    metrics = json.loads((run / "evaluate/metrics.json").read_text())
    (run / "validate").mkdir()
    for file in ("fingerprint.json", "done.json"):
        (run / "validate" / file).write_bytes((run / "cams" / file).read_bytes())
    values = {**metrics["masks"], "mean_iou": 0.1234}
    (run / "validate/metrics.json").write_text(
        json.dumps({"classes": metrics["classes"], "with_crf": values})
    )
    found = Page(write_report(run))
    assert "validate with crf 12.3" in found.text


def test_a_run_of_50000_images_is_sampled_and_stays_small(drawing, monkeypatch):
    run = many(drawing, 60)
    record = json.loads((run / "catalog.json").read_text())
    for k in range(60, 50_000):
        record["samples"].append({**record["samples"][k % 60], "id": f"{k:05d}"})
    (run / "catalog.json").write_text(json.dumps(record))
    monkeypatch.setattr(doubts, "MAX_LOOKED_AT", 300)
    monkeypatch.setattr(viewer, "brief_card", lambda *_, **__: None)
    monkeypatch.setattr(viewer, "_MANY", 100_000)
    path = write_report(run)
    assert "of 50,000 images (picked by chance)" in Page(path).text
    assert len(viewed(Page(path))["images"]) == 50_000
    assert path.stat().st_size < 6_000_000


def test_a_report_never_outgrows_its_limit(drawing, monkeypatch):
    for k in range(30):
        drawing.add(f"{k}", ["cat"])
    run = drawing.run()
    whole = write_report(run)
    cards = whole.read_text().count('<article class="card"')
    size = whole.stat().st_size
    monkeypatch.setattr(pictures, "MAX_BYTES", page._FRAME_BYTES + 120_000)
    small = write_report(run)
    assert small.stat().st_size < min(size, pictures.MAX_BYTES)
    assert 0 < small.read_text().count('<article class="card"') < cards


def test_many_classes_make_no_giant_matrix(drawing):
    drawing.classes = tuple(f"class {k}" for k in range(60))
    for k in range(0, 60, 5):
        drawing.add(f"{k}", [f"class {k}"], truth=True)
    found = Page(write_report(drawing.run()))
    assert "37 classes that are mixed up less are left out." in found.text


def test_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(RunError, match="is no run of weakseg"):
        write_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_prints_where_the_report_is(drawing, capsys):
    drawing.add("a", ["cat"])
    run = drawing.run()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert (run / "report.html").is_file()


def test_a_report_that_fails_does_not_lose_the_run(drawing, monkeypatch, capsys):
    def fail(*_, **__):
        raise ValueError("no\nroom")

    monkeypatch.setattr(page, "render", fail)
    drawing.add("a", ["cat"])
    run = drawing.run()
    summary = type("Summary", (), {"run": run, "stages": (1,)})
    api._try_report(summary, Console())
    assert capsys.readouterr().out == "report: not written: no room\n"
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.34, "0.3 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (534, "8 min 54 s"),
        (3661, "1 h 01 min"),
    ],
)
def test_durations_in_words(seconds, text):
    assert page.duration(seconds) == text


def test_numbers_in_words():
    assert [page.number(v) for v in (1242.0, 0.11924, 10.46, 123456.7)] == [
        "1,242",
        "0.119",
        "10.5",
        "123,457",
    ]
    assert [page.few(v) for v in (0.004, 0.124, 1.0)] == ["<1", "12", "100"]
    assert [page.percent(v) for v in (0.5377, None, float("nan"))] == ["53.8", "–", "–"]


def test_stages_that_the_settings_no_longer_ask_for_are_not_shown(drawing):
    drawing.add("a", ["cat"])
    run = drawing.run()
    for name in ("relate", "walk", "spread"):  # as an earlier run with other settings left them
        (run / name).mkdir(exist_ok=True)
        for file in ("fingerprint.json", "done.json"):
            shutil.copyfile(run / "cams" / file, run / name / file)
    names = [stage.name for stage in read_facts(run).stages]
    assert "cams" in names
    assert not {"relate", "walk", "spread"} & set(names)


MADE = ["classify", "cams", "weigh", "masks"]


@pytest.mark.parametrize(
    ("changed", "until", "shown"),
    [
        ("refine.threshold=0.6", "masks", MADE),
        ("fit.epochs=9", "cams", ["classify", "cams"]),
        ("fit.epochs=9", "classify", ["classify"]),
        ("evaluate.boundary_ratio=0.03", "masks", [*MADE, "verify"]),
        ("segment.fit.epochs=3", "masks", [*MADE, "verify", "evaluate"]),
    ],
)
def test_results_of_other_settings_are_not_shown(drawing, changed, until, shown):
    drawing.add("a", ["cat"], truth=True)
    run = drawing.run()
    assert [stage.name for stage in read_facts(run).stages][-1] == "evaluate"
    drawing.run(overrides=[changed], until=until, force=True)
    facts = read_facts(run)
    assert [stage.name for stage in facts.stages] == shown
    assert bool(facts.scores) == ("evaluate" in shown)
