"""A run to review: images, masks and maps written by hand, nothing trained."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.config.run_config import load_config
from weakseg.data.masks import write_mask
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, Sample

CLASSES = ("cat", "dog")
H, W = 96, 128
CONTRAST = """(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 200) return colour;
    }
  };
  const light = colour => [0.2126, 0.7152, 0.0722].reduce((sum, weight, k) => {
    const v = colour[k] / 255;
    return sum + weight * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("script")) continue;
    const style = getComputedStyle(element);
    const pair = [light(rgba(style.color)), light(behind(element))].sort((a, b) => b - a);
    found.push([texts.currentNode.data.trim(), (pair[0] + 0.05) / (pair[1] + 0.05), parseFloat(style.fontSize)]);
  }
  return found;
})()"""
"""Every visible text of a page, with its contrast and its size in pixels."""

BARE = (
    "amr.compensation=false",
    "spread.prototypes=false",
    "spread.spreading=false",
    "evidence.images=0",
)


def labels_of(value, box=(20, 30, 70, 80)):
    labels = torch.zeros(H, W, dtype=torch.uint8)
    top, left, bottom, right = box
    labels[top:bottom, left:right] = value
    return labels


STAGES = {"cams": ("spotlight",), "walk": ("walk",), "masks": ()}
EVERY = {
    "cams": ("spotlight",),
    "weigh": ("compensation", "weighted"),
    "evidence": ("evidence",),
    "walk": ("walk",),
    "masks": (),
}
"""Kinds of maps by the stages that keep them: of a plain network, and of the whole path."""


def write_run(folder, count=6, *, maps=True, every=False):
    """A finished run of `count` photos: a square on grass, tagged cat or dog in turn.

    Maps lie on the square; with `every`, those of each kind on a part of it of their own.
    """
    run = RunDir(folder / "run")
    run.create()
    photos = folder / "photos"
    photos.mkdir()
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[:] = (70, 120, 60)
    pixels[20:70, 30:80] = (190, 140, 90)
    pixels += np.random.default_rng(0).integers(0, 20, pixels.shape, dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "first.jpg")
    samples = []
    for number in range(count):
        path = photos / f"photo_{number:05}.jpg"
        os.link(photos / "first.jpg", path)
        samples.append(Sample(path.stem, path, frozenset({number % 2})))
    (photos / "first.jpg").unlink()
    catalog = Catalog(CLASSES, tuple(samples))
    run.save_catalog(catalog, source=photos)
    bare = ("spread.prototypes=false", "spread.spreading=false") if every else BARE
    run.save_config(load_config("fast", overrides=bare).to_yaml())
    edge = torch.full((24, 32), 0.05)
    edge[5, 7:20] = edge[17, 7:20] = 0.95
    edge[5:18, 7] = edge[5:18, 20] = 0.95
    finished = {"masks": {"maps": "walk", "thresholds": {"walk": 0.5, "spotlight": 0.5}}}
    kept = EVERY if every else STAGES
    kinds = [kind for names in kept.values() for kind in names]

    def inside(kind):
        map_ = torch.zeros(1, 24, 32)
        if every:
            left = 6 + 5 * kinds.index(kind)
            map_[0, 5:18, left : left + 5] = 1
        else:
            map_[0, 5:18, 8:20] = 1
        return map_

    for stage, names in kept.items():
        if not maps and stage != "masks":
            continue
        opened = run.open_stage(stage, {"version": 1})
        for sample in samples:
            if stage == "masks":
                write_mask(
                    opened.path / f"{sample.id}.png", labels_of(min(sample.tags) + 1), CLASSES
                )
                continue
            boundary = edge if stage == "walk" else None
            found = {kind: inside(kind) for kind in names}
            tags = torch.tensor(sorted(sample.tags))
            ImageMaps(tags, (H, W), found, boundary).save(opened, sample.id)
        opened.finish(finished.get(stage, {"images": count}))
    return run.path


@pytest.fixture(scope="session")
def contrast():
    return CONTRAST


@pytest.fixture(scope="session")
def make_run():
    return write_run


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path)
