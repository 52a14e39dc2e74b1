"""Opening image files safely with Pillow: upright sizes, full decoding, mask indices. No torch."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from weakseg.faults import FaultKind, FileError
from weakseg.types import ConfigError

LIMIT_VARIABLE = "WEAKSEG_MAX_MEGAPIXELS"
"""Environment variable: images of more megapixels by their header are refused before they are
decoded. It reaches every process that a command starts."""

_MEGAPIXELS = 200

_FREE_PIXELS = 16_000_000
_PIXELS_A_BYTE = 10_000
_PIXELS_A_BYTE_OF = {"GIF": 3_000}
"""Images of more pixels that have more of them for each byte of the file are refused before they
are decoded: GIF has at most 2,700 and PNG, of one bit, 8,200, but headers and WebP claim any
number."""

MIN_SIDE = 8
"""Shorter sides than this (pixels) are refused by `check`: nothing can be localized in them."""

MAX_ASPECT = 20
"""Images longer than this times their short side are read, but `check` remarks on them."""

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".heic", ".heif",
))
# fmt: on
"""File names that end so (in any case) are taken for images when a folder is searched."""


def max_pixels() -> int:
    """The most pixels that an image may have: `WEAKSEG_MAX_MEGAPIXELS` millions, by default 200.

    Raises:
        ConfigError: The variable is no number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return _MEGAPIXELS * 1_000_000
    try:
        limit = int(float(text) * 1_000_000)
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise ConfigError(
            f"{LIMIT_VARIABLE}: expected the most megapixels of an image, as 500, got {text!r}"
        )
    return limit


_HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")

_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SAMPLES, _TIFF_EXTRA_SAMPLES = 256, 257, 277, 338


Alpha = Literal["none", "opaque", "partly", "all"]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a decoded image turned out to be.

    Attributes:
        height: Upright height in pixels.
        width: Upright width in pixels.
        mode: Pillow's name of its pixel format (`RGB`, `L`, `CMYK`, `I;16` …).
        format: Pillow's name of its file format (`JPEG`, `PNG` …).
        orientation: The EXIF orientation, 1 (upright) to 8.
        alpha: What its transparency says: `none` (it has no such channel), `opaque`, `partly`
            transparent, or `all` transparent.
        bands: How many channels the file has.
        frames: How many pictures it holds.
    """

    height: int
    width: int
    mode: str
    format: str
    orientation: int
    alpha: Alpha = "none"
    bands: int = 3
    frames: int = 1


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image; whatever goes wrong then or inside the block becomes a `FileError`.

    The header is read, the pixels not yet. Only Pillow calls belong into the block.

    Args:
        path: The file.

    Yields:
        The image, at its first frame.

    Raises:
        FileError: It is missing, empty, no image, too large, truncated or damaged.
    """
    try:
        if path.stat().st_size == 0:
            raise FileError(path, "image_empty", "the file is empty", "replace or remove it")
        _lift_pillows_guard()
        with Image.open(path, formats=_formats()) as image:
            _refuse(path, image)
            yield image
    except (FileError, ConfigError):
        raise
    except FileNotFoundError as error:
        raise FileError(
            path, "image_missing", "there is no such file", "correct the name or add the file"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more pixels than can be decoded safely") from error
    except UnidentifiedImageError as error:
        raise FileError(path, *_guess_content(path)) from error
    except MemoryError as error:
        raise _too_large(path, "an image that does not fit into memory") from error
    except Exception as error:  # decoders of broken files raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            reason = error.strerror or str(error)
            found, remedy = f"cannot be read ({reason})", "make the file readable"
        else:
            found = f"truncated or damaged ({_one_line(error)})"
            remedy = "replace or remove it"
        raise FileError(path, "image_damaged", found, remedy) from error


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation 1..8 that is still to be applied to the decoded pixels."""
    if image.format == "TIFF":  # Pillow turns TIFF upright when it decodes
        return 1
    return _tag(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in pixels once the image is upright, from its header."""
    width, height = image.size
    if image.format == "TIFF":
        # Pillow's own size is upright in some versions only: take it from the tags.
        tags = getattr(image, "tag_v2", {})
        width = int(tags.get(_TIFF_WIDTH, width))
        height = int(tags.get(_TIFF_HEIGHT, height))
    return (width, height) if _tag(image) >= 5 else (height, width)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an image once upright; reads the header only.

    Args:
        path: The file.

    Returns:
        Height and width.

    Raises:
        FileError: The file is missing, empty, no image or too large (a `DataError`).

    Example:
        >>> image_size(Path("cat.jpg"))  # doctest: +SKIP
        (375, 500)
    """
    with opened(path) as image:
        return upright_size(image)


def is_turned(path: Path) -> bool:
    """Whether an image's EXIF orientation turns or mirrors its pixels; reads the header only.

    Raises:
        FileError: The file is missing, empty, no image or too large (a `DataError`).
    """
    with opened(path) as image:
        return _tag(image) != 1


def decode_fully(path: Path) -> ImageFacts:
    """Decodes every byte of an image, only to know that it can be done.

    JPEGs are decoded at an eighth of their size: all their data is parsed (so that truncation
    shows) in a fraction of the memory.

    Args:
        path: The file.

    Returns:
        What it is.

    Raises:
        FileError: It is missing, empty, no image, too large, truncated or damaged.
    """
    with opened(path) as image:
        height, width = upright_size(image)
        jpeg = image.format in ("JPEG", "MPO")  # of several frames, the others are previews
        facts = ImageFacts(
            height,
            width,
            image.mode,
            image.format or "",
            _tag(image),
            bands=_bands(image),
            frames=1 if jpeg else getattr(image, "n_frames", 1),
        )
        image.seek(0)
        if jpeg:
            image.draft(image.mode, (1, 1))
        image.load()
        return replace(facts, alpha=_alpha(image))


def _bands(image: Image.Image) -> int:
    """How many channels a file has; Pillow does not show those of a TIFF that it leaves out."""
    count = getattr(image, "tag_v2", {}).get(_TIFF_SAMPLES) if image.format == "TIFF" else None
    return int(count) if isinstance(count, int) else len(image.getbands())


def has_alpha(image: Image.Image) -> bool:
    """Whether an image's transparency is to be looked at.

    A fourth band of a TIFF is transparency only if the file says so (its tag ExtraSamples is 1 or
    2); otherwise it may be anything, as near infrared.
    """
    if image.format == "TIFF" and image.mode == "RGBA":
        extra = getattr(image, "tag_v2", {}).get(_TIFF_EXTRA_SAMPLES, ())
        return bool(extra) and extra[0] in (1, 2)
    return bool(image.has_transparency_data)


def _alpha(image: Image.Image) -> Alpha:
    if not has_alpha(image):
        return "none"
    bands = image if "A" in image.getbands() else image.convert("RGBA")
    low, high = bands.getchannel("A").getextrema()
    if high == 0:
        return "all"
    return "opaque" if low == 255 else "partly"


def mask_indices(path: Path) -> npt.NDArray[np.uint8]:
    """The indices of a mask file, [H, W].

    Args:
        path: A palette, gray (8 or 16 bit) or black-and-white image in a lossless format.

    Returns:
        uint8 indices; of a palette image the palette's positions, whatever its colours.

    Raises:
        FileError: It cannot be read, has several channels, is a JPEG or has values above 255.
    """
    with opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise FileError(
                path,
                "mask_channels",
                "a JPEG, which does not keep indices exactly",
                "save masks as palette or gray PNG",
            )
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise FileError(
                path,
                "mask_channels",
                f"{image.mode} colours instead of one channel of class indices",
                "replace each colour by its class index (0 background, k the k-th class, "
                "255 ignored) and save as palette or gray PNG",
            )
        values = np.asarray(image)
    if values.dtype.itemsize > 1 and values.size and not 0 <= values.min() <= values.max() <= 255:
        raise FileError(
            path,
            "mask_indices",
            f"values from {values.min()} to {values.max()}",
            "use indices 0 (background), k (the k-th class) and 255 (ignored)",
        )
    return values.astype(np.uint8)


def mask_colours(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The colours of a mask file, and which of them each pixel has.

    Args:
        path: A palette, gray or RGB image in a lossless format; alpha is not looked at.

    Returns:
        Colours uint8 [n,3], sorted, and per pixel [H,W] the place of its colour among them.

    Raises:
        FileError: It cannot be read, or is a JPEG.
    """
    with opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise FileError(
                path,
                "mask_channels",
                "a JPEG, which does not keep colours exactly",
                "save masks as PNG",
            )
        pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    codes, inverse = np.unique(
        pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_inverse=True
    )
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    return colours, inverse.reshape(pixels.shape[:2])


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
    # EPS is drawn by an outside program: not for files of unknown origin.
    return tuple(name for name in Image.ID if name != "EPS" and name in Image.OPEN)


def _tag(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata does not make the pixels unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _lift_pillows_guard() -> None:
    """Pillow's own limit of 89 megapixels is raised to ours, which every file opened here meets."""
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels())


def _refuse(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > max_pixels():
        raise _too_large(path, f"{width}×{height} pixels by its header")
    size = path.stat().st_size
    most = size * _PIXELS_A_BYTE_OF.get(image.format or "", _PIXELS_A_BYTE)
    if width * height > max(_FREE_PIXELS, most):
        found = f"{width}×{height} pixels by its header, but only {size} bytes"
        raise FileError(path, "image_too_large", found, "replace or remove it: it shows nothing")
    if image.mode == "LAB":
        raise FileError(path, "image_format", "Lab colours", "save it as RGB")


def _too_large(path: Path, found: str) -> FileError:
    limit = f"at most {max_pixels() // 1_000_000} megapixels are read"
    remedy = f"scale it down, remove it, or raise the limit: set {LIMIT_VARIABLE}=500"
    return FileError(path, "image_too_large", f"{found} ({limit})", remedy)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _guess_content(path: Path) -> tuple[FaultKind, str, str]:
    """What a file that no decoder accepts may be, and what to do about it."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        found = "a HEIC photo, which needs the package pillow-heif"
        return "image_format", found, "pip install pillow-heif, or export it as JPEG or PNG"
    if head.startswith(_BEGINNINGS) or head[4:12] == b"ftypavif":
        return "image_damaged", "truncated or damaged at its beginning", "replace or remove it"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        found = "a web page, not an image (a download went wrong)"
        return "image_format", found, "download it again or remove it"
    found = "not an image that can be read"
    return "image_format", found, "replace it by a JPEG or PNG, or remove it"
