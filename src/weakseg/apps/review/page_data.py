"""What the review page is sent: pictures and plain values."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from weakseg.apps.report.doubts import KINDS, titled_maps
from weakseg.apps.report.pictures import colour, heat_image
from weakseg.apps.review.photo_desk import PhotoDesk, grid_step
from weakseg.apps.review.review_queue import Row
from weakseg.data.images import read_sample
from weakseg.runs.image_files import image_file
from weakseg.runs.review_dir import Review
from weakseg.types import BACKGROUND, IGNORE, DataError, Sample, WeaksegError

BOUNDARY = "boundary"
"""The overlay of learnt boundaries."""

PHOTO_SIDE, THUMB_SIDE = 2048, 128
"""Long sides of photos and of thumbnails, in pixels."""


def row_data(row: Row) -> dict[str, Any]:
    """A row of the queue; the texts of its doubts are safe as HTML."""
    return {
        "id": row.id,
        "state": row.state,
        "tags": list(row.tags),
        "doubts": [
            {"kind": doubt.kind, "title": KINDS[doubt.kind], "text": str(doubt.text)}
            for doubt in row.doubts
        ],
    }


def image_data(desk: PhotoDesk, sample: Sample) -> dict[str, Any]:
    """All that the page shows of an image, without pixels."""
    found = desk.reviews.load(sample.id)
    now, _ = desk.masks(sample)
    step = grid_step(now)
    height, width = now[::step, ::step].shape
    return {
        "id": sample.id,
        "file": str(sample.image),
        "mask": str(image_file(desk.facts.path, "masks", sample.id, ".png")),
        "size": [now.shape[1], now.shape[0]],
        "width": width,
        "height": height,
        "maps": map_kinds(desk, sample),
        **review_data(desk, sample, found),
    }


def review_data(desk: PhotoDesk, sample: Sample, found: Review | None) -> dict[str, Any]:
    """What people said of an image."""
    now = found.now if found else None
    return {
        "version": found.version if found else None,
        "state": now.state if now else "open",
        "tags": desk.tags(sample, found),
        "undo": bool(now and now.parent is not None),
        "redo": bool(found and found.next is not None),
        "history": [
            {"who": r.who, "when": r.when, "action": r.action, "now": r is now}
            for r in (found.revisions if found else ())
        ],
    }


def map_kinds(desk: PhotoDesk, sample: Sample) -> list[str]:
    """The maps that can be laid over an image."""
    try:
        kinds = list(titled_maps(desk.facts, sample)[0]) if desk.facts.has("cams") else []
    except WeaksegError:
        kinds = []
    return [*(kinds if sample.tags else []), BOUNDARY]


def photo_jpeg(sample: Sample, side: int) -> bytes:
    """A photo, upright, its longer side at most `side` pixels."""
    return _jpeg(_photo(sample, side), 88)


def thumb_jpeg(desk: PhotoDesk, sample: Sample) -> bytes:
    """A small photo with its mask."""
    photo = _photo(sample, THUMB_SIDE)
    now, _ = desk.masks(sample)
    labels = Image.fromarray(now.numpy()).resize(photo.size, Image.Resampling.NEAREST)
    indices = np.asarray(labels)
    palette = np.array([(0, 0, 0), *(colour(k) for k in range(len(desk.facts.catalog.classes)))])
    drawn = (indices != BACKGROUND) & (indices != IGNORE) & (indices < len(palette))
    pixels = np.asarray(photo).astype(np.float32)
    tint = palette[np.where(drawn, indices, 0)]
    mixed = np.where(drawn[..., None], 0.45 * pixels + 0.55 * tint, pixels)
    return _jpeg(Image.fromarray(mixed.round().astype(np.uint8)), 80)


def mask_bytes(mask: Tensor) -> bytes:
    """A mask on the grid on which it is shown, row by row, one byte a pixel, gzipped."""
    step = grid_step(mask)
    return gzip.compress(mask[::step, ::step].contiguous().numpy().tobytes(), 1)


def region_bytes(regions: Tensor) -> bytes:
    """Numbers of regions row by row, two bytes each, the low one first, gzipped."""
    return gzip.compress(regions.clamp(max=65_535).numpy().astype("<u2").tobytes(), 1)


def map_png(desk: PhotoDesk, sample: Sample, kind: str) -> bytes:
    """A map of an image, or its boundaries, as a picture that is clear where it is 0.

    Raises:
        DataError: There is no such map.
    """
    if kind == BOUNDARY:
        return heat_image(desk.boundary(sample).numpy(), side=512)
    kinds, _ = titled_maps(desk.facts, sample)
    if kind not in kinds or not len(kinds[kind]):
        raise DataError(f"{sample.id} has no map {kind!r}")
    return heat_image(kinds[kind].amax(dim=0).numpy(), side=512)


def _photo(sample: Sample, side: int) -> Image.Image:
    pixels = read_sample(sample, max_side=side).permute(1, 2, 0).contiguous().numpy()
    photo = Image.fromarray(pixels)
    photo.thumbnail((side, side), Image.Resampling.BILINEAR)
    return photo


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
