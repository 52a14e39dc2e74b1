"""Segmentation on a handful of generated pictures: two rounds, a second split, the bound."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from smallest import PLAIN, SMALLEST
from weakseg import api
from weakseg.data.images import image_size, read_mask
from weakseg.data.masks import write_mask
from weakseg.demo_data.data_set import write_demo
from weakseg.models.segmenter import Segmenter
from weakseg.runs.context import StageContext
from weakseg.runs.learning import STATE
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.stages import segment as segment_stage
from weakseg.stages.segment import LabelledImages, _agreements, steps_logged
from weakseg.types import DataError, RunError

SET = (
    *SMALLEST,
    *PLAIN,
    "refine.kind=none",
    "segment.fit.epochs=2",
    "segment.held_out=0.2",
    "segment.rounds=2",
    "segment.relabel.scales=[1.0]",
    "predict.scales=[0.5, 1.0]",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment") / "data"
    write_demo(folder, count=15, seed=1)
    names = sorted(path.stem for path in (folder / "images").iterdir())
    shutil.rmtree(folder / "ImageSets", ignore_errors=True)
    (folder / "ImageSets").mkdir()
    (folder / "ImageSets/train.txt").write_text("\n".join(names[:11]) + "\n")
    (folder / "ImageSets/val.txt").write_text("\n".join(names[11:]) + "\n")
    return folder


def go(data, out, *more, **options):
    return api.run(data, out, preset="standard", split="train", overrides=(*SET, *more), **options)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return go(data, tmp_path_factory.mktemp("segment") / "run", val="val")


def test_the_network_is_there_and_knows_what_it_needs(run):
    model = Segmenter.from_pretrained(run.run / "segment" / "model")
    catalog = RunDir(run.run).load_catalog()
    assert model.class_names == catalog.classes
    assert model.long_side == 96
    assert model.settings.decoder == "deeplabv3plus"
    assert not list((run.run / "segment").rglob("checkpoint*"))


def test_the_summary_tells_what_was_done(run):
    summary = run["segment"].summary
    assert (summary["images"], summary["held_out"], summary["masks"]) == (9, 2, "tags")
    assert summary["steps"] == 6 == steps_logged(run.run / "segment" / "round-1")
    assert len(summary["rounds"]) == 2
    for agreement in (*(r["agreement"] for r in summary["rounds"]), summary["agreement"]):
        assert set(agreement) == {"trained", "held_out"}
        assert all(0 <= value <= 1 for value in agreement.values())
    assert set(summary["not_learnt"]) <= set(RunDir(run.run).load_catalog().classes)


@pytest.mark.parametrize("place", [0, 1, None])
def test_classes_that_the_network_does_not_find_are_named(run, monkeypatch, place):
    context = StageContext.reading(RunDir(run.run))
    classes = context.catalog.classes
    found = None if place is None else classes[place]
    pairs = [(s, run.run / "masks" / f"{s.id}.png") for s in context.catalog]

    def labelled(_, samples):
        # What the masks say, but of one class only.
        for sample in samples:
            mask = read_mask(run.run / "masks" / f"{sample.id}.png").clone()
            mask[mask != (classes.index(found) + 1 if found else 99)] = 0
            yield sample, mask

    monkeypatch.setattr(segment_stage, "label_samples", labelled)
    images = LabelledImages(*zip(*pairs, strict=True), pairs[:2], 1)
    model = Segmenter.from_pretrained(run.run / "segment" / "model")
    masked = {
        name
        for k, name in enumerate(classes)
        if any((read_mask(m) == k + 1).any() for _, m in pairs)
    }
    assert set(_agreements(context, model, images)["not_learnt"]) == masked - {found}
    none_held_out = LabelledImages(images.samples, images.masks, [], 1)
    told = _agreements(context, model, none_held_out)
    assert (told["agreement"], set(told["not_learnt"])) == (None, masked - {found})
    dry = replace(context, config=context.config.model_copy(update={"dry_run": 2}))
    assert _agreements(dry, model, images)["not_learnt"] == []


def test_half_of_what_balancing_does_to_the_logits_is_taken_back(data, tmp_path, monkeypatch):
    kept, shifts = segment_stage.MaskTask.__init__, []
    weights = []

    def noted(task, model, settings, given):
        kept(task, model, settings, given)
        weights.append(given)

    monkeypatch.setattr(segment_stage.MaskTask, "__init__", noted)
    monkeypatch.setattr(Segmenter, "shift_logits", lambda _, shift: shifts.append(shift))
    settings = ("segment.rounds=1", "segment.fit.epochs=1", "segment.truth_masks=true")
    go(data, tmp_path / "balanced", "segment.task.balance=1", *settings, until="segment")
    assert float(weights[0].log().abs().max()) > 0.5
    torch.testing.assert_close(shifts, [-0.5 * weights[0].log()])
    go(data, tmp_path / "even", "segment.task.balance=0", *settings, until="segment")
    assert weights[1] is None
    assert len(shifts) == 1


def test_the_second_round_has_masks_within_the_tags_of_every_image(run):
    labels = run.run / "segment" / "round-1" / "labels"
    catalog = RunDir(run.run).load_catalog()
    assert len(list(labels.rglob("*.png"))) == len(catalog) == 11
    for sample in catalog:
        mask = read_mask(labels / f"{sample.id}.png")
        assert tuple(mask.shape) == image_size(sample.image)
        assert set(mask.unique().tolist()) <= {0, *(tag + 1 for tag in sample.tags)}


def test_the_second_split_is_labelled_and_scored(run):
    catalog = RunDir(run.run).load_catalog(VALIDATION)
    assert len(catalog) == 4
    metrics = json.loads((run.run / "validate" / "metrics.json").read_text())
    assert metrics["images"] == 4
    assert metrics["mean_iou"] == run["validate"].summary["mean_iou"]
    assert set(metrics["iou"]) == {"background", *catalog.classes}
    masks = api.evaluate(
        run.run / "validate", data_masks(catalog), ids=[sample.id for sample in catalog]
    )
    assert masks.mean_iou == pytest.approx(metrics["mean_iou"])


def data_masks(catalog):
    return catalog.samples[0].mask.parent


def test_a_network_starts_from_classification(data, run, tmp_path):
    shutil.copytree(run.run, tmp_path / "run")
    # Of a learning rate of nothing, the network is what it started from.
    go(data, tmp_path / "run", "segment.fit.lr=1e-30", "segment.rounds=1", force=True)
    model = Segmenter.from_pretrained(tmp_path / "run" / "segment" / "model")
    state = load_file(run.run / "classify" / STATE)
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, state[f"backbone.{name}"])


def test_an_interrupted_run_goes_on_and_ends_the_same(data, run, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(run.run, out)
    stage = out / "segment"
    for path in (stage / "done.json", stage / "model" / "config.json"):
        path.unlink()
    some = sorted((stage / "round-1" / "labels").rglob("*.png"))
    some[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in some[1:]}
    first = (stage / "round-1" / "model" / "model.safetensors").stat().st_mtime_ns
    again = go(data, out, val="val")
    assert not again["segment"].skipped
    assert (stage / "round-1" / "model" / "model.safetensors").stat().st_mtime_ns == first
    assert times == {path: path.stat().st_mtime_ns for path in some[1:]}
    assert (stage / "model" / "model.safetensors").read_bytes() == (
        run.run / "segment" / "model" / "model.safetensors"
    ).read_bytes()


def test_the_bound_learns_from_truth_for_as_many_steps(data, run, tmp_path):
    out, source = tmp_path / "run", tmp_path / "data"
    shutil.copytree(data, source)
    masks = sorted((source / "masks").rglob("*.png"))
    for path in masks[:6]:
        path.unlink()
    bound = go(source, out, "segment.truth_masks=true", "segment.rounds=1")
    summary = bound["segment"].summary
    assert (summary["images"], summary["held_out"], summary["masks"]) == (4, 1, "truth")
    assert summary["steps"] == 6


def test_the_bound_needs_truth(data, run, tmp_path):
    source = tmp_path / "data"
    shutil.copytree(data, source)
    shutil.rmtree(source / "masks")
    with pytest.raises(DataError, match="no image has a true mask; put masks into"):
        go(source, tmp_path / "run", "segment.truth_masks=true")
    assert not (tmp_path / "run").exists()


def test_a_mask_that_does_not_fit_is_refused_before_training(data, run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run.run, out)
    shutil.rmtree(out / "segment")
    path = sorted((out / "masks").rglob("*.png"))[3]
    whole = path.read_bytes()
    write_mask(path, torch.zeros(5, 7, dtype=torch.uint8))
    with pytest.raises(RunError, match=r"is 7×5 with labels up to 0, but its image is"):
        go(data, out, val="val")
    write_mask(path, torch.full(read_mask_size(whole, tmp_path), 99, dtype=torch.uint8))
    with pytest.raises(RunError, match="with labels up to 99, but"):
        go(data, out, val="val")
    path.unlink()
    with pytest.raises(RunError, match=r"remove .*masks and run again"):
        go(data, out, val="val")
    assert not (out / "segment" / "log.jsonl").exists()


def read_mask_size(data, folder):
    (folder / "whole.png").write_bytes(data)
    return tuple(read_mask(folder / "whole.png").shape)


def test_another_backbone_has_weights_of_its_own(data, run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run.run, out)
    go(
        data,
        out,
        "segment.backbone.name=resnet26d",
        "segment.backbone.weights=none",
        "segment.network.decoder=deeplabv2",
        "segment.rounds=1",
        "segment.fit.epochs=1",
        force=True,
    )
    model = Segmenter.from_pretrained(out / "segment" / "model")
    assert model.backbone_settings.name == "resnet26d"
