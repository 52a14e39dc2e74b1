"""Creatures of one make: body, legs and tail are drawn alike for all, the head tells the class."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from weakseg.demo_data.brush import (
    Array,
    Box,
    Light,
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
    waves,
)
from weakseg.demo_data.heads import HEADS, Coat, HeadPainter

BOX: Box = (-3.1, -3.9, 2.8, 0.6)
"""Room for any pose, in body units around the point below the body's middle."""

HUES = (0.03, 0.06, 0.085, 0.11, 0.3, 0.47, 0.55, 0.6, 0.74, 0.84, 0.95)
"""Hues of furs, from rust over moss and teal to plum and rose."""


@dataclass(frozen=True)
class Pose:
    """A creature's build: its trunk, near and far legs, and where head and tail begin."""

    body: Shape
    near: tuple[Shape, ...]
    far: Shape
    feet: tuple[Point, ...]
    head: Point
    tail: Point
    tail_angle: float
    ground: tuple[float, float]
    lift: float = 0.0


def draw_creature(
    kind: str,
    rng: np.random.Generator,
    unit: float,
    light: Light,
    *,
    mirrored: bool = False,
) -> tuple[Sprite, Pose]:
    """Draws one creature of class `kind`.

    Body, tail, coat and pose are drawn from `rng` before the class is looked at, so that they say
    nothing about it.

    Args:
        kind: A key of `HEADS`.
        rng: Where the variety comes from.
        unit: Pixels of a body unit; a standing creature is 2 to 3 units high.
        light: The light it stands in.
        mirrored: Whether it looks left.

    Returns:
        Its sprite, whose `part` is the head, and its pose.
    """
    coat = _coat(rng)
    pose = (_standing, _standing, _sitting, _lying, _leaping)[rng.integers(5)](rng)
    sway = rng.uniform(-6, 6) - (12 if pose.lift else 0)
    sprite = Sprite(BOX, unit, light, rng, angle=sway, mirrored=mirrored)
    frame = sprite.frame
    tint = _pattern(coat, sprite, rng)
    sprite.paint(frame, pose.far, coat.fur, fur=0.3, ragged=coat.ragged, shade=0.62)
    _tail(sprite, pose, coat, rng)
    sprite.paint(frame, pose.body, tint, fur=0.34, ragged=coat.ragged, rim=0.5)
    for leg in pose.near:
        sprite.darken(frame, leg, 0.3, 0.12)
        sprite.paint(frame, leg, tint, fur=0.34, ragged=coat.ragged * 0.7, rim=0.3)
    if rng.random() < 0.5:
        sock = coat.mark if rng.random() < 0.6 else coat.pale
        for x, y in pose.feet:
            paw = ball(x, y, 0.24, 0.2)
            sprite.paint(frame, paw, sock, fur=0.2, rim=0.2, flat=0.3, within=True)
    tilt, wobble = rng.uniform(-20, 16) - sway * 0.6, rng.uniform(0.94, 1.06)
    paint, radius = HEADS[kind]
    head = frame.inside(*pose.head, radius * wobble, tilt)
    sprite.darken(head, ball(-0.1, 0.35, 0.95, 0.9), 0.4, 0.3)
    paint(HeadPainter(sprite, head, coat, rng))
    return sprite, pose


def _coat(rng: np.random.Generator) -> Coat:
    hue = HUES[rng.integers(len(HUES))] + rng.normal(0, 0.012)
    saturation, value = rng.uniform(0.22, 0.68), rng.uniform(0.42, 0.86)
    if rng.random() < 0.18:
        saturation *= 0.25
    if hue > 0.7:
        saturation = 0.15 + 0.5 * saturation

    def tone(h: float, s: float, v: float) -> Array:
        return np.array(colorsys.hsv_to_rgb(h % 1, min(s, 1), min(v, 1)), np.float32)

    other = hue + (0.0, 0.0, 0.08, -0.08, 0.5)[rng.integers(5)]
    dark = rng.random() < 0.65 or value > 0.75
    return Coat(
        fur=tone(hue, saturation, value),
        pale=tone(hue + 0.03, saturation * 0.38, value * 0.35 + 0.66),
        mark=tone(other, saturation * 1.15, value * 0.48 if dark else value * 0.4 + 0.6),
        ragged=(0.15, 0.6, 1.0)[rng.integers(3)],
    )


def _pattern(coat: Coat, sprite: Sprite, rng: np.random.Generator) -> Tint:
    """Belly, back and the coat's marks: none, spots, stripes, patches or a saddle."""
    kind = int(rng.integers(5))
    pitch, phase = rng.uniform(0.36, 0.5), rng.uniform(0, 6.3)
    lean, belly = rng.uniform(-0.5, 0.5), rng.uniform(-0.75, -0.45)
    wild = waves(rng, 1.1)

    def spots(x: Array, y: Array) -> Array:
        row = np.round(y / pitch)
        column = np.round(x / pitch + 0.5 * (row % 2))
        chance = np.sin(column * 12.99 + row * 78.23 + phase) * 43.7
        chance = chance - np.floor(chance)
        dx = x / pitch + 0.5 * (row % 2) - column + (chance - 0.5) * 0.4
        dy = y / pitch - row + (np.sin(chance * 40)) * 0.18
        return step(0.0, 0.12, 0.18 + 0.16 * chance - np.hypot(dx, dy))

    def tint(x: Array, y: Array) -> Array:
        warp = wild(x, y)
        if kind == 1:
            marks = spots(x, y)
        elif kind == 2:
            marks = step(0.1, 0.45, np.sin((x + lean * y) * 4.6 / pitch + 1.3 * warp))
            marks = marks * step(-0.45, -0.85, y)
        elif kind == 3:
            marks = step(0.1, 0.22, warp)
        elif kind == 4:
            marks = step(-1.05, -1.3, y + 0.12 * warp + 0.06 * np.sin(11 * x))
        else:
            marks = np.zeros_like(x)
        colours = mix(coat.fur, coat.mark, marks * np.float32(0.85))
        return mix(colours, coat.pale, step(belly - 0.2, belly + 0.1, y + 0.12 * warp) * 0.7)

    return tint


def _tail(sprite: Sprite, pose: Pose, coat: Coat, rng: np.random.Generator) -> None:
    kind = int(rng.integers(5))
    angle, turn = pose.tail_angle + rng.uniform(-18, 18), rng.uniform(30, 110)
    end_colour = coat.mark if rng.random() < 0.5 else coat.pale
    if kind == 0:
        points = curve(pose.tail, angle, turn, 1.5, 8)
        shape = merge(
            limb(points, np.linspace(0.12, 0.07, 9).tolist()), ball(*points[-1], 0.2, 0.17)
        )
        sharp = 0.28
    elif kind == 1:
        points = curve(pose.tail, angle, turn * 0.9, 1.6, 8)
        shape = limb(points, (0.13, 0.19, 0.26, 0.32, 0.35, 0.34, 0.29, 0.2, 0.06))
        sharp = 0.42
    elif kind == 2:
        points = curve(pose.tail, angle, 330, 2.0, 10)
        shape = limb(points, np.linspace(0.15, 0.08, 11).tolist())
        sharp = 0.2
    elif kind == 3:
        points = curve(pose.tail, angle, 10, 0.3, 2)
        shape = merge(ball(*points[-1], 0.27, 0.25), ball(*points[1], 0.2, 0.2))
        sharp = 0.1
    else:
        points = curve(pose.tail, angle, -turn * 0.7 + 20, 1.6, 8)
        shape = limb(points, (0.14, 0.17, 0.19, 0.2, 0.2, 0.19, 0.17, 0.14, 0.08))
        sharp = 0.3
    end = points[-1]
    rings = kind == 4

    def tint(x: Array, y: Array) -> Array:
        distance = np.hypot(x - end[0], y - end[1])
        if rings:
            return mix(coat.fur, end_colour, step(-0.2, 0.2, np.sin(distance * 13)))
        return mix(end_colour, coat.fur, step(sharp, sharp + 0.15, distance))

    sprite.paint(sprite.frame, shape, tint, fur=0.34, ragged=coat.ragged + 0.3, shade=0.9)


def _leg(top: Point, foot: Point, width: float, bend: float, thigh: float = 1.5) -> Shape:
    knee = ((top[0] + foot[0]) / 2 + bend, (top[1] + foot[1]) / 2)
    ankle = (foot[0], foot[1] - width * 0.75)
    return merge(
        limb([top, knee, ankle], (width * thigh, width * 1.15, width * 0.9)),
        ball(foot[0] + width * 0.45, foot[1] - width * 0.7, width * 1.35, width * 0.8),
        soft=0.03,
    )


def _standing(rng: np.random.Generator) -> Pose:
    return _quadruped(rng, rng.uniform(0.5, 0.85), rng.uniform(0.0, 0.34), 0.0)


def _leaping(rng: np.random.Generator) -> Pose:
    return _quadruped(rng, rng.uniform(0.5, 0.7), rng.uniform(0.4, 0.6), rng.uniform(0.25, 0.5))


def _quadruped(rng: np.random.Generator, leg: float, stride: float, lift: float) -> Pose:
    half, r, w = rng.uniform(0.46, 0.76), rng.uniform(0.44, 0.56), rng.uniform(0.14, 0.18)
    base = -lift
    hip, chest = (-half, base - leg - 0.75 * r), (half, base - leg - 0.85 * r)
    middle = (0.0, base - leg - 0.75 * r + rng.uniform(-0.12, 0.08))
    trunk = limb([hip, middle, chest], (r * 0.98, r * rng.uniform(0.82, 1.04), r * 1.02))
    head = (half + rng.uniform(0.42, 0.66), chest[1] - rng.uniform(0.42, 0.85))
    neck = limb([(half + 0.02, chest[1] - 0.1), (head[0] - 0.08, head[1] + 0.12)], (r * 0.8, 0.3))
    swing = stride if rng.random() < 0.5 else -stride
    outward = 1 if lift else 0
    back, front = -half - 0.08, half + 0.04
    feet = (
        (back - abs(swing) * outward + swing * (1 - outward), base + (0.2 * outward)),
        (front + abs(swing) * outward - swing * (1 - outward), base - 0.1 * outward),
    )
    far_feet = (
        (back + 0.28 - swing * (1 - 2 * outward * 0.6), base - 0.07 + 0.16 * outward),
        (front - 0.22 + swing * (1 - 2 * outward * 0.2), base - 0.07 - 0.16 * outward),
    )
    near = [
        _leg((-half + 0.04, base - leg - 0.62 * r), feet[0], w, 0.1, 2.3),
        _leg((half - 0.04, base - leg - 0.5 * r), feet[1], w, -0.04, 1.9),
    ]
    far = [
        _leg((-half + 0.2, base - leg - 0.4 * r), far_feet[0], w, 0.1),
        _leg((half - 0.22, base - leg - 0.4 * r), far_feet[1], w, -0.03),
    ]
    return Pose(
        body=merge(trunk, neck, soft=0.12),
        near=(near[0], near[1]),
        far=merge(*far, soft=0.01),
        feet=feet,
        head=head,
        tail=(hip[0] - r * 0.75, hip[1] - r * 0.25),
        tail_angle=-150,
        ground=(-half - 0.5, half + 0.6),
        lift=lift,
    )


def _sitting(rng: np.random.Generator) -> Pose:
    r, tall, w = rng.uniform(0.56, 0.68), rng.uniform(1.15, 1.45), rng.uniform(0.14, 0.17)
    rump, chest = (-0.3, -r * 0.95), (0.3, -tall)
    trunk = limb([rump, (0.05, -tall * 0.68), chest], (r, r * 0.88, 0.44))
    head = (chest[0] + rng.uniform(0.08, 0.3), chest[1] - rng.uniform(0.5, 0.66))
    neck = limb([chest, (head[0] - 0.06, head[1] + 0.15)], (0.4, 0.3))
    feet = ((0.2, 0.0), (0.52, 0.0))
    haunch = merge(
        ball(-0.28, -0.42, 0.46, 0.4, -20),
        ball(0.18, -0.12, 0.3, 0.13),
        soft=0.04,
    )
    front = _leg((0.42, -tall * 0.72), feet[1], w, 0.02)
    return Pose(
        body=merge(trunk, neck, soft=0.12),
        near=(front, haunch),
        far=_leg((0.5, -tall * 0.7), (0.76, -0.06), w, 0.02),
        feet=feet,
        head=head,
        tail=(-0.72, -0.3),
        tail_angle=-178,
        ground=(-0.9, 0.95),
    )


def _lying(rng: np.random.Generator) -> Pose:
    half, r, w = rng.uniform(0.5, 0.75), rng.uniform(0.46, 0.56), rng.uniform(0.14, 0.17)
    hip, chest = (-half, -r * 0.98), (half, -r * 1.05)
    trunk = limb([hip, (0, -r * 1.0), chest], (r, r * 0.96, r * 0.92))
    head = (half + rng.uniform(0.3, 0.5), chest[1] - rng.uniform(0.4, 0.75))
    neck = limb([(half, chest[1] - 0.1), (head[0] - 0.08, head[1] + 0.12)], (r * 0.8, 0.3))
    haunch = merge(
        ball(-half + 0.02, -r * 0.75, 0.48, 0.38, -15), ball(-half + 0.42, -0.13, 0.34, 0.14),
        soft=0.04,
    )  # fmt: skip
    paws = limb([(half - 0.1, -0.2), (half + 0.62, -w)], (w * 1.2, w))
    return Pose(
        body=merge(trunk, neck, soft=0.12),
        near=(paws, haunch),
        far=limb([(half, -0.25), (half + 0.8, -w - 0.06)], (w * 1.2, w)),
        feet=((half + 0.6, -0.12),),
        head=head,
        tail=(-half - r * 0.75, -r * 0.7),
        tail_angle=-165,
        ground=(-half - 0.55, half + 0.85),
    )
