"""A small run as the stages leave it, made without training: maps are drawn, masks and scores real."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from weakseg.config.run_config import load_config
from weakseg.ops.cams import weighted_cam
from weakseg.pipeline import STAGES, Stage, run_pipeline
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, Sample

EVIL = '<script>alert("1")</script>'
QUIET = Console(quiet=True)
H, W = 48, 64


def blob(y, x, size=5.0):
    """A map [12,16] in 0..1 that peaks at a place of the image, given in shares."""
    rows, columns = np.mgrid[0:12, 0:16]
    distance = (rows - 12 * y) ** 2 + (columns - 16 * x) ** 2
    hill = np.exp(-distance / size**2)
    return hill / hill.max()


BARE = (
    "spread.prototypes=false",
    "spread.spreading=false",
    "evidence.images=0",
    "refine.kind=none",
    "amr.supervision=maps",
)


class Drawing:
    """What goes into a run: samples with drawn maps."""

    def __init__(self, folder, classes):
        self.folder, self.classes = folder, tuple(classes)
        self.samples, self.maps = [], {}

    def add(self, sample_id, tags, spotlight=None, compensation=None, truth=False):
        """An image with tags (names) and a map [12,16] per tag and branch; blobs by default."""
        image = self.folder / "photos" / f"{len(self.samples)}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(self.samples))
        Image.fromarray(rng.integers(0, 255, (H, W, 3), dtype=np.uint8)).save(image)
        indices = sorted(self.classes.index(tag) for tag in tags)
        usual = [blob(0.5, (k + 1) / (len(indices) + 1)) for k in range(len(indices))]
        spotlight = usual if spotlight is None else spotlight
        self.maps[sample_id] = (spotlight, spotlight if compensation is None else compensation)
        mask = None
        if truth:
            mask = self.folder / "truth" / f"{len(self.samples)}.png"
            mask.parent.mkdir(exist_ok=True)
            labels = np.zeros((H, W), np.uint8)
            labels[10:40, 5:60] = indices[0] + 1 if indices else 0
            labels[:2] = 255
            Image.fromarray(labels).save(mask)
        self.samples.append(Sample(sample_id, image, frozenset(indices), mask))

    @property
    def catalog(self):
        return Catalog(self.classes, tuple(sorted(self.samples, key=lambda s: s.id)))

    def run(
        self,
        name="run",
        *,
        branches=2,
        overrides=(),
        until=None,
        force=False,
        verdicts=(),
        estimate=None,
        figures=None,
    ):
        """The finished run's folder."""
        judged = {"verdicts": list(verdicts), "estimate": estimate, "classes": figures or {}}

        def classify(context):
            steps = [
                {
                    "step": s,
                    "loss": 2 / s,
                    "spotlight": 1 / s,
                    "lr": 0.01 - s * 1e-5,
                    "images_per_second": 9.0,
                }
                for s in range(1, 201)
            ]
            context.dir.write_text("log.jsonl", "".join(json.dumps(s) + "\n" for s in steps))
            return {"images": len(context.catalog), "steps": 200, "resumed_at": 0, "loss": 0.01}

        def kept(sample, branch):
            return torch.tensor(np.array(self.maps[sample.id][branch])).float().view(-1, 12, 16)

        def save(context, sample, **maps):
            classes = torch.tensor(sorted(sample.tags), dtype=torch.int64)
            ImageMaps(classes, (H, W), maps).save(context.dir, sample.id)

        def cams(context):
            for sample in context.catalog:
                save(context, sample, spotlight=kept(sample, 0))
            return {"images": len(context.catalog)}

        def weigh(context):
            for sample in context.catalog:
                spotlight, compensation = kept(sample, 0), kept(sample, 1)
                weighted = spotlight
                if sample.tags:
                    weighted = weighted_cam(spotlight, compensation, context.config.cams.xi)
                save(context, sample, compensation=compensation, weighted=weighted)
            return {"images": len(context.catalog)}

        def evidence(context):
            for sample in context.catalog:
                save(context, sample, evidence=kept(sample, 0))
            return {"images": len(context.catalog)}

        judging = "evidence.images=600" in overrides
        real = {stage.name: stage for stage in STAGES}
        table = [
            Stage("classify", 1, (), ("fit",), classify),
            Stage("cams", 1, ("classify",), ("cams",), cams),
            *([Stage("weigh", 1, ("cams",), ("cams",), weigh)] if branches == 2 else []),
            *([Stage("evidence", 1, ("cams",), ("cams",), evidence)] if judging else []),
            real["masks"],
            Stage("verify", 1, ("masks",), (), lambda _: judged),
            real["evaluate"],
        ]
        one = ["amr.compensation=false"] if branches == 1 else []
        path = self.folder / name
        run_pipeline(
            load_config("fast", overrides=[*BARE, *one, *overrides]), RunDir(path), catalog=self.catalog, source=self.folder,
            stages=table, until=until, force=force, console=QUIET,
        )  # fmt: skip
        return path


@pytest.fixture(scope="session")
def drawing_in():
    """Makes drawings in a folder, with classes."""
    return Drawing


@pytest.fixture
def drawing(tmp_path):
    return Drawing(tmp_path, ["cat", "cow", "dog"])


@pytest.fixture(scope="module")
def evil_run(tmp_path_factory):
    """A run with every kind of doubt, with truth, and with names that are HTML."""
    drawing = Drawing(
        tmp_path_factory.mktemp("evil"), ["cow", f"dog & {EVIL}", '" onclick="alert(1)']
    )
    dog, third = drawing.classes[1:]
    for k in range(6):
        drawing.add(f"plain/{k}", ["cow"], truth=k < 4)
    drawing.add(f"{EVIL.replace('/', '')} & 'x\"", [dog], truth=True)
    drawing.add("apart", ["cow"], [blob(0.2, 0.1, 3)], [blob(0.8, 0.9, 3)])
    drawing.add("both", ["cow", dog], [blob(0.5, 0.5), blob(0.5, 0.52)], truth=True)
    drawing.add("missing", ["cow", third], [blob(0.5, 0.5), np.zeros((12, 16))])
    drawing.add("untagged", [], truth=True)
    return drawing.run(overrides=["refine.threshold=0.5"])
