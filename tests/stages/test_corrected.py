"""What people corrected goes into the next run, and only what it changes is made anew."""

import io
import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from smallest import PLAIN, SMALLEST
from weakseg import api
from weakseg.data.images import read_mask
from weakseg.demo_data.data_set import write_demo
from weakseg.runs.review_dir import ReviewDir
from weakseg.runs.run_dir import RunDir
from weakseg.types import RunError

SET = (*SMALLEST, *PLAIN, "evidence.images=0", "verify.images=0", "segment.held_out=0")
ALL = ["classify", "cams", "seeds", "relate", "walk", "masks", "evaluate", "segment"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrected") / "data"
    write_demo(folder, count=10, seed=1)
    return folder


@pytest.fixture(scope="module")
def go(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("corrected") / "run"

    def go(*more, **options):
        printed = io.StringIO()
        summary = api.run(
            data,
            out,
            preset="fast",
            overrides=(*SET, *more),
            console=Console(file=printed, width=200),
            **options,
        )
        return [stage.name for stage in summary.stages if not stage.skipped], printed.getvalue()

    assert go()[0] == ALL
    go.out = out
    return go


def reviews_of(go):
    return ReviewDir(go.out, RunDir(go.out).load_catalog().classes)


def change(go, sample, **what):
    reviews = reviews_of(go)
    classes = reviews.classes
    made = (
        [classes[k] for k in sorted(sample.tags)],
        read_mask(go.out / "masks" / f"{sample.id}.png"),
    )
    found = reviews.load(sample.id)
    return reviews.change(
        sample.id, found and found.version, lambda: made, who="ann", action="x", **what
    )


def record(go, stage):
    return json.loads((go.out / stage / "done.json").read_text())["summary"]


def test_the_loop(go):
    first, second, third, *_ = RunDir(go.out).load_catalog()
    drawn = torch.zeros_like(read_mask(go.out / "masks" / f"{first.id}.png"))
    drawn[10:60, 20:90] = min(first.tags) + 1
    drawn[-4:] = 255  # unknown: the run decides there
    version = change(go, first, state="corrected", mask=drawn).version
    change(go, second, state="rejected")

    # A mask: what learns from masks, and what follows.
    with pytest.raises(RunError, match="other settings"):  # corrections excuse no other change
        go("seeds.long_side=128")
    made, printed = go()
    assert made == ["relate", "walk", "masks", "evaluate", "segment"]
    assert "1 true masks, seen 3 times an epoch; 1 rejected masks left out" in printed
    for stage in ("relate", "masks", "segment"):
        assert record(go, stage)["corrected"] == record(go, stage)["rejected"] == 1
    learnt = read_mask(go.out / "masks" / f"{first.id}.png")
    assert torch.equal(learnt[:-4], drawn[:-4])
    assert int(learnt.max()) < 255
    assert go()[0] == []

    # How much it counts changes the networks alone.
    assert go("review.weight=5")[0] == ["relate", "walk", "masks", "evaluate", "segment"]
    assert go()[0] != []

    # A tag: everything.
    other = frozenset(range(len(reviews_of(go).classes))) - third.tags
    name = reviews_of(go).classes[min(other)]
    change(go, third, tags=[name])
    assert go()[0] == ALL
    assert RunDir(go.out).load_catalog()[third.id].tags == {min(other)}
    assert RunDir(go.out).load_catalog(source_tags=True)[third.id].tags == third.tags
    assert go()[0] == []  # the source's own tags are known again, too

    # Undone: as if nothing had been said, and without --force.
    reviews = reviews_of(go)
    reviews.undo(first.id, version)
    reviews.undo(second.id, 1)
    reviews.undo(third.id, 1)
    made, printed = go()
    assert made == ALL
    assert "review: nothing is corrected" in printed
    assert "corrected" not in record(go, "segment")
    assert RunDir(go.out).load_catalog()[third.id].tags == third.tags


def test_an_interrupted_call_goes_on(go, monkeypatch):
    first = next(iter(RunDir(go.out).load_catalog()))
    go()
    change(go, first, state="accepted")
    assert go(until="relate")[0] == ["relate"]
    assert go()[0] == ["walk", "masks", "evaluate", "segment"]


def test_trainings_may_go_on_from_the_networks_that_are_there(go):
    first = next(iter(RunDir(go.out).load_catalog()))
    go()
    change(go, first, state="rejected")
    more = ("review.warm_start=0.5", "segment.fit.lr=1e-9", "segment.task.ema=0")
    go(*more[1:], force=True)
    before = load_file(go.out / "segment" / "model" / "model.safetensors")
    change(go, first, state="accepted")
    made, printed = go(*more)
    assert made == ["relate", "walk", "masks", "evaluate", "segment"]
    for stage in ("relate", "segment"):
        assert f"{stage}: goes on from the last network" in printed
    after = load_file(go.out / "segment" / "model" / "model.safetensors")
    name = next(name for name in after if name.startswith("segmentation_head.0.weight"))
    assert torch.allclose(after[name], before[name], atol=1e-6)  # a new head would be another
    assert not list(go.out.rglob("earlier-*"))
    go(force=True)


def test_a_damaged_review_stops_the_run_before_anything_is_removed(go):
    go()
    done = (go.out / "segment" / "done.json").read_bytes()
    first = next(iter(RunDir(go.out).load_catalog()))
    change(go, first, state="accepted")
    path = go.out / "review" / "entries" / f"{first.id}.json"
    kept = path.read_bytes()
    path.write_bytes(kept[:40])
    with pytest.raises(RunError, match="is damaged"):
        go()
    assert (go.out / "segment" / "done.json").read_bytes() == done
    path.write_bytes(kept)
