"""The heads by which creatures are told apart; a head's unit is its own radius, x points ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.demo_data.brush import (
    Array,
    Frame,
    Point,
    Shape,
    Sprite,
    Tint,
    ball,
    curve,
    limb,
    merge,
    mix,
    step,
)

INK = np.array((0.09, 0.07, 0.08), np.float32)
WHITE = np.array((0.97, 0.96, 0.93), np.float32)


@dataclass(frozen=True)
class Coat:
    """The fur a creature wears on head and body alike.

    Attributes:
        fur: Main colour. `pale`: belly and cheeks. `mark`: spots and stripes.
        ragged: How far, in pixels, the fur frays the silhouette.
    """

    fur: Array
    pale: Array
    mark: Array
    ragged: float


def colour(*choices: tuple[float, float, float]) -> Array:
    """Colours [n,3] to draw one from."""
    return np.array(choices, np.float32)


def ringed(light: Array, dark: Array, origin: Point, rings: float) -> Tint:
    """Rings around `origin`, `rings` a unit: the growth rings of horns."""

    def tint(x: Array, y: Array) -> Array:
        distance = np.hypot(x - origin[0], y - origin[1])
        return mix(light, dark, 0.5 + 0.5 * np.sin(distance * rings * 2 * math.pi))

    return tint


def shaded(near: Array, far: Array, start: float, end: float, *, down: bool = True) -> Tint:
    """From one colour to another between two values of y (or of x)."""

    def tint(x: Array, y: Array) -> Array:
        return mix(near, far, step(start, end, y if down else x))

    return tint


class HeadPainter:
    """Paints shapes of a head with the coat's habits.

    Args:
        sprite: What to paint on.
        frame: The head's own coordinates.
        coat: The creature's fur.
        rng: Where the variety comes from.
    """

    def __init__(self, sprite: Sprite, frame: Frame, coat: Coat, rng: np.random.Generator) -> None:
        self.sprite, self.frame, self.coat, self.rng = sprite, frame, coat, rng

    def furry(self, shape: Shape, tint: Array | Tint, *, shade: float = 1.0) -> None:
        """A part covered with fur."""
        self.sprite.paint(
            self.frame, shape, tint, fur=0.3, ragged=self.coat.ragged, shade=shade, part=True
        )

    def hard(
        self, shape: Shape, tint: Array | Tint, *, gloss: float = 0.35, shade: float = 1.0
    ) -> None:
        """A part of horn, skin or glass."""
        self.sprite.paint(self.frame, shape, tint, gloss=gloss, shade=shade, part=True)

    def mark(self, shape: Shape, tint: Array | Tint, *, flat: float = 0.6) -> None:
        """A patch of colour on what is there."""
        self.sprite.paint(
            self.frame, shape, tint, rim=0.0, flat=flat, fur=0.2, part=True, within=True
        )

    def eye(self, x: float, y: float, radius: float, iris: Array | None = None) -> None:
        """An eye with a glint; without an iris it is a dark bead."""
        if iris is not None:
            self.hard(ball(x, y, radius, radius), iris, gloss=0.0)
        pupil = radius if iris is None else radius * 0.58
        self.hard(ball(x + radius * 0.08, y, pupil, pupil * 1.05), INK, gloss=0.2)
        glint = ball(x - pupil * 0.25, y - pupil * 0.35, pupil * 0.34, pupil * 0.34)
        self.sprite.paint(self.frame, glint, WHITE, flat=1.0, rim=0.0, part=True)

    def pick(self, choices: Array) -> Array:
        """One of the colours [n,3], slightly varied."""
        chosen: Array = choices[self.rng.integers(len(choices))]
        return np.clip(chosen + self.rng.normal(0, 0.025, 3), 0, 1).astype(np.float32)


def hornling(p: HeadPainter) -> None:
    """A long muzzle under two ridged horns that sweep backwards."""
    coat, rng = p.coat, p.rng
    horn = p.pick(colour((0.86, 0.78, 0.6), (0.62, 0.5, 0.38), (0.45, 0.4, 0.38)))
    sweep, length = rng.uniform(-175, -95), rng.uniform(2.0, 2.7)
    radii = (0.27, 0.26, 0.24, 0.21, 0.18, 0.14, 0.1, 0.05)

    def sickle(base: Point, shade: float) -> None:
        points = curve(base, -75, sweep, length, 7)
        p.hard(limb(points, radii), ringed(horn, horn * 0.55, base, 3.2), gloss=0.25, shade=shade)

    sickle((0.28, -0.62), 0.72)
    p.furry(limb([(-0.45, -0.3), (-1.0, -0.25), (-1.25, 0.0)], (0.2, 0.24, 0.06)), coat.fur)
    skull = merge(ball(0, 0, 0.85, 0.78), limb([(0.2, 0.1), (0.95, 0.42)], (0.55, 0.36)), soft=0.12)
    p.furry(skull, shaded(coat.fur, coat.pale, 0.45, 1.15, down=False))
    if rng.random() < 0.6:
        p.furry(limb([(0.72, 0.68), (0.66, 1.0), (0.5, 1.3)], (0.17, 0.13, 0.03)), coat.pale)
    sickle((-0.08, -0.62), 1.0)
    p.hard(ball(1.2, 0.32, 0.1, 0.07, 30), INK, gloss=0.1)
    p.mark(limb([(1.22, 0.62), (0.8, 0.6)], (0.045, 0.03)), INK)
    p.eye(0.32, -0.16, 0.19)


def lopkin(p: HeadPainter) -> None:
    """A round face between two very long ears, pink within."""
    coat, rng = p.coat, p.rng
    pink = p.pick(colour((0.95, 0.66, 0.66), (0.9, 0.6, 0.68)))
    length = rng.uniform(2.0, 2.6)
    widths = (0.2, 0.3, 0.36, 0.36, 0.28, 0.1)

    def ear(base: Point, angle: float, turn: float, shade: float) -> None:
        points = curve(base, angle, turn, length, 5)
        p.furry(limb(points, widths), coat.fur, shade=shade)
        inner = curve(base, angle, turn, length * 0.9, 5)
        p.sprite.paint(
            p.frame, limb(inner[1:], [w * 0.55 for w in widths[1:]]), pink,
            rim=0.15, flat=0.5, shade=shade, part=True,
        )  # fmt: skip

    flop = (0.0, 0.0, 70.0, 115.0)[rng.integers(4)]
    ear((0.22, -0.6), rng.uniform(-88, -62), rng.uniform(-20, 20) + flop, 0.8)
    ear((-0.25, -0.6), rng.uniform(-125, -100), rng.uniform(-35, 10), 1.0)
    p.furry(
        merge(ball(0, 0, 0.95, 0.86), ball(0.42, 0.25, 0.6, 0.52), soft=0.1),
        shaded(coat.fur, coat.pale, 0.0, 0.65),
    )
    p.mark(ball(0.3, 0.34, 0.24, 0.15), mix(coat.pale, pink, 0.7))
    for tilt in (-0.12, 0.02, 0.16):
        p.sprite.paint(
            p.frame, limb([(0.75, 0.3), (0.35, 0.34 + tilt * 2), (0.0, 0.3 + tilt * 3)],
                          (0.022, 0.02, 0.012)), WHITE, rim=0, flat=1.0, part=True,
        )  # fmt: skip
    p.hard(ball(0.52, 0.62, 0.11, 0.14), WHITE, gloss=0.1)
    p.hard(merge(ball(0.93, 0.14, 0.15, 0.11), ball(0.93, 0.2, 0.08, 0.1), soft=0.01), pink)
    p.eye(0.35, -0.14, 0.23)
    p.eye(0.82, -0.18, 0.15)


def beakle(p: HeadPainter) -> None:
    """Two golden owl's eyes in a pale mask above a great hooked beak, and a crest."""
    coat, rng = p.coat, p.rng
    horn = p.pick(colour((0.98, 0.62, 0.12), (0.96, 0.48, 0.14), (0.98, 0.76, 0.22)))
    iris = p.pick(colour((0.99, 0.84, 0.2), (0.99, 0.7, 0.15)))
    for i in range(4):
        angle = -165 + 24 * i + rng.uniform(-8, 8)
        points = curve((-0.45 + 0.14 * i, -0.55), angle, 35, rng.uniform(0.8, 1.15), 4)
        tip = shaded(mix(coat.mark, horn, 0.55), coat.fur, -1.2, -0.65)
        p.furry(limb(points, (0.17, 0.2, 0.18, 0.12, 0.03)), tip)
    p.furry(ball(0, 0, 0.98, 0.92), coat.fur)
    mask = merge(ball(0.2, -0.08, 0.6, 0.62), ball(0.68, -0.08, 0.4, 0.52), soft=0.05)
    p.mark(mask, mix(coat.pale, WHITE, 0.55))
    p.eye(0.18, -0.14, 0.38, iris)
    p.eye(0.78, -0.16, 0.26, iris)
    lower = limb([(0.5, 0.42), (0.9, 0.62), (1.2, 0.72)], (0.22, 0.17, 0.06))
    p.hard(lower, horn * 0.72)
    hook = rng.uniform(70, 100)
    upper = curve((0.48, 0.24), -8, hook, rng.uniform(1.25, 1.5), 6)
    p.hard(
        limb(upper, (0.28, 0.33, 0.31, 0.26, 0.2, 0.13, 0.04)),
        shaded(horn, horn * np.array((0.75, 0.35, 0.3), np.float32), 0.55, 1.1),
        gloss=0.5,
    )
    p.hard(ball(0.72, 0.2, 0.05, 0.035), INK, gloss=0)


def mothkin(p: HeadPainter) -> None:
    """Two combed antennae and great dark eyes above a woolly ruff."""
    coat, rng = p.coat, p.rng
    comb = p.pick(colour((0.9, 0.78, 0.5), (0.75, 0.55, 0.35), (0.92, 0.86, 0.72)))
    gleam = p.pick(colour((0.32, 0.1, 0.34), (0.08, 0.28, 0.34), (0.35, 0.08, 0.12)))

    def antenna(base: Point, angle: float, turn: float, shade: float) -> None:
        stem = curve(base, angle, turn, rng.uniform(1.7, 2.1), 9)
        for i in range(1, 10):
            heading = angle + turn * i / 9
            reach = 0.62 * math.sin(math.pi * (0.12 + 0.86 * i / 9.5)) ** 0.8
            for side in (-58, 58):
                tooth = curve(stem[i], heading + side, -side * 0.5, reach, 2)
                p.hard(limb(tooth, (0.075, 0.06, 0.03)), comb, gloss=0, shade=shade)
        p.hard(limb(stem, np.linspace(0.1, 0.05, 10).tolist()), comb * 0.6, gloss=0, shade=shade)

    antenna((0.4, -0.6), rng.uniform(-72, -55), rng.uniform(25, 50), 0.8)
    antenna((-0.05, -0.65), rng.uniform(-118, -98), rng.uniform(-45, -15), 1.0)
    ruff = [
        ball(-0.75 + 0.3 * i, 0.62 + 0.16 * math.sin(0.7 + 0.75 * i), 0.4, 0.36) for i in range(5)
    ]
    p.furry(merge(*ruff, soft=0.03), mix(coat.pale, WHITE, 0.6))
    p.furry(ball(0, 0, 0.92, 0.84), shaded(coat.fur, coat.pale, -0.2, 0.8))
    for x, y, rx, ry in ((0.8, -0.08, 0.26, 0.42), (0.16, -0.04, 0.47, 0.52)):
        p.hard(ball(x, y, rx, ry, -8), shaded(INK, gleam * 1.7, -0.15, 0.5), gloss=0.7)
        for dx, dy, r in ((-0.3, -0.36, 0.2), (0.1, -0.5, 0.09)):
            dot = ball(x + dx * rx, y + dy * ry, r * rx, r * rx)
            p.sprite.paint(p.frame, dot, WHITE, flat=1.0, rim=0, part=True)
    p.hard(
        limb(curve((0.66, 0.5), 40, 240, 0.75, 6), (0.07, 0.06, 0.06, 0.05, 0.05, 0.04, 0.03)), INK
    )


def sunfrill(p: HeadPainter) -> None:
    """A small whiskered face in a frill of petals, like a lion or a sunflower."""
    coat, rng = p.coat, p.rng
    outer, inner = _frill(rng)
    count, turn = int(rng.integers(11, 15)), rng.uniform(0, 30)
    for radius, length, width, petal in ((0.86, 0.62, 0.3, outer), (0.66, 0.5, 0.25, inner)):
        for i in range(count):
            angle = 360 * i / count + turn + (180 / count if petal is inner else 0)
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            tip = radius + length * rng.uniform(0.9, 1.1)
            spine = [(cos * r, sin * r) for r in (radius, (radius + tip) / 2, tip)]
            shape = limb(spine, (width * 0.8, width, width * 0.3))
            p.sprite.paint(p.frame, shape, petal, rim=0.4, flat=0.25, part=True)
    p.furry(ball(0.04, 0.02, 0.74, 0.7), shaded(coat.fur, coat.pale, -0.1, 0.6))
    p.furry(merge(ball(0.34, 0.26, 0.3, 0.24), ball(0.5, 0.22, 0.26, 0.22), soft=0.04), coat.pale)
    p.hard(ball(0.6, 0.1, 0.16, 0.11), INK)
    p.mark(limb(curve((0.56, 0.26), 95, 90, 0.35, 4), (0.03,) * 5), INK)
    p.eye(0.04, -0.14, 0.2)
    p.eye(0.56, -0.16, 0.15)


def _frill(rng: np.random.Generator) -> Sequence[Array]:
    """Colours of the outer and the inner petals."""
    pairs = (
        ((0.9, 0.3, 0.12), (0.99, 0.74, 0.2)),
        ((0.8, 0.16, 0.34), (0.99, 0.58, 0.45)),
        ((0.96, 0.55, 0.08), (0.99, 0.88, 0.4)),
    )
    return [np.array(c, np.float32) for c in pairs[rng.integers(len(pairs))]]


HEADS: dict[str, tuple[Callable[[HeadPainter], None], float]] = {
    "beakle": (beakle, 0.5),
    "hornling": (hornling, 0.47),
    "lopkin": (lopkin, 0.43),
    "mothkin": (mothkin, 0.43),
    "sunfrill": (sunfrill, 0.39),
}
"""Each class's head and its radius in body units, such that all cover about the same area."""
