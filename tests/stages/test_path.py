"""The whole path on a handful of generated pictures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from smallest import SMALLEST
from weakseg import api
from weakseg.config.run_config import load_config
from weakseg.data.images import image_size, read_image, read_mask
from weakseg.demo_data.data_set import write_demo
from weakseg.ops.cam_methods import CAM_METHODS, of_features
from weakseg.ops.refinement import REFINEMENTS, Refinement
from weakseg.predict import Labeler
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.stages.seeds import _thresholds
from weakseg.types import DataError

SET = (*SMALLEST, "prototypes.clusters=3")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("path") / "data"
    write_demo(folder, count=12, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("path") / "run"
    return api.run(data, out, preset="fast", until="evaluate", overrides=SET)


@pytest.fixture
def copied(run, tmp_path):
    """The run's folder, to be changed."""
    return shutil.copytree(run.run, tmp_path / "copied")


def images_of(run):
    catalog = json.loads((run.run / "catalog.json").read_text())
    return catalog["classes"], catalog["samples"]


def test_every_image_gets_a_mask_of_its_size_within_its_tags(run):
    classes, samples = images_of(run)
    assert len(samples) == 12
    for sample in samples:
        mask = read_mask(run.run / "masks" / f"{sample['id']}.png")
        assert tuple(mask.shape) == image_size(Path(sample["image"]))
        assert set(mask.unique().tolist()) <= {0, *(classes.index(t) + 1 for t in sample["tags"])}


def test_maps_are_half_floats_at_stride_4_of_the_tags_alone(run):
    classes, samples = images_of(run)
    for sample in samples:
        kinds = {
            "cams": ["spotlight"],
            "spread": ["spotlight"],
            "weigh": ["compensation", "weighted", "compensation_spread", "weighted_spread"],
            "evidence": ["evidence"],
        }
        for stage, names in kinds.items():
            with np.load(run.run / stage / f"{sample['id']}.npz") as file:
                assert [classes[k] for k in file["classes"]] == sorted(
                    sample["tags"], key=classes.index
                )
                height, width = file["size"]
                assert (height, width) == image_size(Path(sample["image"]))
                assert {*file.files} == {*names, "classes", "size"}
                for name in names:
                    maps = file[name]
                    assert maps.dtype == np.float16
                    assert maps.shape[0] == len(sample["tags"])
                    assert max(maps.shape[1:]) == 24
                    assert float(maps.max(initial=0)) <= 1


def test_scores_are_written(run):
    metrics = json.loads((run.run / "evaluate" / "metrics.json").read_text())
    kinds = {"spotlight", "compensation", "weighted"}
    assert set(metrics["maps"]) == {
        *kinds,
        *(f"{kind}, spread" for kind in kinds),
        "evidence",
        "walk",
    }
    for kind in metrics["maps"].values():
        assert kind["oracle"]["mean_iou"] >= kind["blind"]["mean_iou"]
    walk = metrics["maps"]["walk"]["blind"]["mean_iou"]
    assert metrics["masks"]["mean_iou"] == pytest.approx(walk, abs=1e-6)


def test_seeds_are_of_the_tags_background_or_unknown(run):
    classes, samples = images_of(run)
    for sample in samples:
        seeds = read_mask(run.run / "seeds" / f"{sample['id']}.png")
        own = {classes.index(tag) + 1 for tag in sample["tags"]}
        assert set(seeds.unique().tolist()) <= {0, 255, *own}


def test_boundaries_and_walked_maps_share_a_grid(run):
    _, samples = images_of(run)
    for sample in samples:
        kept = ImageMaps.load(run.run, "walk", sample["id"])
        walked, boundary = kept.maps["walk"], kept.boundary
        assert walked.shape == (len(sample["tags"]), *boundary.shape)
        assert 0 <= float(boundary.min()) <= float(boundary.max()) <= 1


@pytest.mark.parametrize("kind", ["none", "crf", "pamr", "irn+crf"])
def test_every_refinement_makes_masks_within_the_tags(run, copied, data, kind):
    other = api.run(
        data,
        copied,
        preset="fast",
        until="masks",
        overrides=(*SET, f"refine.kind={kind}"),
        force=True,
    )
    made = {stage.name for stage in other.stages if not stage.skipped}
    assert made == {"masks"}
    assert ("relate" in {stage.name for stage in other.stages}) == kind.startswith("irn")
    classes, samples = images_of(run)
    for sample in samples:
        mask = read_mask(copied / "masks" / f"{sample['id']}.png")
        assert set(mask.unique().tolist()) <= {0, *(classes.index(t) + 1 for t in sample["tags"])}


def test_without_prototypes_and_spreading_there_is_no_such_stage(run, data, tmp_path):
    bare = api.run(
        data,
        tmp_path / "bare",
        preset="fast",
        until="masks",
        overrides=(
            *SET,
            "spread.prototypes=false",
            "spread.spreading=false",
            "evidence.images=0",
            "refine.kind=none",
            "refine.maps=compensation",
        ),
    )
    names = ["classify", "cams", "recalibrate", "weigh", "masks"]
    assert [stage.name for stage in bare.stages] == names
    assert bare["masks"].summary["maps"] == "compensation"


def test_a_finished_run_does_nothing_again(run, data):
    again = api.run(data, run.run, preset="fast", until="evaluate", overrides=SET)
    assert all(stage.skipped for stage in again.stages)


def test_a_report_is_written_once(run, data):
    page = run.run / "report.html"
    before = page.stat().st_mtime_ns
    api.run(data, run.run, preset="fast", until="evaluate", overrides=SET)
    assert page.stat().st_mtime_ns == before
    page.unlink()
    api.run(data, run.run, preset="fast", until="evaluate", overrides=SET)
    assert "Images to look at first" in page.read_text(encoding="utf-8")


def test_missing_maps_alone_are_made_again_and_are_the_same(run, data):
    stage = run.run / "cams"
    files = sorted(stage.rglob("*.npz"))
    before = {file: np.load(file)["spotlight"] for file in files}
    times = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    (stage / "done.json").unlink()
    api.run(data, run.run, preset="fast", until="evaluate", overrides=SET)
    assert all(file.stat().st_mtime_ns == times[file] for file in files[1:])
    np.testing.assert_allclose(np.load(files[0])["spotlight"], before[files[0]], atol=2e-3)


def test_a_plain_network_has_the_spotlight_alone(data, tmp_path):
    plain = api.run(
        data,
        tmp_path / "plain",
        preset="fast",
        until="evaluate",
        overrides=(*SET, "amr.compensation=false"),
    )
    assert plain["masks"].summary["maps"] == "walk"
    assert set(plain["masks"].summary["thresholds"]) == {
        "spotlight",
        "spotlight, spread",
        "evidence",
        "walk",
    }


def test_a_fixed_threshold_is_taken_as_it_is(data, copied):
    fixed = api.run(
        data,
        copied,
        preset="fast",
        until="evaluate",
        overrides=(*SET, "refine.threshold=0.77"),
        force=True,
    )
    anew = {stage.name for stage in fixed.stages if not stage.skipped}
    assert anew == {"masks", "verify", "evaluate"}
    assert fixed["masks"].summary["thresholds"]["walk"] == 0.77


@pytest.mark.parametrize("maps", ["spotlight", "compensation", "weighted"])
def test_masks_come_of_the_maps_that_are_asked_for(data, run, copied, maps):
    other = api.run(
        data,
        copied,
        preset="fast",
        until="masks",
        overrides=(*SET, f"refine.maps={maps}", "refine.kind=none", "evidence.images=0"),
        force=True,
    )
    assert other["masks"].summary["maps"] == f"{maps}, spread"
    folder = copied / ("spread" if maps == "spotlight" else "weigh")
    _, samples = images_of(run)
    for sample in samples:
        with np.load(folder / f"{sample['id']}.npz") as file:
            key = "spotlight" if maps == "spotlight" else f"{maps}_spread"
            seen = bool((file[key] >= 0.5).any())
        mask = read_mask(copied / "masks" / f"{sample['id']}.png")
        assert bool((mask > 0).any()) == seen


def test_the_papers_supervision_moves_both_branches(data, tmp_path):
    paper = api.run(
        data,
        tmp_path / "paper",
        preset="fast",
        until="evaluate",
        overrides=(
            *SET,
            "amr.supervision=maps",
            "amr.placement=block",
            "refine.kind=none",
            "evidence.images=0",
        ),
    )
    kinds = {"spotlight", "compensation", "weighted"}
    expected = {*kinds, *(f"{kind}, spread" for kind in kinds)}
    assert set(paper["masks"].summary["thresholds"]) == expected
    before = load_file(tmp_path / "paper" / "classify" / "state.safetensors")
    after = load_file(tmp_path / "paper" / "recalibrate" / "state.safetensors")
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert "spotlight.head.weight" in moved


def test_recalibration_leaves_the_spotlight_as_it_was(run):
    before = load_file(run.run / "classify" / "state.safetensors")
    after = load_file(run.run / "recalibrate" / "state.safetensors")
    assert before.keys() < after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    head = "compensation.head.weight"
    assert not torch.equal(after[head], after["spotlight.head.weight"])


def test_the_labels_to_learn_from_are_what_the_spotlights_maps_are_sure_of(run):
    _, samples = images_of(run)
    for sample in samples:
        labels = read_mask(run.run / "recalibrate" / "labels" / f"{sample['id']}.png")
        kept = ImageMaps.load(run.run, "spread", sample["id"])
        if not len(kept.classes):
            assert not labels.any()
            continue
        best, place = kept.maps["spotlight"].max(dim=0)
        expected = (kept.classes[place] + 1).to(torch.uint8)
        expected[best <= 0.67] = 255
        expected[best < 0.33] = 0
        assert torch.equal(labels, expected)


def test_agreed_labels_leave_out_what_only_spreading_found(data, copied):
    again = api.run(
        data,
        copied,
        preset="fast",
        until="masks",
        overrides=(*SET, "recalibrate.target=agreed"),
        force=True,
    )
    least = again["masks"].summary["thresholds"]["spotlight"]
    _, samples = images_of(again)
    left_out = 0
    for sample in samples:
        labels = read_mask(copied / "recalibrate" / "labels" / f"{sample['id']}.png")
        raw = ImageMaps.load(copied, "cams", sample["id"])
        wide = ImageMaps.load(copied, "spread", sample["id"])
        if not len(raw.classes):
            continue
        best, place = wide.maps["spotlight"].max(dim=0)
        expected = (wide.classes[place] + 1).to(torch.uint8)
        expected[best <= 0.67] = 255
        expected[best < 0.33] = 0
        only = (raw.maps["spotlight"].amax(dim=0) < least) & (expected > 0) & (expected < 255)
        left_out += int(only.sum())
        expected[only] = 255
        assert torch.equal(labels, expected)
    assert left_out


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_transformer_goes_the_whole_path(name, data, tmp_path):
    settings = (f"backbone.name={name}", "backbone.weights=none", "segment.network.decoder=fpn")
    summary = api.run(
        data,
        tmp_path / "run",
        preset="fast",
        until="validate",
        split="train",
        val="val",
        overrides=(*SET, *settings),
    )
    assert 0 <= summary["validate"].summary["mean_iou"] <= 1
    assert (
        len(list((tmp_path / "run" / "masks").glob("*.png"))) == summary["masks"].summary["images"]
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_go_the_whole_path(channels, data, tmp_path):
    """Four channels are read as they are, not as transparency; one is gray."""
    folder = shutil.copytree(data, tmp_path / "data")
    rng = np.random.default_rng(0)
    for path in (folder / "images").iterdir():
        pixels = np.array(Image.open(path).convert("RGB"))
        near_infrared = rng.integers(0, 256, (*pixels.shape[:2], 1), dtype=np.uint8)
        path.unlink()
        Image.fromarray(np.concatenate([pixels, near_infrared], 2), "RGBA").save(
            path.with_suffix(".png")
        )
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace(".jpg", ".png"))
    settings = (f"backbone.in_chans={channels}", "backbone.name=resnet18", "backbone.weights=none")
    run = tmp_path / "run"
    summary = api.run(
        folder,
        run,
        preset="fast",
        until="segment",
        overrides=(*SET, *settings, "segment.network.decoder=fpn"),
    )
    assert summary["masks"].summary["images"] > 0
    labeler = Labeler.from_run(run)
    assert labeler.segmenter.channels == channels
    image = next((folder / "images").iterdir())
    assert labeler.label([image])[0].shape == image_size(image)
    pixels = np.array(Image.open(image))
    wanted = pixels if channels == 4 else read_image(image, channels=1)[0].numpy()
    assert torch.equal(labeler.label([wanted])[0], labeler.label([image])[0])
    with pytest.raises(ValueError, match=rf"uint8 .H,W,{channels}."):
        labeler.label([pixels[..., :3]])


def test_images_of_other_channels_are_refused_before_anything_is_trained(data, tmp_path):
    with pytest.raises(DataError, match="3 channels instead of the 4 that"):
        api.run(
            data,
            tmp_path / "run",
            preset="standard",
            until="classify",
            overrides=(*SET, "backbone.in_chans=4"),
        )


def test_a_new_cam_method_and_a_new_refinement_are_a_row_each(data, tmp_path, monkeypatch):
    def shy(features, weights):
        return torch.einsum("kc,bchw->bkhw", weights, features).relu() * 0 + 1

    def whole(image, maps, threshold, settings):
        shares = torch.zeros(len(maps) + 1, *image.shape[-2:])
        shares[-1] = 1
        return shares

    monkeypatch.setitem(CAM_METHODS, "shy", of_features(shy))
    monkeypatch.setitem(REFINEMENTS, "whole", Refinement(shares=whole))
    settings = ("cams.method=shy", "refine.kind=whole", "amr.compensation=false")
    plain = ("spread.prototypes=false", "spread.spreading=false", "evidence.images=0")
    summary = api.run(
        data, tmp_path / "run", preset="fast", until="masks", overrides=(*SET, *settings, *plain)
    )
    classes, samples = images_of(summary)
    tagged = [sample for sample in samples if sample["tags"]]
    for sample in tagged:
        kept = ImageMaps.load(summary.run, "cams", sample["id"])
        assert float(kept.maps["spotlight"].min()) == 1
        mask = read_mask(summary.run / "masks" / f"{sample['id']}.png")
        assert set(mask.unique().tolist()) == {
            1 + max(classes.index(tag) for tag in sample["tags"])
        }


def test_the_masks_foreground_is_counted(run, data, copied):
    summary = run["masks"].summary
    _, samples = images_of(run)
    shares, without = [], []
    for sample in samples:
        mask = read_mask(run.run / "masks" / f"{sample['id']}.png")
        shares.append(float((mask > 0).float().mean()))
        if sample["tags"] and not mask.any():
            without.append(sample["id"])
    assert summary["mean_foreground"] == pytest.approx(sum(shares) / len(shares))
    assert summary["tagged_without_mask"] == without
    # A stage that was interrupted counts the masks that are there already, too.
    (copied / "masks" / "done.json").unlink()
    again = api.run(data, copied, preset="fast", until="masks", overrides=SET)
    assert again["masks"].summary["mean_foreground"] == pytest.approx(summary["mean_foreground"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("seeds.foreground=0.8", "seeds.background=0.1"), (0.8, 0.1)),
        (("seeds.foreground=0.8",), (0.8, 1 / 3)),
        (("seeds.background=0.1",), (2 / 3, 0.1)),
        ((), (2 / 3, 1 / 3)),
    ],
)
def test_thresholds_of_seeds_that_are_set_are_taken(run, settings, expected):
    context = StageContext.reading(RunDir(run.run))
    config = load_config("fast", overrides=(*SET, *settings))
    assert _thresholds(replace(context, config=config)) == pytest.approx(expected)
