"""Pictures to look at: maps as heat over photographs, and rows of them in a grid."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

_MARGIN = 6
_TITLE = 20


def heat(image: Tensor, scores: Tensor, alpha: float = 0.6) -> Tensor:
    """A map over a photograph: dark blue where it is 0, through red, to yellow where it is 1.

    Args:
        image: uint8 [3,H,W].
        scores: Map in 0..1 [h,w]; brought to the image's size.
        alpha: How much of the heat shows, 0..1.

    Returns:
        uint8 [3,H,W].
    """
    size = tuple(image.shape[-2:])
    full = interpolate(scores[None, None].float(), size=size, mode="bilinear")[0, 0].clamp(0, 1)
    red = (2 * full).clamp(0, 1)
    green = (2 * full - 1).clamp(0, 1)
    blue = (0.5 - full).clamp(0, 0.5)
    colours = torch.stack([red, green, blue]) * 255
    return (image * (1 - alpha) + colours * alpha).round().to(torch.uint8)


def picture_grid(
    titles: Sequence[str], rows: Sequence[Sequence[Tensor]], height: int = 150
) -> bytes:
    """Rows of pictures under column titles, as a PNG.

    Args:
        titles: Of the columns.
        rows: Pictures uint8 [3,H,W], as many a row as there are titles.
        height: Of each picture in the grid, in pixels.

    Returns:
        The file's bytes.

    Raises:
        ValueError: A row has another number of pictures than there are titles.
    """
    scaled = []
    for row in rows:
        if len(row) != len(titles):
            raise ValueError(f"expected {len(titles)} pictures a row, got {len(row)}")
        scaled.append([_picture(picture, height) for picture in row])
    widths = [max((row[k].width for row in scaled), default=height) for k in range(len(titles))]
    size = (
        sum(widths) + _MARGIN * (len(titles) + 1),
        _TITLE + (height + _MARGIN) * len(rows) + _MARGIN,
    )
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    left = _MARGIN
    for column, title in enumerate(titles):
        draw.text((left, 4), title, fill="black")
        for line, pictures in enumerate(scaled):
            page.paste(pictures[column], (left, _TITLE + line * (height + _MARGIN)))
        left += widths[column] + _MARGIN
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _picture(pixels: Tensor, height: int) -> Image.Image:
    image = Image.fromarray(pixels.permute(1, 2, 0).cpu().contiguous().numpy())
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS)
