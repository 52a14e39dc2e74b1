"""One picture: a place, things and creatures in it from far to near, and the exact truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from weakseg.demo_data.brush import Array, Light, Sprite
from weakseg.demo_data.creatures import Pose, draw_creature
from weakseg.demo_data.heads import HEADS
from weakseg.demo_data.props import draw_cloud, draw_prop
from weakseg.demo_data.scenery import PLACES, Backdrop

Rng = np.random.Generator
Mask = NDArray[np.uint8]

CLASSES = tuple(HEADS)
"""Class names in the order of their mask indices 1..K."""

VISIBLE = 0.5
"""Minimum share of a creature's silhouette that nothing hides and no border cuts off."""

HEAD_VISIBLE = 0.75
"""The same for its head."""

TRIES = 14


@dataclass(frozen=True)
class Cutout:
    """A finished sprite in pixels, cut to what is painted on it.

    Attributes:
        colours: [h,w,3] colours, premultiplied with `alpha`.
        alpha: [h,w] coverage.
        part: [h,w] coverage by the head.
        anchor: Where the anchor is, from the left and from the top.
    """

    colours: Array
    alpha: Array
    part: Array
    anchor: tuple[int, int]

    @classmethod
    def of(cls, sprite: Sprite) -> Cutout:
        """Reduces and cuts a sprite."""
        colours, alpha, part = sprite.reduced()
        rows, columns = (np.flatnonzero(alpha.max(axis)) for axis in (1, 0))
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        across, down = sprite.anchor
        anchor = (across - int(columns[0]), down - int(rows[0]))
        return cls(colours[window], alpha[window], part[window], anchor)


@dataclass
class Figure:
    """A creature in the picture.

    Attributes:
        kind: Index of its class, from 0.
        area: Pixels of its silhouette, whatever hides it.
        head_area: Pixels of its head, whatever hides it.
        shown: [H,W] where it is to be seen.
        head: [H,W] where its head is to be seen.
    """

    kind: int
    area: int
    head_area: int
    shown: NDArray[np.bool_]
    head: NDArray[np.bool_]

    def recognisable(self, hidden: NDArray[np.bool_]) -> bool:
        """Whether enough is left of it and of its head when `hidden` [H,W] is covered too."""
        left = ~hidden
        return bool(
            (self.shown & left).sum() >= VISIBLE * self.area
            and (self.head & left).sum() >= HEAD_VISIBLE * self.head_area
        )


@dataclass
class Scene:
    """A picture and its truth.

    Attributes:
        image: [H,W,3] colours.
        mask: [H,W] 0 background, k the k-th class of `CLASSES`.
        figures: The creatures in it, from far to near.
    """

    image: NDArray[np.uint8]
    mask: Mask
    figures: list[Figure]

    def head_mask(self) -> Mask:
        """The mask [H,W] with the heads alone: the pixels that tell the classes."""
        heads = np.zeros_like(self.mask)
        for figure in self.figures:
            heads[figure.head] = figure.kind + 1
        return heads

    def tags(self) -> tuple[str, ...]:
        """Names of the classes in it, sorted."""
        return tuple(sorted({CLASSES[figure.kind] for figure in self.figures}))


@dataclass
class Stage:
    """A backdrop that creatures and things enter from far to near."""

    backdrop: Backdrop
    rng: Rng
    image: Array = field(init=False)
    mask: Mask = field(init=False)
    figures: list[Figure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = self.backdrop.image.copy()
        self.mask = np.zeros(self.image.shape[:2], np.uint8)

    def spread(self, patch: Array, row: int, column: int) -> tuple[Array, tuple[slice, slice]]:
        """The part of a patch, put with its corner at (row, column), that is in the picture."""
        height, width = self.mask.shape
        top, left = max(0, row), max(0, column)
        bottom = max(top, min(height, row + patch.shape[0]))
        right = max(left, min(width, column + patch.shape[1]))
        return patch[top - row : bottom - row, left - column : right - column], (
            slice(top, bottom),
            slice(left, right),
        )

    def cast_shadow(self, x: float, y: float, half: float, strength: float) -> None:
        """Darkens the ground around (x, y), `half` pixels to either side."""
        height, width = self.mask.shape
        top, bottom = max(0, int(y - half / 2)), min(height, int(y + half / 2) + 1)
        if bottom <= top:
            return
        rows = np.arange(top, bottom, dtype=np.float32)[:, None]
        across = (np.arange(width, dtype=np.float32)[None] - x) / half
        away = across * across + ((rows - y) / (half * 0.3)) ** 2
        self.image[top:bottom] *= (1 - strength * np.exp(-1.6 * away * away))[..., None]

    def enter(
        self,
        cutout: Cutout,
        x: float,
        y: float,
        haze: float,
        *,
        kind: int | None = None,
        shadow: tuple[float, float, float] | None = None,
    ) -> bool:
        """Puts a cutout's anchor at (x, y) if all creatures stay recognisable.

        Args:
            cutout: What enters.
            x: Column of its anchor.
            y: Row of its anchor.
            haze: Share of the distance's colour in its own.
            kind: Index of its class if it is a creature.
            shadow: Middle (relative to x), half width and strength of its shadow on the ground.

        Returns:
            Whether it could be put there.
        """
        alpha, part = cutout.alpha, cutout.part
        row, column = round(y) - cutout.anchor[1], round(x) - cutout.anchor[0]
        shown_alpha, window = self.spread(alpha, row, column)
        covered = np.zeros(self.mask.shape, np.bool_)
        covered[window] = shown_alpha >= 0.5
        if not all(figure.recognisable(covered) for figure in self.figures):
            return False
        if kind is not None:
            head = np.zeros(self.mask.shape, np.bool_)
            head[window] = (self.spread(part, row, column)[0] >= 0.5) & covered[window]
            figure = Figure(
                kind, int((alpha >= 0.5).sum()), int((part >= 0.5).sum()), covered, head
            )
            if not figure.recognisable(np.zeros_like(covered)):
                return False
        for other in self.figures:
            other.shown &= ~covered
            other.head &= ~covered
        self.mask[covered] = 0
        if kind is not None:
            self.figures.append(figure)
            self.mask[covered] = kind + 1
        if shadow is not None:
            self.cast_shadow(x + shadow[0], y - 0.02 * shadow[1], shadow[1], shadow[2])
        ink = self.spread(cutout.colours, row, column)[0]
        share = shown_alpha[..., None]
        ink = ink + (self.backdrop.haze * share - ink) * haze
        self.image[window] = self.image[window] * (1 - share) + ink
        return True


def draw_scene(rng: Rng, kinds: list[int]) -> Scene:
    """Draws a picture with creatures of the classes `kinds` in it.

    The first always enters; one of the others that finds no place, where it and those behind it
    can be recognised, stays away.

    Args:
        rng: Where the variety comes from.
        kinds: Indices of classes, from 0, from far to near; none gives a picture of the place.

    Returns:
        The picture, its mask and its creatures.
    """
    height, width = _size(rng)
    place = PLACES[int(rng.integers(len(PLACES)))]
    backdrop = place(height, width, rng)
    stage = Stage(backdrop, rng)
    top = max(0.0, backdrop.horizon) if backdrop.horizon > 0 else 0.3 * height
    first, last = top + 0.16 * (height - top), height * 0.97
    share = rng.uniform(0.72, 1.0) / (1, 1, 1.12, 1.3, 1.45, 1.5)[min(len(kinds), 5)]
    near = min(0.4 * height, 0.46 * width) * share

    def unit(y: float) -> float:
        away = (y - top) / (height - top)
        return near * (0.52 + 0.56 * away)

    if backdrop.clouds and backdrop.horizon > 0.2 * height:
        for _ in range(int(rng.integers(0, 4))):
            cloud = draw_cloud(
                rng, width * rng.uniform(0.05, 0.13), Light(side=backdrop.light.side)
            )
            y = backdrop.horizon * rng.uniform(0.2, 0.75)
            stage.enter(Cutout.of(cloud), rng.uniform(0, width), y, 0.25)
    queue: list[tuple[float, int | None]] = [
        (y, None)
        for y in rng.uniform(top + 0.03 * height, height * 1.03, rng.integers(3, 9)).tolist()
    ]
    rows = sorted(
        rng.uniform(first if len(kinds) > 1 else (first + last) / 2, last, len(kinds)).tolist()
    )
    queue += list(zip(rows, kinds, strict=True))
    for y, kind in sorted(queue, key=lambda item: item[0]):
        haze = 0.22 * float(np.clip(1 - (y - top) / (height - top), 0, 1))
        if kind is None:
            _put_prop(stage, y, unit(y), haze)
        else:
            _put_creature(stage, kind, y, unit(y), haze)
    image = stage.image + rng.normal(0, 0.011, (height, width, 1)).astype(np.float32)
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(pixels, stage.mask, stage.figures)


def _size(rng: Rng) -> tuple[int, int]:
    """Height and width: square, landscape or portrait, 160 to 288 pixels per side."""
    long = int(rng.integers(208, 289))
    short = max(160, round(long * (1.0, 0.75, 0.75, 0.67, 0.8)[rng.integers(5)]))
    return (long, short) if rng.random() < 0.3 else (short, long)


def _put_prop(stage: Stage, y: float, unit: float, haze: float) -> None:
    rng, backdrop = stage.rng, stage.backdrop
    name = backdrop.props[int(rng.integers(len(backdrop.props)))]
    sprite = draw_prop(name, rng, unit, backdrop.light)
    shadow = (0.0, sprite.frame.unit / 2 * 0.7, 0.3)
    cutout = Cutout.of(sprite)
    for _ in range(4):
        if stage.enter(cutout, rng.uniform(0, stage.mask.shape[1]), y, haze, shadow=shadow):
            return


def _put_creature(stage: Stage, kind: int, y: float, unit: float, haze: float) -> None:
    rng = stage.rng
    mirrored = rng.random() < 0.5
    while True:
        sprite, pose = draw_creature(
            CLASSES[kind], rng, unit, stage.backdrop.light, mirrored=mirrored
        )
        cutout, shadow = Cutout.of(sprite), _shadow(pose, unit, mirrored)
        for _ in range(TRIES):
            x, row = _anchor(stage, cutout, y)
            if stage.enter(cutout, x, row, haze, kind=kind, shadow=shadow):
                return
        if stage.figures:
            return
        unit *= 0.85


def _anchor(stage: Stage, cutout: Cutout, y: float) -> tuple[float, float]:
    """A place for the anchor at which the whole head is in the picture, if there is one."""
    width = stage.mask.shape[1]
    rows, columns = (np.flatnonzero(cutout.part.max(axis)) for axis in (1, 0))
    left, right = columns[0] - cutout.anchor[0], columns[-1] - cutout.anchor[0]
    low, high = 2 - left, width - 2 - right
    x = stage.rng.uniform(low, high) if low < high else (low + high) / 2
    above = rows[0] - cutout.anchor[1]
    return float(x), float(max(y, 2 - above))


def _shadow(pose: Pose, unit: float, mirrored: bool) -> tuple[float, float, float]:
    left, right = pose.ground
    middle = (left + right) / 2 * unit
    half = (right - left) / 2 * unit * 1.15
    return (-middle if mirrored else middle, half, 0.3 if pose.lift else 0.5)
