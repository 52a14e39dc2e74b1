"""A drawn data set for `domains.py`: gray surfaces with pits, scratches and stains, none without a defect.

What breaks here breaks in factories: marks of a few pixels on a surface that fills every image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from weakseg.data.masks import write_mask

CLASSES = ("pit", "scratch", "stain")
SIDE = 256


def surface(rng):
    """Cast, brushed or grained metal, gray values [256,256]."""
    noise = lambda: rng.standard_normal((SIDE, SIDE))  # noqa: E731
    kind, gray = rng.integers(3), np.zeros((SIDE, SIDE))
    if kind == 0:
        for width, strength in ((1, 6), (4, 56), (16, 670)):
            gray += strength * ndimage.gaussian_filter(noise(), width)
    elif kind == 1:
        gray += 180 * ndimage.gaussian_filter(noise(), (0.7, 12))
        gray += 540 * ndimage.gaussian_filter(noise(), 20)
    else:
        gray += 300 * np.abs(ndimage.gaussian_filter(noise(), 3)) - 20 + 8 * noise()
    slope = np.linspace(-1, 1, SIDE)
    across, down = rng.uniform(-20, 20, 2)
    return gray + rng.uniform(90, 160) + down * slope[:, None] + across * slope[None]


def pits(rng):
    """One to five round holes, bool [256,256]."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    found = np.zeros((SIDE, SIDE), bool)
    for _ in range(rng.integers(1, 6)):
        row, column = rng.integers(10, SIDE - 10, 2)
        radius = rng.uniform(3, 9)
        wide = radius * rng.uniform(0.7, 1.4)
        found |= ((rows - row) / radius) ** 2 + ((columns - column) / wide) ** 2 < 1
    return found


def scratches(rng):
    """One to three bent lines, bool [256,256]."""
    found = np.zeros((SIDE, SIDE), bool)
    along = np.linspace(0, 1, 400)
    for _ in range(rng.integers(1, 4)):
        row, column = rng.uniform(20, SIDE - 20, 2)
        angle = rng.uniform(0, 2 * np.pi) + 0.4 * along
        length = rng.uniform(40, 140)
        rows = (row + length * along * np.sin(angle)).astype(int)
        columns = (column + length * along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
        found[rows[inside], columns[inside]] = True
    return ndimage.binary_dilation(found, iterations=int(rng.integers(1, 3)))


def stains(rng):
    """A patch of ragged outline, bool [256,256]."""
    ragged = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), rng.uniform(8, 14))
    row, column = rng.integers(40, SIDE - 40, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    away = ((rows - row) ** 2 + (columns - column) ** 2) / rng.uniform(18, 40) ** 2
    return away + 0.35 * ragged / ragged.std() < 1


def changed(gray, kind, mark, rng):
    """The surface with a mark on it."""
    soft = ndimage.gaussian_filter(mark.astype(float), 2.0 if kind == 2 else 0.8)
    if kind == 0:
        return gray - soft * rng.uniform(35, 80)
    if kind == 1:
        return gray + soft * rng.choice([-1, 1]) * rng.uniform(30, 70)
    return gray + soft * rng.uniform(20, 45)


def write_surfaces(folder, *, train=300, val=80, seed=0):
    """Writes images, true masks, tags, classes and splits; the same each time."""
    folder = Path(folder)
    for name in ("images", "masks", "ImageSets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows, ids = ["image,tags"], []
    for index in range(train + val):
        rng = np.random.default_rng([seed, index])
        gray, truth = surface(rng), torch.zeros(SIDE, SIDE, dtype=torch.uint8)
        kinds = [index % 3] if rng.random() > 0.15 else rng.choice(3, 2, replace=False).tolist()
        for kind in kinds:
            mark = (pits, scratches, stains)[kind](rng)
            gray = changed(gray, kind, mark, rng)
            truth[torch.from_numpy(mark)] = kind + 1
        ids.append(f"surface_{index:04d}")
        pixels = np.clip(gray, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{ids[-1]}.png")
        write_mask(folder / "masks" / f"{ids[-1]}.png", truth, CLASSES)
        rows.append(f"{ids[-1]}.png,{' '.join(CLASSES[kind] for kind in kinds)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for name, part in (("train", ids[:train]), ("val", ids[train:])):
        (folder / "ImageSets" / f"{name}.txt").write_text("\n".join(part) + "\n")
