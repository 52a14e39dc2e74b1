"""The generated data set: creatures told apart by their heads, with exact masks.

Creatures of all classes share body, legs, tail, colours and patterns; only the head tells the
class. A classifier therefore has no reason to look at bodies, and its class activation maps light
up on heads: the phenomenon that attention modulation is about.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from weakseg.data.masks import write_mask
from weakseg.demo_data.scene import CLASSES, Scene, draw_scene
from weakseg.types import DataError

BLOCK = 10
"""Of so many pictures in a row one has no creature, and every class heads at least one."""

VALIDATION = 5
"""Every so many pictures of a shuffled order one is kept for validation."""

COMPANIONS = (0.45, 0.33, 0.16, 0.06)
"""How likely 0, 1, 2, 3 further creatures are."""


class DemoSettings(BaseModel):
    """What `write_demo` generates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=240, ge=1, le=99_999, description="How many images to draw.")
    seed: int = Field(
        default=0, ge=0, description="Same seed, same images; another seed, other images."
    )
    quality: int = Field(default=92, ge=50, le=100, description="Quality of the JPEG files.")


def draw_demo(index: int, seed: int) -> Scene:
    """Draws the `index`-th image of the data set of a seed, whatever their number.

    Args:
        index: From 0.
        seed: From 0.

    Returns:
        The picture [H,W,3], 160 to 288 pixels per side, its mask [H,W] and its creatures.

    Example:
        >>> scene = draw_demo(1, seed=0)
        >>> scene.image.shape[:2] == scene.mask.shape
        True
    """
    block, place = divmod(index, BLOCK)
    # Stream 1 belongs to the block alone, so that its images agree on who comes where.
    deal = np.random.default_rng([seed, 1, block])
    empty = int(deal.integers(BLOCK))
    hands = [deal.permutation(len(CLASSES)) for _ in range(1 + BLOCK // len(CLASSES))]
    leads = np.concatenate(hands).tolist()
    rng = np.random.default_rng([seed, 0, index])
    if place == empty:
        return draw_scene(rng, [])
    lead = leads[place - (place > empty)]
    further = int(np.searchsorted(np.cumsum(COMPANIONS[:-1]), rng.random(), side="right"))
    return draw_scene(rng, [lead, *(int(k) for k in rng.integers(0, len(CLASSES), further))])


def write_demo(
    folder: Path,
    *,
    count: int = 240,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the generated data set.

    The folder gets `labels.csv` (`image,tags`), `classes.txt`, `images/*.jpg`, `masks/*.png`
    (palette PNG in VOC's colours, 0 background, k the k-th class) and
    `ImageSets/Segmentation/{train,val}.txt`. It appears complete or not at all.

    Args:
        folder: Where to write; must not exist yet, or be empty.
        count: How many images.
        seed: Same seed, same images.
        progress: Called with the number of images done and `count`.

    Raises:
        DataError: The folder exists and is not empty.

    Example:
        >>> from pathlib import Path
        >>> write_demo(Path("demo"), count=20, seed=1)  # doctest: +SKIP
    """
    settings = DemoSettings(count=count, seed=seed)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected an empty folder or none, but something is in it already; "
            "choose another place or delete it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(draft, settings, progress)
        draft.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(
    draft: Path, settings: DemoSettings, progress: Callable[[int, int], None] | None
) -> None:
    lists = draft / "ImageSets" / "Segmentation"
    for room in (draft / "images", draft / "masks", lists):
        room.mkdir(parents=True)
    rows, names = ["image,tags"], []
    for index in range(settings.count):
        scene = draw_demo(index, settings.seed)
        name = f"demo_{index:05d}"
        picture = Image.fromarray(scene.image)
        picture.save(draft / "images" / f"{name}.jpg", quality=settings.quality)
        write_mask(draft / "masks" / f"{name}.png", torch.from_numpy(scene.mask), CLASSES)
        rows.append(f"{name}.jpg,{' '.join(scene.tags())}")
        names.append(name)
        if progress is not None:
            progress(index + 1, settings.count)
    order = np.random.default_rng([settings.seed, 2]).permutation(settings.count).tolist()
    validation = set(order[VALIDATION - 1 :: VALIDATION])
    splits = {
        "train": [name for i, name in enumerate(names) if i not in validation],
        "val": [name for i, name in enumerate(names) if i in validation],
    }
    for split, members in splits.items():
        (lists / f"{split}.txt").write_bytes("".join(f"{name}\n" for name in members).encode())
    (draft / "labels.csv").write_bytes("".join(f"{row}\n" for row in rows).encode())
    (draft / "classes.txt").write_bytes("".join(f"{name}\n" for name in CLASSES).encode())
