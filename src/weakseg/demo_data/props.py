"""Things that stand about and belong to no class: flowers, stones, ferns, trees, clouds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from weakseg.demo_data.brush import (
    Array,
    Box,
    Light,
    Point,
    Sprite,
    ball,
    curve,
    limb,
    merge,
    mix,
    noise,
    step,
)

Rng = np.random.Generator


def rgb(rng: Rng, *choices: tuple[float, float, float]) -> Array:
    """One of the colours, slightly varied."""
    chosen = np.array(choices[int(rng.integers(len(choices)))], np.float32)
    return np.clip(chosen * rng.uniform(0.88, 1.12) + rng.normal(0, 0.02, 3), 0, 1).astype(
        np.float32
    )


def flower(s: Sprite, rng: Rng) -> None:
    """Stems with leaves and open blossoms."""
    green = rgb(rng, (0.3, 0.5, 0.2), (0.36, 0.52, 0.28))
    petal = rgb(rng, (0.95, 0.92, 0.88), (0.9, 0.4, 0.5), (0.6, 0.42, 0.85), (0.4, 0.55, 0.9),
                (0.95, 0.7, 0.3))  # fmt: skip
    heart = rgb(rng, (0.95, 0.8, 0.25), (0.5, 0.32, 0.2))
    for _ in range(int(rng.integers(1, 4))):
        stem = curve((rng.uniform(-0.25, 0.25), 0), rng.uniform(-110, -70), rng.uniform(-25, 25),
                     rng.uniform(0.7, 1.35), 4)  # fmt: skip
        s.paint(s.frame, limb(stem, (0.05, 0.045, 0.04, 0.04, 0.035)), green)
        for angle in (-150, -30):
            leaf = curve(stem[1], angle + rng.uniform(-20, 20), 30, 0.34, 3)
            s.paint(s.frame, limb(leaf, (0.03, 0.08, 0.07, 0.01)), green * 1.1)
        (x, y), count, size = stem[-1], int(rng.integers(5, 8)), rng.uniform(0.15, 0.22)
        for i in range(count):
            a = 2 * math.pi * i / count + x
            px, py = x + size * math.cos(a), y + size * 0.8 * math.sin(a)
            s.paint(s.frame, ball(px, py, size * 0.8, size * 0.5, math.degrees(a)), petal, flat=0.3)
        s.paint(s.frame, ball(x, y, size * 0.45, size * 0.4), heart)


def mushroom(s: Sprite, rng: Rng) -> None:
    """One or two dotted caps."""
    cap = rgb(rng, (0.8, 0.2, 0.14), (0.6, 0.4, 0.22), (0.86, 0.62, 0.3), (0.5, 0.36, 0.5))
    stalk = np.array((0.92, 0.87, 0.76), np.float32)
    for x, size in ((rng.uniform(-0.1, 0.05), 1.0), (0.42, 0.58))[: int(rng.integers(1, 3))]:
        f = s.frame.inside(x, 0, size * rng.uniform(0.85, 1.1), rng.uniform(-9, 9))
        s.paint(f, limb([(0, -0.1), (0, -0.55)], (0.17, 0.12)), stalk, fur=0.12)
        s.paint(f, ball(0, -0.58, 0.38, 0.1), stalk * 0.7)
        dome = merge(ball(0, -0.68, 0.44, 0.17), ball(0, -0.78, 0.3, 0.26), soft=0.05)
        s.paint(f, dome, cap, gloss=0.25)
        for dx, dy in ((-0.2, -0.72), (0.05, -0.88), (0.22, -0.7), (-0.03, -0.68)):
            s.paint(f, ball(dx, dy, 0.055, 0.045), stalk, rim=0)


def stone(s: Sprite, rng: Rng) -> None:
    """A boulder, sometimes mossy."""
    gray = rgb(rng, (0.55, 0.54, 0.52), (0.45, 0.46, 0.5), (0.6, 0.53, 0.45))
    moss = mix(gray, np.array((0.36, 0.45, 0.2), np.float32), 0.8 * (rng.random() < 0.4))
    low, wide = rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.8)
    lumps = [ball(0, -low * 0.7, wide, low * 0.8)]
    for _ in range(4):
        x, y = rng.uniform(-0.6, 0.6) * wide, -low * rng.uniform(0.5, 1.3)
        across, down = wide * rng.uniform(0.3, 0.55), low * rng.uniform(0.5, 0.8)
        lumps.append(ball(x, y, across, down, rng.uniform(-40, 40)))

    def tint(x: Array, y: Array) -> Array:
        return mix(moss, gray, step(-low * 1.7, -low * 0.8, y + 0.1 * np.sin(9 * x)))

    s.paint(s.frame, merge(*lumps, soft=0.04), tint, fur=0.22, ragged=0.2)


def fern(s: Sprite, rng: Rng) -> None:
    """A whorl of feathered fronds."""
    green = rgb(rng, (0.28, 0.5, 0.18), (0.2, 0.42, 0.24), (0.45, 0.5, 0.16))
    for i in range(int(rng.integers(4, 7))):
        start = -90 + (i - 2.5) * rng.uniform(18, 26)
        turn = (start + 90) * 1.1
        frond = curve((0, 0), start, turn, rng.uniform(1.0, 1.5), 9)
        tone = green * rng.uniform(0.75, 1.2)
        for j in range(2, 10):
            for side in (-62, 62):
                reach = 0.34 * (1.05 - j / 10) + 0.04
                leaf = curve(frond[j], start + turn * j / 9 + side, 0, reach, 1)
                s.paint(s.frame, limb(leaf, (0.05, 0.015)), tone, rim=0.25)
        s.paint(s.frame, limb(frond, np.linspace(0.035, 0.012, 10).tolist()), tone * 0.7)


def tuft(s: Sprite, rng: Rng) -> None:
    """Long grass."""
    green = rgb(rng, (0.42, 0.58, 0.22), (0.6, 0.6, 0.3), (0.3, 0.5, 0.26))
    for _ in range(int(rng.integers(9, 15))):
        blade = curve((rng.uniform(-0.3, 0.3), 0.03), rng.uniform(-125, -55), rng.uniform(-40, 40),
                      rng.uniform(0.5, 1.15), 4)  # fmt: skip
        tone = green * rng.uniform(0.7, 1.2)
        s.paint(s.frame, limb(blade, (0.05, 0.05, 0.04, 0.03, 0.008)), tone, rim=0.3, flat=0.4)


def leaves(s: Sprite, rng: Rng) -> None:
    """Gives a sprite the grain of foliage instead of fur."""
    s.fur = noise(rng, s.shape[0], s.shape[1], (5.0, 5.0), 2) * np.float32(2)


def bush(s: Sprite, rng: Rng) -> None:
    """A round bush, with berries in a good year."""
    leaves(s, rng)
    green = rgb(rng, (0.24, 0.42, 0.18), (0.35, 0.48, 0.2), (0.5, 0.4, 0.18))
    for row in range(3):
        lumps = [
            ball(rng.uniform(-0.65, 0.65), -0.9 + 0.28 * row + rng.uniform(-0.12, 0.12), 0.32, 0.28)
            for _ in range(4)
        ]
        s.paint(s.frame, merge(*lumps, soft=0.02), green * (0.8 + 0.15 * row), fur=0.6, ragged=1.2)
    if rng.random() < 0.5:
        berry = rgb(rng, (0.8, 0.2, 0.2), (0.3, 0.3, 0.6))
        for _ in range(9):
            x, y = rng.uniform(-0.7, 0.7), rng.uniform(-0.95, -0.25)
            s.paint(s.frame, ball(x, y, 0.06, 0.06), berry, gloss=0.5)


def tree(s: Sprite, rng: Rng) -> None:
    """A broad crown on a short trunk."""
    leaves(s, rng)
    green = rgb(rng, (0.26, 0.45, 0.18), (0.4, 0.5, 0.18), (0.72, 0.45, 0.16), (0.7, 0.3, 0.18))
    bark = np.array((0.4, 0.3, 0.22), np.float32)
    s.paint(s.frame, limb([(0, 0), (0.05, -0.7), (0, -1.4)], (0.2, 0.14, 0.1)), bark, fur=0.4)
    for row in range(3):
        lumps = [
            ball(rng.uniform(-0.6, 0.6), -2.05 + 0.4 * row + rng.uniform(-0.1, 0.1), 0.5, 0.42)
            for _ in range(4)
        ]
        s.paint(s.frame, merge(*lumps, soft=0.03), green * (0.78 + 0.16 * row), fur=0.6, ragged=1.3)


def conifer(s: Sprite, rng: Rng) -> None:
    """A fir, with snow on it or without."""
    leaves(s, rng)
    green = rgb(rng, (0.14, 0.34, 0.24), (0.2, 0.38, 0.2))
    top = mix(green, np.array((0.93, 0.95, 0.98), np.float32), 0.75 * (rng.random() < 0.5))
    s.paint(
        s.frame, limb([(0, 0), (0, -0.5)], (0.12, 0.1)), np.array((0.36, 0.26, 0.2), np.float32)
    )
    for i in range(4):
        y, wide = -0.45 - 0.52 * i, 0.72 - 0.15 * i

        def tint(_: Array, py: Array, y: float = y) -> Array:
            return mix(top, green, step(y - 0.45, y, py))

        tier = limb([(0, y - 0.66), (0, y - 0.12)], (0.05, wide * 0.55))
        wings = limb([(-wide, y), (0, y - 0.2), (wide, y)], (0.06, 0.2, 0.06))
        s.paint(s.frame, merge(tier, wings, soft=0.05), tint, fur=0.5, ragged=1.0)


def stump(s: Sprite, rng: Rng) -> None:
    """What the saw left, with its rings."""
    bark = rgb(rng, (0.4, 0.3, 0.22), (0.5, 0.42, 0.34))
    wood = np.array((0.82, 0.68, 0.48), np.float32)
    tall = rng.uniform(0.4, 0.8)
    s.paint(
        s.frame, limb([(-0.02, -tall), (0, -0.2), (0.02, -0.08)], (0.36, 0.38, 0.46)), bark, fur=0.5
    )
    s.paint(s.frame, limb([(0.3, -0.12), (0.7, -0.04)], (0.16, 0.06)), bark, fur=0.5)

    def rings(x: Array, y: Array) -> Array:
        distance = np.hypot(x + 0.02, (y + tall + 0.12) * 2.4)
        return mix(wood, bark, 0.3 + 0.3 * np.sin(distance * 55))

    s.paint(s.frame, ball(-0.02, -tall - 0.12, 0.38, 0.16), rings, flat=0.9)


def cactus(s: Sprite, rng: Rng) -> None:
    """A ribbed column with arms."""
    green = rgb(rng, (0.3, 0.5, 0.3), (0.4, 0.55, 0.35))
    tall = rng.uniform(1.3, 2.0)

    def ribs(x: Array, _: Array) -> Array:
        return mix(green, green * 0.7, 0.5 + 0.5 * np.sin(x * 48))

    for side in (-1, 1)[: int(rng.integers(0, 3))]:
        y = -tall * rng.uniform(0.35, 0.6)
        arm: list[Point] = [(0, y), (side * 0.45, y), (side * 0.5, y - rng.uniform(0.3, 0.6))]
        s.paint(s.frame, limb(arm, (0.13, 0.14, 0.12)), ribs)
    s.paint(s.frame, limb([(0, 0), (0, -tall)], (0.2, 0.22)), ribs, fur=0.15)
    if rng.random() < 0.5:
        for dx in (-0.1, 0.02, 0.12):
            s.paint(s.frame, ball(dx, -tall - 0.2, 0.09, 0.1), rgb(rng, (0.95, 0.45, 0.6)))


def branch(s: Sprite, rng: Rng) -> None:
    """Driftwood, a little like antlers."""
    wood = rgb(rng, (0.55, 0.45, 0.36), (0.42, 0.32, 0.25), (0.68, 0.62, 0.55))
    spine = curve((-0.9, -0.1), rng.uniform(-25, 0), rng.uniform(-10, 25), 1.8, 5)
    s.paint(s.frame, limb(spine, (0.14, 0.12, 0.11, 0.09, 0.07, 0.04)), wood, fur=0.4)
    for i in (1, 3, 4):
        twig = curve(
            spine[i], rng.uniform(-80, -30), rng.uniform(-40, 40), rng.uniform(0.35, 0.7), 3
        )
        s.paint(s.frame, limb(twig, (0.08, 0.06, 0.045, 0.02)), wood, fur=0.4)


def shell(s: Sprite, rng: Rng) -> None:
    """A scallop."""
    pink = rgb(rng, (0.93, 0.72, 0.66), (0.9, 0.84, 0.72), (0.75, 0.62, 0.72))
    f = s.frame.inside(0, -0.05, rng.uniform(0.7, 1.1), rng.uniform(-35, 35))

    def ribs(x: Array, y: Array) -> Array:
        angle = np.arctan2(x, -y)
        return mix(pink, pink * 0.72, 0.5 + 0.5 * np.sin(angle * 22))

    fan = [limb([(0, 0), (0.4 * math.sin(a), -0.4 * math.cos(a))], (0.05, 0.16))
           for a in (-0.9, -0.45, 0, 0.45, 0.9)]  # fmt: skip
    s.paint(f, merge(*fan, soft=0.01), ribs)
    s.paint(f, ball(0, 0, 0.14, 0.08), pink * 0.85)


def starfish(s: Sprite, rng: Rng) -> None:
    """Five arms, lying flat."""
    red = rgb(rng, (0.85, 0.42, 0.25), (0.75, 0.3, 0.4), (0.5, 0.4, 0.65))
    turn = rng.uniform(0, 72)
    arms = []
    for i in range(5):
        a = math.radians(turn + 72 * i)
        arms.append(
            limb([(0, -0.3), (0.55 * math.cos(a), -0.3 + 0.34 * math.sin(a))], (0.17, 0.06))
        )

    def dots(x: Array, y: Array) -> Array:
        return mix(red, np.clip(red * 1.6, 0, 1), step(0.4, 0.8, np.sin(x * 34) * np.sin(y * 40)))

    s.paint(s.frame, merge(*arms, soft=0.02), dots, fur=0.15)


def cloud(s: Sprite, rng: Rng) -> None:
    """A heap of white."""
    white = np.array((0.95, 0.96, 0.98), np.float32)
    lumps = [ball(-0.9 + 0.3 * i, -0.25 - rng.uniform(0, 0.2), 0.34, 0.22) for i in range(7)]
    lumps += [ball(rng.uniform(-0.5, 0.5), -0.5, 0.38, 0.3) for _ in range(3)]
    s.paint(s.frame, merge(*lumps, soft=0.06), white, rim=0.0, fur=0.05, flat=0.35)


PROPS: dict[str, tuple[Callable[[Sprite, Rng], None], Box, float]] = {
    "branch": (branch, (-1.1, -1.6, 1.3, 0.4), 0.8),
    "bush": (bush, (-1.2, -1.5, 1.2, 0.2), 0.9),
    "cactus": (cactus, (-0.8, -2.6, 0.8, 0.3), 0.9),
    "conifer": (conifer, (-1.0, -3.0, 1.0, 0.2), 1.25),
    "fern": (fern, (-1.6, -1.7, 1.6, 0.4), 0.9),
    "flower": (flower, (-1.2, -1.9, 1.2, 0.2), 0.75),
    "mushroom": (mushroom, (-0.7, -1.3, 0.9, 0.2), 0.75),
    "shell": (shell, (-0.7, -0.8, 0.7, 0.3), 0.6),
    "starfish": (starfish, (-0.8, -0.9, 0.8, 0.3), 0.6),
    "stone": (stone, (-1.2, -1.2, 1.2, 0.3), 0.75),
    "stump": (stump, (-0.7, -1.2, 1.0, 0.5), 0.9),
    "tree": (tree, (-1.3, -2.8, 1.3, 0.3), 1.2),
    "tuft": (tuft, (-1.3, -1.4, 1.3, 0.2), 0.8),
}
"""Each thing's painter, the box it needs, and its size in creatures' units."""


def draw_prop(name: str, rng: Rng, unit: float, light: Light) -> Sprite:
    """Draws one thing.

    Args:
        name: A key of `PROPS`.
        rng: Where the variety comes from.
        unit: Pixels of a creature's body unit at the place where it stands.
        light: The light it stands in.
    """
    paint, box, size = PROPS[name]
    sprite = Sprite(
        box, unit * size * rng.uniform(0.75, 1.2), light, rng, mirrored=rng.random() < 0.5
    )
    paint(sprite, rng)
    return sprite


def draw_cloud(rng: Rng, unit: float, light: Light) -> Sprite:
    """Draws a cloud of about two units' width."""
    sprite = Sprite((-1.4, -1.0, 1.4, 0.2), unit, light, rng, mirrored=rng.random() < 0.5)
    cloud(sprite, rng)
    return sprite
