"""A finished run of four images, as every format is tested with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.api import export
from weakseg.config.run_config import load_config
from weakseg.data.images import read_image, read_mask
from weakseg.data.masks import write_mask
from weakseg.runs.confidence import mask_confidences
from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, Sample

CLASSES = ("dog", "big cat", "Löwe")
IMAGES = {"a": "a.jpg", "b": "b.jpg", "d": "d.jpg", "sub/c": "sub/c.jpg"}
TAGS = {"a": {0, 1}, "b": {2}, "d": set(), "sub/c": {0, 2}}
TURNED = "b"
HEIGHT, WIDTH = 60, 90


@dataclass(frozen=True)
class Finished:
    """A run, and what is true of it."""

    path: Path
    photos: Path
    classes: tuple[str, ...] = CLASSES
    turned: str = TURNED

    @property
    def keys(self):
        return sorted(IMAGES)

    def tags(self, key):
        return {CLASSES[tag] for tag in TAGS[key]}

    def file(self, key):
        return self.photos / IMAGES[key]

    def image(self, key):
        """Upright RGB [H,W,3], as weakseg sees it."""
        return read_image(self.file(key)).permute(1, 2, 0).numpy()

    def labels(self, key):
        return read_mask(self.path / "masks" / f"{key}.png").numpy()

    def confidences(self, key):
        labels = read_mask(self.path / "masks" / f"{key}.png")
        known = mask_confidences(StageContext.reading(RunDir(self.path)), key, labels)
        return {index: round(value, 4) for index, value in known.items()}

    def export(self, to, name="out", **options):
        return export(self.path, to, self.photos.parent / name, **options)


def blobs(seed, tags, height, width):
    """Classes as discs with holes, some of them touching; the last tag of two may have no pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.uint8)
    for tag in sorted(tags):
        mask = np.zeros((height, width), bool)
        for _ in range(4):
            y, x, r = rng.integers(0, height), rng.integers(0, width), rng.integers(3, height // 3)
            mask ^= (rows - y) ** 2 + (columns - x) ** 2 < r * r
        mask[2:5, 3:6] = True
        mask[3, 4] = False
        labels[mask] = tag + 1
    return labels


@pytest.fixture
def finished(tmp_path) -> Finished:
    photos, path = tmp_path / "photos", tmp_path / "run"
    folder, samples = RunDir(path), []
    for seed, (key, name) in enumerate(IMAGES.items()):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 255, (HEIGHT // 10, WIDTH // 10, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        file = photos / name
        file.parent.mkdir(parents=True, exist_ok=True)
        exif, size = Image.Exif(), (HEIGHT, WIDTH)
        if key == TURNED:
            exif[0x0112] = 6
            size = (WIDTH, HEIGHT)
        image.save(file, exif=exif)
        samples.append(Sample(key, file, frozenset(TAGS[key])))
        labels = blobs(seed, TAGS[key] - ({2} if key == "sub/c" else set()), *size)
        write_mask(path / "masks" / f"{key}.png", torch_of(labels), CLASSES)
        maps = rng.random((2, len(TAGS[key]), 6, 10)).astype(np.float16)
        known = {"classes": np.array(sorted(TAGS[key]), np.int64), "size": np.array(size)}
        for stage, kinds in (
            ("cams", {"spotlight": maps[0]}),
            ("weigh", {"compensation": maps[1], "weighted": maps[1]}),
        ):
            file = path / stage / f"{key}.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, **known, **kinds)
    folder.save_catalog(Catalog(CLASSES, tuple(samples)), source=photos)
    bare = ["spread.prototypes=false", "spread.spreading=false", "evidence.images=0"]
    bare.append("refine.kind=none")
    folder.save_config(load_config(overrides=bare).to_yaml())
    for name in ("cams", "weigh", "masks"):
        (path / name / "fingerprint.json").write_text("{}")
        folder.open_stage(name, {}).finish({})
    return Finished(path, photos)


@pytest.fixture
def ignoring(finished) -> Path:
    """The run's masks with ignored pixels in the first row."""
    folder = finished.photos.parent / "ignoring"
    for key in finished.keys:
        labels = finished.labels(key).copy()
        labels[0] = 255
        write_mask(folder / f"{key}.png", torch_of(labels), finished.classes)
    return folder


def torch_of(labels):
    return torch.from_numpy(np.ascontiguousarray(labels))
