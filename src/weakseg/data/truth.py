"""True masks in whatever form a source has them: mask files, mapped mask files, regions."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from weakseg.data.decode import image_size, mask_colours, mask_indices, max_pixels
from weakseg.data.polygons import fill_ellipse, fill_polygon, fill_polygons
from weakseg.data.rle import from_brush_rle, from_coco_rle, from_cvat_rle
from weakseg.faults import FileError
from weakseg.types import BACKGROUND, IGNORE, Sample

Indices = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.bool_]

IGNORED = None
"""In place of a class name: pixels that nobody is to look at."""


@dataclass(frozen=True, slots=True)
class Region:
    """Some pixels of one class.

    Attributes:
        name: The class, or `IGNORED`.
        form: One of `FORMS`: how `shape` tells the pixels.
        shape: As the form has it.
    """

    name: str | None
    form: str
    shape: Any


def _rectangle(shape: Any, height: int, width: int) -> Bits:
    left, top, right, bottom = (float(value) for value in shape)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return fill_polygon([corners], height, width)


def _ellipse(shape: Any, height: int, width: int) -> Bits:
    x, y, along, across, degrees = (float(value) for value in shape)
    return fill_ellipse((x, y), (along, across), degrees, height, width)


def _png(shape: Any, height: int, width: int) -> Bits:
    text, left, top = shape
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            if image.width * image.height > 4 * width * height + 4096:
                raise ValueError(f"a mask of {image.width}×{image.height} pixels")
            part = np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"its PNG cannot be read: {error}") from error
    mask = np.zeros((height, width), np.bool_)
    begin_y, begin_x = max(top, 0), max(left, 0)
    part = part[begin_y - top : height - top, begin_x - left : width - left]
    mask[begin_y : begin_y + part.shape[0], begin_x : begin_x + part.shape[1]] = part
    return mask


FORMS: Mapping[str, Callable[[Any, int, int], Bits]] = {
    "polygons": fill_polygons,
    "rings": fill_polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "png": _png,
    "coco_rle": lambda shape, height, width: _sized(from_coco_rle(shape), height, width),
    "cvat_rle": from_cvat_rle,
    "brush_rle": from_brush_rle,
    "bits": lambda shape, height, width: _sized(np.asarray(shape, np.bool_), height, width),
}
"""Forms of regions: `polygons` (several lines [n,2] or [2n] of x, y), `rings` (one polygon and its
holes), `rectangle` (left, top, right, bottom), `ellipse` (x, y, two radii, degrees clockwise),
`png` (base64, and where its left and top are), the run lengths of COCO, CVAT and Label
Studio, `bits`."""


@dataclass(frozen=True)
class RegionMask:
    """A true mask by regions, drawn in their order: later ones lie over earlier ones.

    Attributes:
        file: The annotation file.
        size: Height and width in pixels, or the image that has the size (once upright).
        regions: What to draw.
    """

    file: Path
    size: tuple[int, int] | Path
    regions: tuple[Region, ...]

    def read(self, classes: Sequence[str]) -> Indices:
        """The mask uint8 [H,W]; a name that is no class is drawn as background.

        Raises:
            FileError: A region cannot be drawn, or the image that has the size cannot be opened.
        """
        height, width = self._size()
        mask = np.full((height, width), BACKGROUND, np.uint8)
        index = {name: k for k, name in enumerate(classes, start=1)}
        for region in self.regions:
            value = IGNORE if region.name is IGNORED else index.get(region.name, BACKGROUND)
            try:
                inside = FORMS[region.form](region.shape, height, width)
            except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
                raise FileError(
                    self.file,
                    "annotation",
                    f"a region of {region.name!r} cannot be drawn ({error})",
                    "write the annotation anew",
                ) from error
            mask[inside] = value
        return mask

    def digest(self) -> str:
        """A hash of what is drawn."""
        regions = [(region.name, region.form, _plain(region.shape)) for region in self.regions]
        text = json.dumps([self._size(), regions], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _size(self) -> tuple[int, int]:
        if isinstance(self.size, Path):
            return image_size(self.size)
        height, width = self.size
        if not all(type(side) is int and side > 0 for side in self.size):
            raise FileError(
                self.file,
                "annotation",
                f"an image of {width!r}×{height!r} pixels: no size",
                "correct it, or write the annotation anew",
            )
        if height * width > max_pixels():
            raise FileError(
                self.file,
                "annotation",
                f"an image of {width}×{height} pixels, more than are read",
                "correct its size, or write the annotation anew",
            )
        return self.size


@dataclass(frozen=True)
class MappedMask:
    """A mask file whose indices or colours stand for classes as a list beside it tells.

    Attributes:
        file: The mask: palette, gray or (for colours) RGB.
        values: Per index 0..255, or per colour (red, green, blue), the class, `IGNORED`, or ""
            for background.
    """

    file: Path
    values: Mapping[int | tuple[int, int, int], str | None]

    def read(self, classes: Sequence[str]) -> Indices:
        """The mask uint8 [H,W].

        Raises:
            FileError: The file cannot be read, or has an index or colour that the list lacks.
        """
        known = {name: k for k, name in enumerate(classes, start=1)}

        def index_of(name: str | None) -> int:
            return IGNORE if name is IGNORED else known.get(name, BACKGROUND)

        if any(isinstance(value, tuple) for value in self.values):
            found, inverse = mask_colours(self.file)
            there = [tuple(colour) for colour in found.tolist()]
        else:
            indices = mask_indices(self.file)
            numbers, inverse = np.unique(indices, return_inverse=True)
            inverse, there = inverse.reshape(indices.shape), numbers.tolist()
        strange = [value for value in there if value not in self.values]
        if strange:
            what = "colour" if isinstance(strange[0], tuple) else "index"
            raise FileError(
                self.file,
                "mask_indices",
                f"{what} {strange[0]} stands for no class",
                "name it in the list of classes beside the masks",
            )
        table = np.array([index_of(self.values[value]) for value in there], np.uint8)
        return table[inverse]

    def digest(self) -> str:
        """A hash of the list and of the file's content."""
        values = sorted((str(key), str(name)) for key, name in self.values.items())
        return hashlib.sha256(json.dumps(values).encode() + self.file.read_bytes()).hexdigest()[:16]


def true_mask(sample: Sample, classes: Sequence[str]) -> Indices | None:
    """The true mask of an image in whatever form it is there.

    Args:
        sample: The image.
        classes: Names of classes 1..K.

    Returns:
        uint8 [H,W]: 0 background, k the k-th class, 255 ignored; None where there is no truth.

    Raises:
        FileError: It cannot be read.

    Example:
        >>> true_mask(catalog.samples[0], catalog.classes)  # doctest: +SKIP
    """
    if sample.mask is not None:
        return mask_indices(sample.mask)
    return None if sample.annotation is None else sample.annotation.read(classes)


def _sized(mask: Bits, height: int, width: int) -> Bits:
    if mask.shape != (height, width):
        raise ValueError(f"it is {mask.shape[1]}×{mask.shape[0]}, the image {width}×{height}")
    return mask


def _plain(shape: Any) -> Any:
    if isinstance(shape, bytes):
        return shape.hex()
    if hasattr(shape, "tolist"):
        return shape.tolist()
    if isinstance(shape, Mapping):
        return {str(key): _plain(value) for key, value in shape.items()}
    if isinstance(shape, list | tuple):
        return [_plain(value) for value in shape]
    return shape
