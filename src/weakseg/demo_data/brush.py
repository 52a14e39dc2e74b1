"""Soft shapes, noise and the sprite they are painted on.

A shape is a field g with g > 0 inside, shaped like r² − d² (r the local radius, d the distance to
the axis). Where g is a ball, h = √g is the height of its surface, so one field gives the silhouette
(g = 0), its anti-aliased coverage (g / |∇g| is the distance to the edge) and the surface normal
(−∂g/∂x, −∂g/∂y, 2h) for the light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
Tint = Callable[[Array, Array], Array]
"""Colours [h,w,3] at local coordinates x, y [h,w]."""

SUPERSAMPLING = 2
"""Sub-pixels per pixel and axis; the coverage within each sub-pixel is analytic."""


def noise(
    rng: np.random.Generator, height: int, width: int, cells: Point, octaves: int = 1
) -> Array:
    """Fractal value noise.

    Args:
        rng: Where the randomness comes from.
        height: Rows in pixels.
        width: Columns in pixels.
        cells: Size (down, across) in pixels of a cell of the coarsest octave.
        octaves: How many octaves, each of half the cell and half the amplitude.

    Returns:
        [height,width] float32 in −1..1, mostly within ±0.6.
    """
    total = np.zeros((height, width), np.float32)
    amplitude, weight = 1.0, 0.0
    down, across = cells
    for _ in range(octaves):
        rows, columns = max(2, round(height / down) + 1), max(2, round(width / across) + 1)
        grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        octave = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += amplitude * np.asarray(octave)
        weight += amplitude
        amplitude, down, across = amplitude / 2, max(1.0, down / 2), max(1.0, across / 2)
    return np.asarray(np.clip(total / weight, -1, 1), np.float32)


def waves(rng: np.random.Generator, pitch: float) -> Callable[[Array, Array], Array]:
    """Smooth noise over local coordinates: plane waves, about `pitch` units long, summed up."""
    angles, phases = rng.uniform(0, 2 * math.pi, (2, 5)).tolist()
    pitches = (pitch * rng.uniform(0.6, 1.5, 5)).tolist()

    def field(x: Array, y: Array) -> Array:
        total = np.zeros_like(x)
        for angle, phase, length in zip(angles, phases, pitches, strict=True):
            turn = 2 * math.pi / length
            total += np.sin(x * (math.cos(angle) * turn) + y * (math.sin(angle) * turn) + phase)
        return total / 2.5

    return field


def mix(first: Array, second: Array, share: Array | float) -> Array:
    """Colours between `first` and `second`; shares [h,w] are spread over the channels."""
    if isinstance(share, np.ndarray):
        share = share[..., None]
    return (first + (second - first) * share).astype(np.float32)


def step(low: float, high: float, value: Array) -> Array:
    """A smooth rise from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


@dataclass(frozen=True)
class Shape:
    """A field that is positive inside, and a box beyond which it is negative."""

    box: Box
    field: Callable[[Array, Array], Array]


def ball(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Shape:
    """An ellipsoid around (x, y), turned by `angle` degrees, as deep as it is narrow."""
    reach = max(rx, ry)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    depth = min(rx, ry) ** 2

    def field(px: Array, py: Array) -> Array:
        dx, dy = px - x, py - y
        u, v = (dx * cos + dy * sin) / rx, (dy * cos - dx * sin) / ry
        return depth * (1 - u * u - v * v)

    return Shape((x - reach, y - reach, x + reach, y + reach), field)


def limb(points: Sequence[Point], radii: Sequence[float]) -> Shape:
    """A chain of capsules through `points`, whose radii ease into each other."""
    reach = max(radii)
    xs, ys = [p[0] for p in points], [p[1] for p in points]

    def field(px: Array, py: Array) -> Array:
        best: Array | None = None
        for i in range(len(points) - 1):
            (ax, ay), (bx, by) = points[i], points[i + 1]
            ex, ey = bx - ax, by - ay
            dx, dy = px - ax, py - ay
            t = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey + 1e-9), 0, 1)
            radius = radii[i] + (radii[i + 1] - radii[i]) * (t * t * (3 - 2 * t))
            dx, dy = dx - ex * t, dy - ey * t
            g = radius * radius - dx * dx - dy * dy
            best = g if best is None else np.maximum(best, g)
        if best is None:
            raise ValueError(f"expected at least 2 points, got {len(points)}")
        return best

    return Shape((min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach), field)


def merge(*shapes: Shape, soft: float = 0.05) -> Shape:
    """The union of shapes, melted into each other where their fields differ by less than `soft`."""
    boxes = np.array([s.box for s in shapes])
    low, high = boxes[:, :2].min(0) - soft, boxes[:, 2:].max(0) + soft

    def field(px: Array, py: Array) -> Array:
        total = shapes[0].field(px, py)
        for shape in shapes[1:]:
            other = shape.field(px, py)
            share = np.clip(0.5 + 0.5 * (total - other) / soft, 0, 1)
            total = other + (total - other) * share + soft * share * (1 - share)
        return total

    return Shape((float(low[0]), float(low[1]), float(high[0]), float(high[1])), field)


def curve(start: Point, angle: float, turn: float, length: float, steps: int) -> list[Point]:
    """Points of an arc that leaves `start` at `angle` and bends by `turn` in all (degrees)."""
    points, (x, y) = [start], start
    for i in range(steps):
        heading = math.radians(angle + turn * (i + 0.5) / steps)
        x += length / steps * math.cos(heading)
        y += length / steps * math.sin(heading)
        points.append((x, y))
    return points


@dataclass(frozen=True)
class Light:
    """Sunlight from above the viewer's left shoulder, and what the sky adds.

    Attributes:
        sun: Colour of the direct light.
        sky: Colour of the light from everywhere.
        side: Where the sun stands: −1 left to 1 right.
    """

    sun: tuple[float, float, float] = (0.78, 0.75, 0.68)
    sky: tuple[float, float, float] = (0.42, 0.44, 0.48)
    side: float = -0.4

    def direction(self) -> tuple[float, float, float]:
        """The unit vector to the sun: right, down, towards the viewer."""
        x, y, z = self.side, -0.78, 0.55
        norm = math.sqrt(x * x + y * y + z * z)
        return x / norm, y / norm, z / norm


@dataclass(frozen=True)
class Frame:
    """Local coordinates on a sprite: x forward, y down, one unit = `unit` sub-pixels.

    Attributes:
        origin: Where (0, 0) is, in sub-pixels (across, down).
        unit: Length of a local unit in sub-pixels.
        angle: Turn in degrees, clockwise as seen before mirroring.
        mirrored: Whether x points left.
    """

    origin: Point
    unit: float
    angle: float = 0.0
    mirrored: bool = False

    def __call__(self, x: float, y: float) -> Point:
        """Sub-pixel position (across, down) of a local point."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        across, down = x * cos - y * sin, x * sin + y * cos
        sign = -1 if self.mirrored else 1
        return self.origin[0] + sign * across * self.unit, self.origin[1] + down * self.unit

    def inside(self, x: float, y: float, scale: float, angle: float = 0.0) -> Frame:
        """A frame within this one, around (x, y), its unit `scale` of this one's."""
        return Frame(self(x, y), self.unit * scale, self.angle + angle, self.mirrored)

    def local(self, rows: slice, columns: slice) -> tuple[Array, Array]:
        """Local coordinates x, y [h,w] of a window's sub-pixel centres."""
        across = np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - self.origin[0]
        down = np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - self.origin[1]
        if self.mirrored:
            across = -across
        cos = math.cos(math.radians(self.angle)) / self.unit
        sin = math.sin(math.radians(self.angle)) / self.unit
        x = across[None] * cos + down[:, None] * sin
        y = down[:, None] * cos - across[None] * sin
        return x.astype(np.float32), y.astype(np.float32)


class Sprite:
    """A patch on which lit shapes are painted one over the other, and then reduced to pixels.

    Args:
        box: What must fit on it, in units around the anchor: left, top, right, bottom.
        unit: Pixels of the final image per unit.
        light: The light it stands in.
        rng: Where the grain of fur and stone comes from.
        angle: Turn of everything on it, in degrees.
        mirrored: Whether it looks left instead of right.

    Attributes:
        frame: The coordinates to draw in; (0, 0) is the anchor, the point on the ground.
        fur: [H,W] streaks, about −1..1.
    """

    def __init__(
        self,
        box: Box,
        unit: float,
        light: Light,
        rng: np.random.Generator,
        *,
        angle: float = 0.0,
        mirrored: bool = False,
    ) -> None:
        left, top, right, bottom = (-box[2], box[1], -box[0], box[3]) if mirrored else box
        self.anchor = (math.ceil(-left * unit) + 2, math.ceil(-top * unit) + 2)
        width = self.anchor[0] + math.ceil(right * unit) + 2
        height = self.anchor[1] + math.ceil(bottom * unit) + 2
        s = SUPERSAMPLING
        self.shape = (height * s, width * s)
        origin = (float(self.anchor[0] * s), float(self.anchor[1] * s))
        self.frame = Frame(origin, unit * s, angle, mirrored)
        self.light = light
        self.rgb = np.zeros((*self.shape, 3), np.float32)
        self.alpha = np.zeros(self.shape, np.float32)
        self.part = np.zeros(self.shape, np.float32)
        streaks = noise(rng, self.shape[0], self.shape[1], (9.0, 2.4), 2)
        shear = (np.arange(self.shape[0])[:, None] // 2 + np.arange(self.shape[1])) % self.shape[1]
        self.fur: Array = np.take_along_axis(streaks, shear, 1) * 1.6

    def window(self, frame: Frame, box: Box, margin: float) -> tuple[slice, slice] | None:
        """Rows and columns that a local box covers, or None where it is off the sprite."""
        corners = [frame(x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
        left = max(0, math.floor(min(c[0] for c in corners) - margin))
        right = min(self.shape[1], math.ceil(max(c[0] for c in corners) + margin))
        top = max(0, math.floor(min(c[1] for c in corners) - margin))
        bottom = min(self.shape[0], math.ceil(max(c[1] for c in corners) + margin))
        if right - left < 3 or bottom - top < 3:
            return None
        return slice(top, bottom), slice(left, right)

    def paint(
        self,
        frame: Frame,
        shape: Shape,
        colour: Array | Tint,
        *,
        fur: float = 0.0,
        ragged: float = 0.0,
        rim: float = 0.45,
        gloss: float = 0.0,
        shade: float = 1.0,
        flat: float = 0.0,
        part: bool = False,
        within: bool = False,
    ) -> None:
        """Paints a lit shape over what is there.

        Args:
            frame: The coordinates the shape is given in.
            shape: What to paint.
            colour: One colour [3], or colours at local coordinates.
            fur: Strength of the streaks on the surface.
            ragged: How far, in pixels, the streaks move the edge.
            rim: Darkening of the outline, 0..1.
            gloss: Strength of the highlight.
            shade: Factor on the light (far legs stand in the body's shadow).
            flat: 0 lights the shape as a body, 1 as a leaf of paper.
            part: Whether it belongs to the telling part (the head).
            within: Only colour what is painted already; the silhouette stays as it is.
        """
        s = SUPERSAMPLING
        found = self.window(frame, shape.box, 2 + ragged * s)
        if found is None:
            return
        x, y = frame.local(*found)
        g = shape.field(x, y) * np.float32(frame.unit**2)
        gy, gx = np.gradient(g)
        slope2 = gx * gx + gy * gy
        edge = g / np.sqrt(slope2 + 1e-3)
        if ragged:
            edge = edge + (ragged * s) * self.fur[found]
        cover = np.clip(edge + 0.5, 0, 1)
        height = 2 * np.sqrt(np.maximum(g, 0))
        lx, ly, lz = self.light.direction()
        norm = 1 / np.sqrt(slope2 + height * height + 1e-6)
        facing = (height * lz - gx * lx - gy * ly) * norm
        lit = np.clip(facing * (1 - flat) + 0.62 * flat, 0, 1) * shade
        if fur:
            lit = lit * (1 + fur * self.fur[found])
        dim = np.clip(1 - edge / (1.7 * s), 0, 1)
        dim = (1 - rim * dim) * shade
        paint = colour(x, y) if callable(colour) else colour
        sun = np.array(self.light.sun, np.float32)
        sky = np.array(self.light.sky, np.float32)
        out = paint * ((lit * dim)[..., None] * sun + dim[..., None] * sky)
        if gloss:
            out = out + (gloss * np.clip(facing, 0, 1) ** 24)[..., None] * (sun + 0.2)
        out = np.clip(out, 0, 1)
        if within:
            below = self.alpha[found][..., None]
            self.rgb[found] += (out * below - self.rgb[found]) * cover[..., None]
            return
        keep = 1 - cover
        self.rgb[found] = self.rgb[found] * keep[..., None] + out * cover[..., None]
        self.alpha[found] = self.alpha[found] * keep + cover
        self.part[found] = self.part[found] * keep + (cover if part else 0)

    def darken(self, frame: Frame, shape: Shape, strength: float, spread: float) -> None:
        """Lets a shape cast a soft shadow of `spread` local units on what is painted."""
        found = self.window(frame, shape.box, spread * frame.unit)
        if found is None:
            return
        g = shape.field(*frame.local(*found)) * np.float32(frame.unit**2)
        gy, gx = np.gradient(g)
        edge = g / np.sqrt(gx * gx + gy * gy + 1e-3) / (spread * frame.unit)
        self.rgb[found] *= (1 - strength * step(-1, 0.2, edge))[..., None]

    def reduced(self) -> tuple[Array, Array, Array]:
        """Premultiplied colours [h,w,3], coverage [h,w] and the telling part's coverage [h,w]."""
        s = SUPERSAMPLING

        def reduce(a: Array) -> Array:
            total = sum((a[i::s, j::s] for i in range(s) for j in range(s)), np.float32(0))
            return np.asarray(total / np.float32(s * s), np.float32)

        return reduce(self.rgb), reduce(self.alpha), reduce(self.part)
