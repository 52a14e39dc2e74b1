"""Photos with their maps and masks as small pictures inside the page.

A photo is there once; maps and masks are thin coloured layers that the page lays over it.
"""

from __future__ import annotations

import base64
import colorsys
import io
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from weakseg.apps.report.doubts import Doubt, titled_maps
from weakseg.apps.report.facts import Facts
from weakseg.data.images import read_mask, read_sample
from weakseg.runs.corrections import NO_CORRECTIONS, Corrections
from weakseg.runs.image_files import image_file
from weakseg.types import BACKGROUND, IGNORE, Sample, WeaksegError

MAX_BYTES = 8_000_000
"""Most bytes of a report; pictures are left out to stay below."""

GALLERY = 24
"""Images of the gallery, spread over the classes."""

_PHOTO, _BRIEF, _HEAT = 480, 288, 72
"""Long sides of photos and masks, of those without maps, and of maps, in pixels."""

_LEVELS = 40
_STOPS = ((0.0, 68, 20, 120), (0.35, 190, 40, 110), (0.65, 245, 125, 30), (1.0, 255, 240, 120))
"""Colours of a map from low to high: position, red, green, blue."""

_LOW, _HIGH = 0.35, 0.6
"""The highest value that is drawn as clear, and the lowest that is drawn as yellow."""

_PREDICTIONS = ("validate", "segment")
"""Stages that may hold masks that the segmentation network found, the later first."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One picture of a card.

    Attributes:
        title: What it shows.
        told: The same for those who cannot see it.
        layer: What is laid over the photo, as data URI; empty: the photo itself.
    """

    title: str
    told: str
    layer: str


@dataclass(frozen=True)
class Card:
    """An image with everything the run found about it.

    Attributes:
        id: The image.
        tags: Names and colours of its tags.
        photo: As data URI.
        width: Of the photo, in pixels.
        height: Of the photo.
        panels: The photo first.
        doubts: Reasons to look at it.
    """

    id: str
    tags: tuple[tuple[str, str], ...]
    photo: str
    width: int
    height: int
    panels: tuple[Panel, ...]
    doubts: tuple[Doubt, ...] = ()

    @property
    def bytes(self) -> int:
        """How much of the page it takes, in bytes, about."""
        return len(self.photo) + sum(len(panel.layer) + 400 for panel in self.panels) + 1000


def colour(k: int) -> tuple[int, int, int]:
    """A class's colour, red, green, blue; neighbours differ by the golden angle of hue."""
    red, green, blue = colorsys.hls_to_rgb(
        (0.02 + 0.381966 * k) % 1, 0.56 - 0.1 * (k // 8 % 2), 0.78
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def gallery(facts: Facts, count: int = GALLERY) -> list[Sample]:
    """Images spread over the classes, chosen by chance but always the same."""
    samples = list(facts.catalog)
    random.Random(0).shuffle(samples)
    heaps: list[list[Sample]] = [[] for _ in range(len(facts.catalog.classes) + 1)]
    for sample in samples:
        for tag in sample.tags or {len(heaps) - 1}:
            heaps[tag].append(sample)
    chosen: dict[str, Sample] = {}
    while len(chosen) < min(count, len(samples)):
        for heap in heaps:
            while heap:
                sample = heap.pop()
                if sample.id not in chosen:
                    chosen[sample.id] = sample
                    break
    return list(chosen.values())[:count]


def cards(
    facts: Facts,
    samples: Iterable[Sample],
    doubts: Mapping[str, Sequence[Doubt]],
    budget: int,
    *,
    advance: Callable[[], None] = lambda: None,
    corrections: Corrections = NO_CORRECTIONS,
) -> Iterator[Card]:
    """Cards of images, as many as fit; images that cannot be read are left out.

    Args:
        facts: Of the run.
        samples: The images.
        doubts: Reasons to look at them, by id.
        budget: Most bytes of all cards.
        advance: Called after each image.
        corrections: What people corrected; their masks are shown.
    """
    for sample in samples:
        reasons = tuple(doubts.get(sample.id, ()))
        card = _card(facts, sample, reasons, corrections, brief=False)
        advance()
        if card is None:
            continue
        budget -= card.bytes
        if budget < 0:
            return
        yield card


def brief_card(
    facts: Facts,
    sample: Sample,
    corrections: Corrections = NO_CORRECTIONS,
    *,
    maps: bool = False,
) -> Card | None:
    """A smaller photo with its masks, and maps if asked for; None if the image cannot be read."""
    return _card(facts, sample, (), corrections, brief=True, maps=maps)


def _card(
    facts: Facts,
    sample: Sample,
    doubts: tuple[Doubt, ...],
    corrections: Corrections,
    *,
    brief: bool,
    maps: bool = True,
) -> Card | None:
    try:
        photo = _photo(sample, _BRIEF if brief else _PHOTO)
    except WeaksegError:
        return None
    names = [(facts.catalog.classes[k], f"#{bytes(colour(k)).hex()}") for k in sorted(sample.tags)]
    said = ", ".join(name for name, _ in names) or "nothing"
    panels = [Panel("photo", f"{sample.id}, tagged {said}", "")]
    if facts.has("cams") and maps:
        try:
            kinds, _ = titled_maps(facts, sample)
        except WeaksegError:
            kinds = {}
        panels += [
            Panel(
                _title(kind, kinds),
                f"{kind} map of {said}",
                _uri(heat_image(found.amax(dim=0).numpy()), "PNG"),
            )
            for kind, found in kinds.items()
            if len(found)
        ]
    for title, path in mask_files(facts, sample):
        if brief and title == "seeds":
            continue
        try:
            made = title == "mask"
            mask = corrections.mask_now(sample, path) if made else read_mask(path)
            labels = _small(mask, photo.size)
        except WeaksegError:
            continue
        panels.append(Panel(title, f"{title}: {_shares(labels, facts)}", _layer(labels)))
    return Card(
        sample.id,
        tuple(names),
        _uri(_encoded(photo, "JPEG", quality=68 if brief else 80), "JPEG"),
        *photo.size,
        tuple(panels),
        doubts,
    )


def _title(kind: str, kinds: Mapping[str, Tensor]) -> str:
    if len(kinds) == 1:
        return "map"
    return "weighted map" if kind == "weighted" else kind


def mask_files(facts: Facts, sample: Sample) -> Iterator[tuple[str, Path]]:
    """Titles and files of the masks that are shown of an image."""
    for title, stage in (("seeds", "seeds"), ("mask", "masks")):
        if facts.has(stage):
            yield title, image_file(facts.path, stage, sample.id, ".png")
    found = (image_file(facts.path, stage, sample.id, ".png") for stage in _PREDICTIONS)
    if (path := next((path for path in found if path.is_file()), None)) is not None:
        yield "prediction", path
    if sample.mask is not None:
        yield "truth", sample.mask


def _photo(sample: Sample, side: int) -> Image.Image:
    pixels = read_sample(sample, max_side=side).permute(1, 2, 0).contiguous().numpy()
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _small(labels: Tensor, size: tuple[int, int]) -> Bytes:
    return np.asarray(Image.fromarray(labels.numpy()).resize(size, Image.Resampling.NEAREST))


def _shares(labels: Bytes, facts: Facts) -> str:
    """Which classes cover how much, in words."""
    counts = np.bincount(labels.ravel(), minlength=256)
    names = facts.catalog.classes
    parts = [
        f"{names[k - 1]} {100 * counts[k] / labels.size:.0f} %"
        for k in np.flatnonzero(counts).tolist()
        if 0 < k <= len(names)
    ]
    if counts[IGNORE]:
        parts.append(f"open {100 * counts[IGNORE] / labels.size:.0f} %")
    return ", ".join(parts) or "all background"


def heat_image(scores: npt.NDArray[np.float32], side: int = _HEAT) -> bytes:
    """A map [h,w] as PNG: clear where it is low, violet, orange, yellow where it is high.

    Colours span the map's own range, within `_LOW` and `_HIGH`: probabilities hardly ever come near
    0 and 1.

    Args:
        scores: The map, in 0..1.
        side: Longest side of the picture, in pixels.
    """
    low = min(float(np.quantile(scores, 0.02)), _LOW)
    high = max(float(scores.max()), _HIGH)
    image = Image.fromarray((scores - low) / (high - low))
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    levels = np.round(np.asarray(image).clip(0, 1) * (_LEVELS - 1)).astype(np.uint8)
    ramp = np.linspace(0, 1, _LEVELS)
    stops = np.array(_STOPS)
    rgb = np.stack([np.interp(ramp, stops[:, 0], stops[:, c]) for c in (1, 2, 3)], axis=1)
    alpha = np.interp(ramp, (0, 0.2, 0.6, 1), (0, 45, 170, 210))
    return _palette_png(levels, rgb, alpha)


def _layer(labels: Bytes) -> str:
    """A label map [H,W] as a layer: tinted classes with full contours; unknown pixels veiled."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differ = np.diff(labels, axis=axis) != 0
        edge |= np.concatenate([differ, differ.take([-1], axis)], axis) if differ.size else edge
    values = [int(k) for k in np.unique(labels) if k != BACKGROUND][:120]
    places = np.zeros(labels.shape, np.uint8)
    rgb, alpha = [(0, 0, 0)], [0]
    for value in values:
        here = labels == value
        places[here] = len(rgb)
        if value == IGNORE:
            rgb.append((150, 160, 165))
            alpha.append(140)
            continue
        places[here & edge] = len(rgb) + 1
        rgb += [colour(value - 1)] * 2
        alpha += [135, 255]
    return _uri(_palette_png(places, np.array(rgb), np.array(alpha)), "PNG")


def _palette_png(
    indices: Bytes, rgb: npt.NDArray[np.generic], alpha: npt.NDArray[np.generic]
) -> bytes:
    image = Image.fromarray(indices)
    image.putpalette(rgb.round().astype(np.uint8).ravel().tolist())
    return _encoded(image, "PNG", transparency=alpha.astype(np.uint8).tobytes())


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
