"""Stages on hand-made maps and features: values that only the right computation gives."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from weakseg import api
from weakseg.config.run_config import load_config
from weakseg.data.images import image_size, read_mask
from weakseg.demo_data.data_set import write_demo
from weakseg.metrics.confusion import ConfusionMatrix, mean_iou
from weakseg.ops.affinity import displacements
from weakseg.ops.walk import random_walk
from weakseg.pipeline import STAGES, Stage, run_pipeline
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.sources.source import open_catalog
from weakseg.stages.relate import boundaries
from weakseg.stages.seeds import seeds
from weakseg.stages.walk import walk
from weakseg.types import Catalog, Sample

QUIET = Console(quiet=True)
BARE = ("spread.prototypes=false", "spread.spreading=false", "evidence.images=0")


def context_of(folder, stage, catalog, overrides=()):
    config = load_config("fast", overrides=[*BARE, "fit.workers=0", *overrides])
    return StageContext(config, catalog, RunDir(folder), StageDir(folder / stage), QUIET)


# Batch mates: every image has its own maps and features.


@pytest.fixture(scope="module")
def maps_of_batches(tmp_path_factory):
    """The maps of six images of one size, computed one by one and all together."""
    root = tmp_path_factory.mktemp("batches")
    (root / "data").mkdir()
    rows = ["image,tags"]
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC)
        image.save(root / "data" / f"{number}.png")
        rows.append(f"{number}.png,{'cat' if number % 2 else 'dog' if number else 'cat dog'}")
    (root / "data" / "labels.csv").write_text("\n".join([*rows, ""]))
    overrides = (
        "backbone.weights=none", "fit.epochs=1", "fit.batch_size=4", "fit.workers=0", "augment.crop=64",
        "augment.long_side=[64, 80]", "cams.long_side=96", "cams.scales=[1.0]", "spread.scales=[1.0]",
        "spread.prototypes=false", "precision=fp32", "device=cpu", "amr.compensation=false",
    )  # fmt: skip
    runs = []
    for size in (1, 6):
        out = root / f"by {size}"
        if runs:
            shutil.copytree(runs[0], out, ignore=shutil.ignore_patterns("cams", "spread", ".lock"))
        options = {"preset": "fast", "until": "spread", "skip_bad": True}
        api.run(
            root / "data",
            out,
            overrides=[*overrides, f"cams.batch_size={size}"],
            console=QUIET,
            **options,
        )
        runs.append(out)
    return runs


@pytest.mark.parametrize("stage", ["cams", "spread"])
def test_every_image_has_maps_of_its_own(maps_of_batches, stage):
    alone, together = (
        [ImageMaps.load(run, stage, str(k)).maps["spotlight"] for k in range(6)]
        for run in maps_of_batches
    )
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
    assert not torch.allclose(alone[1], alone[3], atol=0.05)  # or the test could not tell


# Boundaries: the mirror image's logits are flipped back.


def test_boundaries_are_the_mean_over_an_image_and_its_mirror_image_turned_back():
    logits = torch.randn(2, 1, 5, 7)
    mirrored = torch.randn(2, 1, 5, 7)
    net = SimpleNamespace(
        boundary_head=lambda features, size: torch.cat([logits, mirrored.flip(-1)])
    )
    found = boundaries([], net, (5, 7))
    torch.testing.assert_close(found, ((logits + mirrored) / 2).sigmoid()[:, 0])


# Seeds: a class where the high threshold is passed, background where the low one is not.


def hill(folder, stage, size=24):
    """One image of one colour; its map is 0.9 inside, 0.5 around, 0.1 outside."""
    Image.new("RGB", (4 * size, 4 * size), (90, 120, 150)).save(folder / "a.png")
    values = torch.full((1, size, size), 0.1)
    values[:, 4:20, 4:20] = 0.5
    values[:, 8:16, 8:16] = 0.9
    maps = ImageMaps(torch.tensor([1]), (4 * size, 4 * size), {"spotlight": values})
    maps.save(StageDir(folder / "cams"), "a")
    catalog = Catalog(("cat", "dog"), (Sample("a", folder / "a.png", frozenset([1])),))
    return catalog, values


def test_seeds_are_sure_of_the_top_and_of_what_is_low(tmp_path):
    catalog, _ = hill(tmp_path, "seeds")
    overrides = ("seeds.foreground=0.7", "seeds.background=0.3", "amr.compensation=false",
                 "seeds.crf.gaussian_weight=0", "seeds.crf.bilateral_weight=0")  # fmt: skip
    seeds(context_of(tmp_path, "seeds", catalog, overrides))
    found = read_mask(tmp_path / "seeds" / "a.png")
    height, width = found.shape
    at = {place: int(found[height * place // 24, width * place // 24]) for place in (1, 6, 12)}
    assert at == {1: 0, 6: 255, 12: 2}


# Walk: it starts from a power of the maps.


@pytest.mark.parametrize("power", [1.0, 1.5, 3.0])
def test_a_walk_starts_from_the_maps_power(tmp_path, monkeypatch, power):
    catalog, values = hill(tmp_path, "walk")
    wall = torch.zeros(24, 24)
    wall[:, 11] = 0.8
    network = SimpleNamespace(pyramid=lambda pixels: [pixels.float()])
    network.to = lambda *_, **__: network
    module = "weakseg.stages.walk"
    monkeypatch.setattr(f"{module}.load_network", lambda _: network)
    monkeypatch.setattr(f"{module}.load_relations", lambda _: network)
    monkeypatch.setattr(f"{module}.boundaries", lambda *_: wall[None])
    monkeypatch.setattr(f"{module}.grid_size", lambda *_: (24, 24))
    overrides = (
        f"walk.power={power}",
        "walk.steps=4",
        "cams.long_side=96",
        "amr.compensation=false",
    )
    published = "walk.background=false"
    walk(context_of(tmp_path, "walk", catalog, (*overrides, published)))
    expected = random_walk(values**power, wall, radius=5, beta=10, steps=4)
    found = ImageMaps.load(tmp_path, "walk", "a")
    torch.testing.assert_close(found.maps["walk"], expected / expected.max(), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.boundary, wall, atol=1e-3, rtol=0)
    assert len(displacements(5)) == 34


# Masks: from maps that are nearly the truth come masks that are nearly the truth.


def test_masks_of_good_maps_reach_a_floor(tmp_path):
    write_demo(tmp_path / "data", count=6, seed=3)
    catalog = open_catalog(tmp_path / "data")

    def cams(context):
        for sample in context.catalog:
            truth, classes = read_mask(sample.mask), sorted(sample.tags)
            full = torch.stack([(truth == k + 1).float() for k in classes]) if classes else None
            height, width = image_size(sample.image)
            grid = (height // 4, width // 4)
            if full is None:
                maps = torch.zeros(0, *grid)
            else:
                maps = torch.nn.functional.interpolate(
                    full[None], size=grid, mode="bilinear", antialias=True
                )[0]
                maps = torch.nn.functional.avg_pool2d(maps, 3, 1, 1)
            ImageMaps(torch.tensor(classes), (height, width), {"spotlight": maps}).save(
                context.dir, sample.id
            )
        return {"images": len(context.catalog)}

    real = {stage.name: stage for stage in STAGES}
    table = [Stage("cams", 1, (), ("cams",), cams), real["masks"]]
    for kind in ("none", "crf", "pamr"):
        config = load_config(
            "demo",
            overrides=[*BARE, f"refine.kind={kind}", "amr.compensation=false", "fit.workers=0"],
        )
        run_pipeline(config, RunDir(tmp_path / kind), catalog=catalog, stages=table, console=QUIET)
        matrix = ConfusionMatrix(len(catalog.classes))
        for sample in catalog:
            matrix.update(
                read_mask(tmp_path / kind / "masks" / f"{sample.id}.png"), read_mask(sample.mask)
            )
        assert float(mean_iou(matrix.counts)) > 0.6, kind
