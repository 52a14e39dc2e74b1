"""Label maps as palette PNG, and as pictures to look at."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from weakseg.data.decode import opened
from weakseg.data.images import read_mask
from weakseg.data.palette import voc_colours
from weakseg.files import write_atomic
from weakseg.types import BACKGROUND, IGNORE, DataError

__all__ = ["mask_classes", "mask_png", "overlay", "read_mask", "voc_palette", "write_mask"]

_CLASSES = "weakseg:classes"  # the PNG text that holds the classes' names


def voc_palette() -> Tensor:
    """The colour of every index in PASCAL VOC's masks: uint8 [256,3], see `voc_colours`."""
    return torch.from_numpy(voc_colours())


def write_mask(path: Path | str, indices: Tensor, classes: Sequence[str] | None = None) -> None:
    """Writes a label map as palette PNG in VOC's colours, whole or not at all.

    Pixel values are the indices, whatever the colours. The folder is made if needed.

    Args:
        path: The file; should end in `.png`.
        indices: [H,W] integers: 0 background, k the k-th class, 255 ignored.
        classes: The names of classes 1..K. They are kept in the file, where `mask_classes` finds
            them, and no index may be greater than K (other than 255).

    Raises:
        ValueError: `indices` is no label map, or has an index that no class bears.
        RunError: The file cannot be written.

    Example:
        >>> write_mask("dog.png", torch.zeros(375, 500, dtype=torch.uint8))  # doctest: +SKIP
    """
    write_atomic(Path(path), mask_png(indices, classes))


def mask_png(indices: Tensor, classes: Sequence[str] | None = None) -> bytes:
    """The bytes of the file that `write_mask` writes, with the same arguments and errors."""
    array = _label_map(indices).cpu().numpy()
    info = PngInfo()
    if classes is not None:
        top = int(array[array != IGNORE].max(initial=0))
        if top > len(classes):
            raise ValueError(
                f"expected indices 0..{len(classes)} or {IGNORE} for {len(classes)} classes, "
                f"got {top}"
            )
        info.add_itxt(_CLASSES, json.dumps(list(classes), ensure_ascii=False), zip=True)
    image = Image.fromarray(np.ascontiguousarray(array))
    image.putpalette(voc_palette().flatten().tolist())
    buffer = io.BytesIO()
    # Level 9 saves another seventh but takes seven times as long.
    image.save(buffer, "PNG", compress_level=6, pnginfo=info)
    return buffer.getvalue()


def mask_classes(path: Path | str) -> tuple[str, ...] | None:
    """The names of classes 1..K that `write_mask` kept in a mask; None if there are none."""
    try:
        with opened(Path(path)) as image:
            names = json.loads(image.info.get(_CLASSES, "null"))
    except DataError:
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list else None


def overlay(image: Tensor, mask: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Lays a mask over its image: classes tinted in VOC's colours, with full-coloured contours.

    Args:
        image: uint8 [3,H,W].
        mask: [H,W] indices; background stays as it is, ignored pixels are tinted pale.
        alpha: How strong the tint is, 0..1.

    Returns:
        uint8 [3,H,W].

    Raises:
        ValueError: The sizes differ or `alpha` leaves 0..1.

    Example:
        >>> picture = overlay(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.ones(4, 4).byte())
        >>> picture[:, 2, 2].tolist()
        [64, 0, 0]
    """
    if image.dtype != torch.uint8 or image.shape != (3, *mask.shape) or mask.ndim != 2:
        raise ValueError(
            f"expected an image uint8 [3,H,W] and its mask [H,W], got {image.dtype} "
            f"{tuple(image.shape)} and {tuple(mask.shape)}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha in 0..1, got {alpha}")
    labels = _label_map(mask).long()
    contour = torch.zeros_like(labels, dtype=torch.bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    contour[1:] |= down
    contour[:-1] |= down
    contour[:, 1:] |= across
    contour[:, :-1] |= across
    strength = torch.where(contour, 1.0, alpha).masked_fill(labels == BACKGROUND, 0.0)
    tint = voc_palette().to(labels.device)[labels].permute(2, 0, 1).float()
    return torch.lerp(image.float(), tint, strength[None]).round().to(torch.uint8)


def _label_map(indices: Tensor) -> Tensor:
    if indices.ndim != 2 or not indices.numel():
        raise ValueError(f"expected indices [H,W], got {tuple(indices.shape)}")
    if indices.dtype != torch.uint8:
        low, high = (float(value) for value in indices.aminmax())
        if indices.is_floating_point() or low < 0 or high > IGNORE:
            raise ValueError(
                f"expected integer indices in 0..{IGNORE}, got {indices.dtype} in {low:g}..{high:g}"
            )
    return indices.to(torch.uint8)
