"""Masks of maps that another program made: `weakseg refine`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from weakseg import api
from weakseg.cli import main
from weakseg.data.images import read_mask
from weakseg.data.map_files import read_maps
from weakseg.demo_data.data_set import write_demo
from weakseg.runs.image_maps import ImageMaps
from weakseg.sources.source import open_catalog
from weakseg.types import ConfigError, DataError, RunError

SET = (
    "fit.workers=0",
    "cams.long_side=96",
    "relate.fit.epochs=1",
    "relate.fit.batch_size=4",
    "relate.fit.workers=0",
    "relate.augment.crop=64",
    "relate.augment.long_side=[64, 80]",
    "device=cpu",
)
WRITERS = ("names", "listed", "numbers", "npy", "png")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refine") / "data"
    write_demo(folder, count=10, seed=1)
    return folder


def truth_maps(catalog, sample):
    """The truth as maps of all classes [K,h,w], half as high where it is not the class."""
    mask = read_mask(sample.mask)[::2, ::2]
    return np.stack([(mask == k + 1).numpy() * 7.0 for k in range(len(catalog.classes))])


def write_maps(folder, catalog, how="names"):
    folder.mkdir(exist_ok=True)
    for sample in catalog:
        maps, names = truth_maps(catalog, sample), list(catalog.classes)
        if how == "names":
            np.savez(folder / f"{sample.id}.npz", **dict(zip(names, maps, strict=True)))
        elif how == "listed":
            np.savez(folder / f"{sample.id}.npz", maps=maps, classes=np.array(names))
        elif how == "numbers":
            order = np.arange(len(names))[::-1]
            np.savez(folder / f"{sample.id}.npz", maps=maps[order], classes=order)
        elif how == "npy":
            np.save(folder / f"{sample.id}.npy", maps)
        else:
            (folder / sample.id).mkdir(exist_ok=True)
            for name, value in zip(names, maps, strict=True):
                picture = Image.fromarray((value * 30).astype(np.uint8))
                picture.save(folder / sample.id / f"{name}.png")
    return folder


@pytest.mark.parametrize("how", WRITERS)
def test_every_form_gives_the_maps_of_the_tags(how, data, tmp_path):
    catalog = open_catalog(data)
    folder = write_maps(tmp_path / "maps", catalog, how)
    for sample in catalog:
        found = read_maps(folder, sample, catalog.classes)
        expected = torch.from_numpy(truth_maps(catalog, sample)[sorted(sample.tags)]).float()
        if how == "png":
            expected = expected * 30
        if sample.tags:
            assert torch.equal(found, expected)
        else:
            assert not len(found)


def test_masks_of_true_maps_are_the_truth(data, tmp_path):
    catalog = open_catalog(data)
    maps = write_maps(tmp_path / "maps", catalog)
    out = tmp_path / "run"
    words = ["refine", str(data), str(maps), "--out", str(out), "--preset", "fast"]
    words += ["--until", "evaluate", "--set", "refine.kind=none"]
    for setting in SET:
        words += ["--set", setting]
    assert main(words) == 0
    scores = json.loads((out / "evaluate" / "metrics.json").read_text())
    assert scores["masks"]["mean_iou"] > 0.9
    assert set(scores["maps"]) == {"spotlight"}
    assert (out / "report.html").is_file()
    sample = next(sample for sample in catalog if sample.tags)
    kept = ImageMaps.load(out, "cams", sample.id)
    assert float(kept.maps["spotlight"].max()) == 1
    assert kept.classes.tolist() == sorted(sample.tags)


def test_they_walk_and_changed_maps_are_noticed(data, tmp_path):
    catalog = open_catalog(data)
    maps = write_maps(tmp_path / "maps", catalog)
    out = tmp_path / "run"
    options = {"preset": "fast", "until": "evaluate", "overrides": SET}
    first = api.refine(data, maps, out, **options)
    names = [stage.name for stage in first.stages]
    assert names == ["classify", "cams", "seeds", "relate", "walk", "masks", "verify", "evaluate"]
    assert first["masks"].summary["maps"] == "walk"
    again = api.refine(data, maps, out, **options)
    assert all(stage.skipped for stage in again.stages)
    path = maps / f"{catalog.samples[0].id}.npz"
    np.savez(path, **{name: np.ones((4, 4)) for name in catalog.classes})
    with pytest.raises(RunError, match="inputs"):
        api.refine(data, maps, out, **options)


def broken(folder, sample, classes):
    path = folder / f"{sample.id}.npz"
    own = classes[sorted(sample.tags)[0]]
    good = {name: np.ones((3, 4)) for name in classes}
    return {
        "missing": (path.unlink, f"there are no maps of image '{sample.id}'"),
        "damaged": (lambda: path.write_bytes(b"PK\3\4 no archive"), "cannot be read"),
        "pickled": (lambda: np.savez(path, x=np.array([{}])), "without pickled objects"),
        "no tag": (lambda: np.savez(path, other=np.ones((2, 2))), f"there is no map of '{own}'"),
        "negative": (lambda: np.savez(path, **{**good, own: -np.ones((3, 4))}), "not negative"),
        "nan": (lambda: np.savez(path, **{**good, own: np.full((3, 4), np.nan)}), "not negative"),
        "shape": (lambda: np.savez(path, **{**good, own: np.ones(3)}), "one size|maps .h,w."),
        "listed": (lambda: np.savez(path, maps=np.ones((2, 3, 3)), classes=[0]), "of 1 classes"),
        "number": (lambda: np.savez(path, maps=np.ones((1, 3, 3)), classes=[99]), "none of 0"),
    }


@pytest.mark.parametrize(
    "how",
    ["missing", "damaged", "pickled", "no tag", "negative", "nan", "shape", "listed", "number"],
)
def test_what_cannot_be_used_is_said(how, data, tmp_path):
    catalog = open_catalog(data)
    folder = write_maps(tmp_path / "maps", catalog)
    sample = next(sample for sample in catalog if sample.tags)
    spoil, said = broken(folder, sample, catalog.classes)[how]
    spoil()
    with pytest.raises(DataError, match=said):
        read_maps(folder, sample, catalog.classes)


def test_a_folder_that_is_none_is_said_before_anything_runs(data, tmp_path, capsys):
    words = ["refine", str(data), str(tmp_path / "none"), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert not (tmp_path / "run" / "classify").exists()
    with pytest.raises(SystemExit):
        main(["refine", str(data), "--out", str(tmp_path / "run")])
    assert "MAPS" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [("spread.prototypes=true",), ("amr.compensation=true", "amr.supervision=maps")],
)
def test_settings_that_need_the_maps_classifier_are_refused(settings, data, tmp_path):
    with pytest.raises(ConfigError, match=f"{settings[-1]} needs the classifier"):
        api.refine(data, tmp_path, tmp_path / "run", overrides=settings)


def test_a_compensation_branch_learns_from_maps_of_another_program(data, tmp_path):
    catalog = open_catalog(data)
    folder = write_maps(tmp_path / "maps", catalog)
    fit = ("recalibrate.fit.epochs=2", "recalibrate.fit.batch_size=4", "recalibrate.fit.workers=0")
    small = ("augment.crop=64", "augment.long_side=[64, 80]", "cams.scales=[1.0]")
    asked = ("amr.compensation=true", "spread.spreading=true", "refine.kind=none")
    summary = api.refine(
        data,
        folder,
        tmp_path / "run",
        until="evaluate",
        overrides=(*SET, *fit, *small, *asked),
    )
    assert {"spread", "recalibrate", "weigh"} <= {stage.name for stage in summary.stages}
    sample = next(sample for sample in catalog if sample.tags)
    kept = ImageMaps.load(summary.run, "weigh", sample.id)
    assert {"compensation", "weighted", "compensation_spread", "weighted_spread"} == set(kept.maps)
    raw = ImageMaps.load(summary.run, "cams", sample.id).maps["spotlight"]
    own, grid = kept.maps["compensation"], kept.maps["compensation"].shape[-2:]
    wide = functional.interpolate(raw[None], size=grid, mode="bilinear", antialias=True)[0]
    peak = (wide + own).amax(dim=(1, 2), keepdim=True)
    assert float((kept.maps["weighted"] - (wide + own) / peak).abs().max()) < 0.05
    assert (summary.run / "masks" / f"{sample.id}.png").is_file()
