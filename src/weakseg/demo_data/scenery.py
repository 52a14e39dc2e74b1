"""Backdrops: sky and ground of a place at some hour, without any creature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from weakseg.demo_data.brush import Array, Light, mix, noise, step

Rng = np.random.Generator
Hue = tuple[float, float, float]


@dataclass(frozen=True)
class Backdrop:
    """A painted place and what it asks of whatever is put there.

    Attributes:
        image: [H,W,3] in 0..1.
        horizon: Row where the ground begins, in pixels; negative where no sky is seen.
        light: The light of the hour.
        haze: Colour [3] that distance mixes in.
        props: Names of things that stand on this ground.
        clouds: Whether clouds may be hung in the sky.
    """

    image: Array
    horizon: float
    light: Light
    haze: Array
    props: tuple[str, ...]
    clouds: bool = False


@dataclass(frozen=True)
class Hour:
    """Colours of a time of day: sky above, sky at the horizon, sun and skylight."""

    zenith: Hue
    low: Hue
    sun: Hue
    sky: Hue


HOURS = (
    Hour((0.34, 0.58, 0.88), (0.82, 0.9, 0.96), (0.82, 0.78, 0.68), (0.4, 0.42, 0.47)),
    Hour((0.5, 0.68, 0.86), (0.95, 0.93, 0.86), (0.84, 0.78, 0.66), (0.4, 0.41, 0.45)),
    Hour((0.42, 0.42, 0.66), (0.99, 0.72, 0.5), (0.92, 0.66, 0.46), (0.38, 0.35, 0.45)),
    Hour((0.58, 0.63, 0.7), (0.83, 0.85, 0.87), (0.55, 0.57, 0.6), (0.5, 0.51, 0.54)),
)


def rgb(*colour: float) -> Array:
    """A colour [3] as an array."""
    return np.array(colour, np.float32)


PLANE = 320
"""Side of the tile of noise that ground is textured with."""


class Canvas:
    """A picture in the making.

    Args:
        height: Rows.
        width: Columns.
        rng: Where the variety comes from.
        horizon: Row where the ground begins.
    """

    def __init__(self, height: int, width: int, rng: Rng, horizon: float) -> None:
        self.height, self.width, self.rng, self.horizon = height, width, rng, horizon
        self.image: Array = np.zeros((height, width, 3), np.float32)
        self.rows = np.arange(height, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32)

    def sky(self, hour: Hour, wisps: float = 0.25) -> None:
        """A gradient with wisps of cloud."""
        if self.horizon <= 0:
            return
        down = np.clip(self.rows / max(self.horizon, 1.0), 0, 1)
        self.image[:] = mix(rgb(*hour.zenith), rgb(*hour.low), down**1.3)
        if wisps:
            veil = noise(self.rng, self.height, self.width, (self.height / 6, self.width / 2.2), 4)
            self.cover(rgb(1, 0.98, 0.95), step(0.0, 0.5, veil) * wisps * (1 - 0.6 * down))

    def cover(self, colour: Array, share: Array) -> None:
        """Mixes in a colour [3] or [H,W,3] by shares [H,W]."""
        self.image = mix(self.image, colour, share)

    def ridge(self, base: float, rise: float, pitch: float) -> Array:
        """Heights [1,W] of a rolling line."""
        line = noise(self.rng, 2, self.width, (2.0, pitch), 3)[:1]
        return (base + rise * line).astype(np.float32)

    def hills(self, near: Array, far: Array, count: int) -> None:
        """Ridges one before the other, the farther the paler."""
        for i in range(count):
            line = self.ridge(
                self.horizon - self.height * 0.1 * (1 - i / count), self.height * 0.09,
                self.width / self.rng.uniform(1.5, 4),
            )  # fmt: skip
            grain = noise(self.rng, self.height, self.width, (5.0, 5.0), 2)
            body = mix(far, near, (i + 0.6) / count) * (1 + 0.16 * grain[..., None])
            self.cover(body, np.clip(self.rows - line + 0.5, 0, 1))

    def depth(self) -> Array:
        """How far the ground of a row is: 1 at the bottom, growing to the horizon."""
        span = self.height - self.horizon
        below = np.maximum(self.rows - self.horizon, 0)
        return np.asarray(span / (below + 0.06 * span), np.float32)

    def plane(self, cells: tuple[float, float], octaves: int = 3, stretch: float = 1.4) -> Array:
        """Noise [H,W] lying on the ground, seen in perspective."""
        tile = noise(self.rng, PLANE, PLANE, cells, octaves)
        shift = self.rng.uniform(0, PLANE)
        depth = self.depth()
        across = (np.arange(self.width, dtype=np.float32) - self.width / 2) * depth
        away = depth * (self.height * stretch)
        # The tile is mirrored at its borders, so that none of them shows.
        row, column = (
            np.abs((place.astype(np.int32) + int(shift)) % (2 * PLANE - 2) - PLANE + 1)
            for place in (away, across)
        )
        return np.asarray(tile[row, column] * np.clip(2.2 / depth, 0.25, 1), np.float32)

    def ground(self, colour: Array, dark: Array, light: Array, cells: float) -> None:
        """Ground of three tones from the horizon down."""
        coarse, fine = self.plane((cells, cells * 1.6)), self.plane((6.0, 7.0), 2)
        tone = mix(mix(colour, dark, step(0, 0.5, coarse)), light, step(0, 0.5, -coarse) * 0.8)
        tone = tone * (1 + 0.28 * fine[..., None])
        self.cover(tone, np.clip(self.rows - self.ridge(self.horizon, 2.5, 40) + 0.5, 0, 1))

    def strokes(self, draw: Callable[[ImageDraw.ImageDraw, float, float, float], None],
                count: int) -> None:  # fmt: skip
        """Scatters strokes over the ground from far to near, drawn at twice the size.

        Args:
            draw: Called with the pen, the place (x, y) and the size of a thing there, where 1 is
                the size at the bottom; all for the doubled picture.
            count: How many.
        """
        layer = Image.fromarray((np.clip(self.image, 0, 1) * 255).astype(np.uint8))
        layer = layer.resize((self.width * 2, self.height * 2), Image.Resampling.BILINEAR)
        pen = ImageDraw.Draw(layer)
        top = max(self.horizon, -self.height * 0.3)
        for away in np.sort(self.rng.uniform(0.02, 1.05, count)).tolist():
            y = top + away * (self.height - top)
            draw(pen, self.rng.uniform(-4, self.width + 4) * 2, y * 2, 0.25 + 0.75 * away)
        small = layer.resize((self.width, self.height), Image.Resampling.BOX)
        self.image = np.asarray(small, np.float32) / 255

    def blades(self, colours: list[Array], length: float, count: int) -> None:
        """Grass."""
        rng = self.rng

        def blade(pen: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
            tone = colours[int(rng.integers(len(colours)))] * rng.uniform(0.75, 1.2)
            lean, tall = rng.normal(0, 0.35), length * size * rng.uniform(0.6, 1.4)
            tip = (x + lean * tall, y - tall)
            bend = (x + lean * tall * 0.3, y - tall * 0.6)
            pen.line([(x, y), bend, tip], fill=ink(tone), width=2 if size > 0.6 else 1)

        self.strokes(blade, count)

    def specks(self, colours: list[Array], size: float, count: int, tall: float = 0.6) -> None:
        """Leaves, petals, pebbles: small ellipses lying about."""
        rng = self.rng

        def speck(pen: ImageDraw.ImageDraw, x: float, y: float, scale: float) -> None:
            tone = colours[int(rng.integers(len(colours)))] * rng.uniform(0.8, 1.15)
            r = size * scale * rng.uniform(0.6, 1.3)
            box = (x - r, y - r * tall, x + r, y + r * tall)
            shade = (box[0] + 1, box[1] + r * 0.35, box[2] + 1, box[3] + r * 0.35)
            pen.ellipse(shade, fill=ink(tone * 0.5))
            pen.ellipse(box, fill=ink(tone))

        self.strokes(speck, count)


def ink(colour: Array) -> tuple[int, int, int]:
    """A colour for Pillow's pen."""
    r, g, b = (int(c) for c in np.clip(colour * 255, 0, 255))
    return r, g, b


def _hour(rng: Rng) -> tuple[Hour, Light]:
    hour = HOURS[int(rng.integers(len(HOURS)))]
    return hour, Light(hour.sun, hour.sky, rng.uniform(-0.8, 0.8))


def _horizon(rng: Rng, height: int) -> float:
    return -0.25 * height if rng.random() < 0.25 else rng.uniform(0.22, 0.48) * height


def meadow(height: int, width: int, rng: Rng) -> Backdrop:
    """Grass and hills, in spring or in autumn."""
    hour, light = _hour(rng)
    canvas = Canvas(height, width, rng, _horizon(rng, height))
    autumn = rng.random() < 0.25
    green = rgb(0.6, 0.52, 0.22) if autumn else rgb(0.36, 0.54, 0.2)
    green = green * (0.7 + 0.4 * rgb(*hour.sun))
    haze = rgb(*hour.low)
    canvas.sky(hour)
    if canvas.horizon > 0:
        canvas.hills(green * 0.85, mix(haze, rgb(0.45, 0.58, 0.7), 0.55), 3)
    canvas.ground(green, green * 0.66, green * rgb(1.25, 1.15, 1.0), 40)
    canvas.blades([green * 0.6, green * 0.85, green * rgb(1.3, 1.22, 0.9)], 15, 620)
    if rng.random() < 0.6:
        petals = [rgb(0.98, 0.95, 0.9), rgb(0.97, 0.85, 0.3), rgb(0.8, 0.55, 0.85)]
        canvas.specks(petals[: int(rng.integers(1, 4))], 3.0, 45)
    props = ("flower", "flower", "tuft", "stone", "bush", "tree", "mushroom", "stump")
    return Backdrop(canvas.image, canvas.horizon, light, haze, props, clouds=True)


def forest(height: int, width: int, rng: Rng) -> Backdrop:
    """Trunks in green dusk above a floor of leaves."""
    canvas = Canvas(height, width, rng, _horizon(rng, height))
    warm = rng.random() < 0.45
    haze = rgb(0.8, 0.7, 0.44) if warm else rgb(0.52, 0.66, 0.52)
    light = Light((0.82, 0.76, 0.58), (0.4, 0.42, 0.38), rng.uniform(-0.8, 0.8))
    canvas.image[:] = haze * 0.75
    glow = noise(rng, height, width, (height / 7, width / 7), 3)
    canvas.cover(haze * 1.35, step(0.0, 0.5, glow))
    if canvas.horizon > 0:
        _trunks(canvas, haze)
    soil = rgb(0.52, 0.37, 0.22) if warm else rgb(0.38, 0.4, 0.23)
    canvas.ground(soil, soil * 0.6, soil * rgb(1.15, 1.3, 0.9), 50)
    leaves = [
        rgb(0.76, 0.46, 0.18),
        rgb(0.6, 0.36, 0.16),
        rgb(0.82, 0.62, 0.26),
        rgb(0.45, 0.52, 0.22),
    ]
    canvas.specks(
        leaves if warm else [leaf * rgb(0.8, 0.95, 0.85) for leaf in leaves], 4.5, 380, 0.5
    )
    rays = np.arange(width, dtype=np.float32)[None] + canvas.rows * rng.uniform(-0.6, 0.6)
    shaft = step(0.2, 0.9, np.sin(rays / width * rng.uniform(9, 16) + rng.uniform(0, 6)))
    canvas.cover(rgb(0.95, 0.9, 0.65), shaft * 0.14 * np.clip(1.2 - canvas.rows / height, 0, 1))
    props = ("fern", "fern", "mushroom", "mushroom", "stump", "stone", "tuft", "branch")
    return Backdrop(canvas.image, canvas.horizon, light, haze, props)


def _trunks(canvas: Canvas, haze: Array) -> None:
    rng, columns = canvas.rng, np.arange(canvas.width, dtype=np.float32)[None]
    for i in range(11):
        near = (i + 1) / 11
        radius = canvas.width * (0.012 + 0.03 * near * rng.uniform(0.5, 1.2))
        middle = rng.uniform(0, canvas.width) + canvas.rows * rng.uniform(-0.06, 0.06)
        offset = (columns - middle) / radius
        bark = noise(rng, canvas.height, canvas.width, (26.0, 3.0), 2)
        round_ = np.sqrt(np.clip(1 - offset * offset, 0, 1)) * (0.75 - 0.25 * offset)
        tone = (0.35 + 0.75 * round_) * (1 + 0.35 * bark)
        wood = mix(haze * 0.85, rgb(0.4, 0.31, 0.22), 0.2 + 0.8 * near) * tone[..., None]
        foot = canvas.horizon + canvas.height * 0.05 * near
        share = np.clip((1 - np.abs(offset)) * radius + 0.5, 0, 1)
        canvas.cover(wood, share * np.clip(foot - canvas.rows + 0.5, 0, 1))


def dunes(height: int, width: int, rng: Rng) -> Backdrop:
    """Rippled sand under a wide sky."""
    hour, light = _hour(rng)
    canvas = Canvas(height, width, rng, _horizon(rng, height))
    sand = rgb(0.88, 0.7, 0.45) if rng.random() < 0.6 else rgb(0.8, 0.5, 0.34)
    sand = sand * (0.62 + 0.45 * rgb(*hour.sun))
    haze = rgb(*hour.low)
    canvas.sky(hour, 0.12)
    if canvas.horizon > 0:
        canvas.hills(sand * 0.92, mix(haze, sand, 0.35), 3)
    canvas.ground(sand, sand * 0.86, sand * 1.08, 70)
    warp = canvas.plane((60.0, 70.0), 2)
    depth = canvas.depth()
    wave = np.sin(
        depth * height * 0.16 + warp * 9 + 0.02 * np.arange(width, dtype=np.float32) * depth
    )
    below = np.clip(canvas.rows - canvas.horizon, 0, 8) / 8 * np.clip(3 / depth, 0, 1)
    canvas.cover(sand * 0.66, step(-0.2, 0.9, wave) * 0.75 * below)
    canvas.cover(np.clip(sand * 1.25, 0, 1), step(0.0, 0.9, -wave) * 0.6 * below)
    canvas.specks([sand * 0.6, rgb(0.55, 0.5, 0.46)], 2.0, 30)
    props = ("cactus", "cactus", "stone", "stone", "tuft", "branch", "flower")
    return Backdrop(canvas.image, canvas.horizon, light, haze, props, clouds=rng.random() < 0.4)


def shore(height: int, width: int, rng: Rng) -> Backdrop:
    """The sea, its foam, and a beach."""
    hour, light = _hour(rng)
    horizon = rng.uniform(0.12, 0.3) * height
    line = horizon + rng.uniform(0.12, 0.3) * height
    canvas = Canvas(height, width, rng, horizon)
    canvas.sky(hour)
    water = (rgb(0.16, 0.5, 0.6), rgb(0.2, 0.42, 0.62), rgb(0.3, 0.6, 0.58))[int(rng.integers(3))]
    away = np.clip((canvas.rows - horizon) / (line - horizon), 0, 1)
    sea = mix(mix(water, rgb(*hour.low), 0.35), water * 1.1, away)
    swell = noise(rng, height, width, (3.0, 22.0), 2)
    sea = sea * (1 + 0.2 * swell[..., None])
    canvas.cover(sea, np.clip(canvas.rows - horizon + 0.5, 0, 1))
    canvas.cover(rgb(1, 0.98, 0.92), step(0.42, 0.6, swell) * 0.6 * (canvas.rows > horizon))
    sand = rgb(0.87, 0.77, 0.58) * (0.62 + 0.45 * rgb(*hour.sun))
    grain = noise(rng, height, width, (2.0, 2.0)) + noise(rng, height, width, (30.0, 60.0), 2)
    edge = canvas.ridge(line, height * 0.05, width / 2)
    inland = canvas.rows - edge
    beach = mix(sand * 0.66, sand, step(4, height * 0.2, inland)) * (1 + 0.1 * grain[..., None])
    canvas.cover(beach, np.clip(inland + 0.5, 0, 1))
    foam = step(3.5, 1.0, np.abs(inland + 2.5 * swell)) + step(
        2.2, 0.6, np.abs(inland + 9 + 3 * swell)
    )
    canvas.cover(rgb(0.97, 0.98, 0.98), np.clip(foam, 0, 1) * 0.9)
    beach_canvas = Canvas(height, width, rng, line)
    beach_canvas.image = canvas.image
    beach_canvas.specks([rgb(0.95, 0.9, 0.85), rgb(0.85, 0.6, 0.55), sand * 0.6], 2.2, 50)
    props = ("shell", "shell", "starfish", "starfish", "stone", "stone", "tuft", "branch")
    image = beach_canvas.image
    return Backdrop(image, line, light, rgb(*hour.low), props, clouds=True)


def night(height: int, width: int, rng: Rng) -> Backdrop:
    """Stars and a moon over blue hills."""
    horizon = rng.uniform(0.3, 0.55) * height
    canvas = Canvas(height, width, rng, horizon)
    hour = Hour((0.05, 0.07, 0.2), (0.3, 0.27, 0.5), (0.6, 0.64, 0.78), (0.34, 0.36, 0.5))
    light = Light(hour.sun, hour.sky, rng.uniform(-0.8, 0.8))
    canvas.sky(hour, 0.0)
    milk = noise(rng, height, width, (height / 4, width / 4), 4)
    canvas.cover(rgb(0.45, 0.4, 0.7), step(0.05, 0.7, milk) * 0.4)
    stars = rng.random((height, width)).astype(np.float32)
    canvas.cover(rgb(1, 0.98, 0.9), step(0.994, 1.0, stars))
    x, y = (0.5 + 0.38 * light.side) * width, rng.uniform(0.2, 0.6) * horizon
    radius = rng.uniform(0.045, 0.08) * height
    away = np.hypot(np.arange(width, dtype=np.float32)[None] - x, canvas.rows - y) - radius
    canvas.cover(rgb(0.9, 0.9, 0.8), np.exp(-np.maximum(away, 0) / (radius * 1.6)) * 0.4)
    craters = noise(rng, height, width, (radius * 0.8, radius * 0.8), 2)
    moon = rgb(0.98, 0.96, 0.86) * (1 - 0.12 * step(0, 0.4, craters)[..., None])
    canvas.cover(moon, np.clip(0.5 - away, 0, 1))
    canvas.hills(rgb(0.13, 0.18, 0.28), rgb(0.26, 0.27, 0.46), 3)
    soil = (rgb(0.17, 0.27, 0.27), rgb(0.24, 0.25, 0.36))[int(rng.integers(2))]
    canvas.ground(soil, soil * 0.65, soil * 1.3, 40)
    canvas.blades([soil * 0.6, soil * 0.9, soil * 1.45], 13, 480)
    canvas.specks([rgb(0.95, 0.95, 0.5), rgb(0.7, 0.95, 0.6)], 1.5, 16, 1.0)
    props = ("tuft", "stone", "bush", "conifer", "flower", "mushroom")
    return Backdrop(canvas.image, horizon, light, rgb(0.26, 0.27, 0.46), props)


def snow(height: int, width: int, rng: Rng) -> Backdrop:
    """White fields, blue shadows, firs, and flakes in the air."""
    hour, light = _hour(rng)
    canvas = Canvas(height, width, rng, _horizon(rng, height))
    canvas.sky(hour, 0.15)
    white = rgb(0.92, 0.94, 0.98) * (0.7 + 0.36 * rgb(*hour.sun))
    haze = rgb(*hour.low)
    if canvas.horizon > 0:
        canvas.hills(white * rgb(0.8, 0.85, 0.93), mix(haze, rgb(0.6, 0.7, 0.82), 0.6), 3)
    canvas.ground(white, white * rgb(0.82, 0.87, 0.96), np.clip(white * 1.05, 0, 1), 80)
    drift = canvas.plane((45.0, 120.0), 3)
    canvas.cover(white * rgb(0.7, 0.78, 0.92), step(0.05, 0.45, drift) * 0.6)
    canvas.specks([white * 0.8, rgb(0.45, 0.42, 0.42)], 1.8, 18)
    flakes = np.clip(noise(rng, height, width, (2.4, 2.4)) * 2.4 - 1.75, 0, 1)
    canvas.cover(rgb(1, 1, 1), flakes)
    props = ("conifer", "conifer", "stone", "branch", "stump", "tuft")
    return Backdrop(canvas.image, canvas.horizon, light, haze, props, clouds=rng.random() < 0.5)


PLACES: tuple[Callable[[int, int, Rng], Backdrop], ...] = (
    meadow, forest, dunes, shore, night, snow, meadow, forest,
)  # fmt: skip
"""The places to choose from; those with most variety stand twice."""
