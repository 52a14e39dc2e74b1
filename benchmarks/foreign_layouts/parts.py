"""What all layouts are built of: small photographs, their tags, and their true masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
TAGS: dict[str, tuple[str, ...]] = {
    "a": ("cat",),
    "b": ("cat", "dog"),
    "c": ("dog",),
    "d": (),
}
"""The images and what is in them. A cat lies in rows 4 to 9, a dog in rows 12 to 17."""

ROWS = {"cat": (4, 10), "dog": (12, 18)}
COLUMNS = (6, 20)


@dataclass(frozen=True)
class Layout:
    """One data set.

    Attributes:
        name: Where it comes from.
        build: Writes it into a folder and returns the source to name.
        tags: What must be read, per image id; None: it must be refused.
        truth: Whether masks must be read, too: each the boxes of its tags.
        notes: Texts that the notes must hold, in any order.
        refused: A text that the refusal must hold: its remedy.
        options: For `check` and `open_catalog`.
        classes: The classes in order; None: sorted names.
    """

    name: str
    build: Callable[[Path], Path | None]
    tags: Mapping[str, Sequence[str]] | None = field(default_factory=lambda: TAGS)
    truth: bool = False
    notes: tuple[str, ...] = ()
    refused: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


def photo(path: Path, seed: int | None = None, **options: Any) -> None:
    """A photograph of noise, another for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path.name))) if seed is None else seed
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def photos(folder: Path, names: Sequence[str] = tuple(TAGS), suffix: str = ".jpg") -> None:
    """All photographs."""
    for name in names:
        photo(folder / f"{name}{suffix}")


def box(tag: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a class's object, in pixels; right and bottom are outside."""
    top, bottom = ROWS[tag]
    return COLUMNS[0], top, COLUMNS[1], bottom


def corners(tag: str) -> list[tuple[int, int]]:
    """The corners of a class's object."""
    left, top, right, bottom = box(tag)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def mask(tags: Sequence[str], index: Mapping[str, int] | None = None) -> np.ndarray:
    """The true mask of an image, by default with cat 1 and dog 2."""
    index = index or {"cat": 1, "dog": 2}
    array = np.zeros((HEIGHT, WIDTH), np.uint8)
    for tag in tags:
        left, top, right, bottom = box(tag)
        array[top:bottom, left:right] = index[tag]
    return array


def masks(folder: Path, suffix: str = ".png", index: Mapping[str, int] | None = None) -> None:
    """All true masks as gray files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tags in TAGS.items():
        Image.fromarray(mask(tags, index)).save(folder / f"{name}{suffix}")


def table(path: Path, header: str, row: Callable[[str, Sequence[str]], str | None]) -> Path:
    """A table with a row (or several lines) for each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(name, tags) for name, tags in TAGS.items()]
    text = "\n".join([header, *(r for r in rows if r is not None)]) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: object) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
