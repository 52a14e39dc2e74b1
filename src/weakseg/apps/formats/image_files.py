"""Images as exports hold them: as they are, or upright where their EXIF data turn them."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from weakseg.apps.formats.labelled import Labelled
from weakseg.data.decode import opened
from weakseg.data.images import read_sample

COMMON = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes, lower case, of files that nearly every program reads."""

_LOSSY: dict[str, Any] = {"quality": 95, "subsampling": "4:4:4"}
_KEPT: dict[str, dict[str, Any]] = {
    "JPEG": _LOSSY,
    "AVIF": _LOSSY,
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "PNG": {},
}
"""How turned images are saved in the format they have."""


def place_image(image: Labelled, target: Path) -> None:
    """Puts an image where an export wants it, so that its size is the mask's for every reader.

    A hard link, or a copy where a link cannot be made. An image that is turned by its EXIF
    orientation is written anew, upright; see `upright_file`.

    Args:
        image: The image.
        target: The file; its folder is made if needed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if image.turned:
        target.write_bytes(upright_file(image.sample.image))
        return
    source = image.sample.image.resolve()  # a link to a link would lead out of the export
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def image_file(image: Labelled) -> bytes:
    """What `place_image` would write."""
    path = image.sample.image
    return upright_file(path) if image.turned else path.read_bytes()


def upright_file(path: Path) -> bytes:
    """An image file anew, its pixels turned upright and the orientation taken out of its EXIF data.

    The format remains: PNG, TIFF and WebP without loss, JPEG and AVIF at quality 95 in full
    colour; other formats become PNG. Of several frames the first is kept.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read.
    """
    with opened(path) as image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        upright = ImageOps.exif_transpose(image)
        icc = image.info.get("icc_profile")
        exif = upright.getexif()
        exif.pop(0x0112, None)
        buffer = io.BytesIO()
        kind = kind if kind in _KEPT else "PNG"
        upright.save(buffer, kind, icc_profile=icc, exif=exif.tobytes(), **_KEPT[kind])
    return buffer.getvalue()


def png_file(image: Labelled) -> bytes:
    """An image upright in RGB as PNG, as networks of weakseg see it."""
    pixels = read_sample(image.sample).permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
