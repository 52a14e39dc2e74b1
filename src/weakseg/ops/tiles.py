"""A large image by overlapping tiles whose scores are blended, a band of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

GRID = 32
"""Tiles begin at multiples of this (pixels): a network's cells lie as in the whole image."""

Span = tuple[int, int]


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Where tiles lie along one side: evenly, each sharing at least `overlap` with the next.

    Args:
        length: The side, in pixels.
        tile: A tile's side; the last one may be up to `GRID` − 1 longer.
        overlap: What neighbours share at least.

    Returns:
        (start, end) of each tile, the first at 0, the last ending at `length`.

    Raises:
        ValueError: `tile` and `overlap` are no multiples of `GRID`, or more than half is shared.

    Example:
        >>> spans(200, 96, 32)
        [(0, 96), (32, 128), (96, 200)]
    """
    if tile < GRID or overlap < 0 or tile % GRID or overlap % GRID or 2 * overlap > tile:
        raise ValueError(
            f"expected tiles of a multiple of {GRID} pixels that share at most half of that, "
            f"got {tile} and {overlap}"
        )
    if length < tile + GRID:
        return [(0, length)]
    cells = (length - tile) // GRID  # from the first start to the last
    steps = -(-cells * GRID // (tile - overlap))
    starts = [i * cells // steps * GRID for i in range(steps + 1)]
    return [*((start, start + tile) for start in starts[:-1]), (starts[-1], length)]


def shares(places: Sequence[Span], overlap: int) -> list[Tensor]:
    """What each tile contributes along one side: 1 in all at every pixel.

    A tile counts nothing within a quarter of the overlap from an edge that is not the image's:
    there a network sees the padding. Over the next half its share rises linearly.

    Args:
        places: What `spans` returned.
        overlap: As for `spans`.

    Returns:
        Of each tile its shares float32 [end − start] in 0..1.
    """
    length, margin, ramp = places[-1][1], overlap // 4, max(1, overlap // 2)
    weights, total = [], torch.zeros(length)
    for start, end in places:
        weight = torch.ones(end - start)
        rise = ((torch.arange(end - start) - margin + 0.5) / ramp).clamp(0, 1)
        if start > 0:
            weight = torch.minimum(weight, rise)
        if end < length:
            weight = torch.minimum(weight, rise.flip(0))
        weights.append(weight)
        total[start:end] += weight
    return [weight / total[start:end] for weight, (start, end) in zip(weights, places, strict=True)]


@torch.no_grad()
def tiled_scores(
    score: Callable[[Tensor], Tensor], image: Tensor, tile: int, overlap: int
) -> Iterator[tuple[int, Tensor]]:
    """Scores of a large image, from tiles, as bands from top to bottom.

    Equal to the scores of the whole image where the network looks no farther than a quarter of the
    overlap and its cells are at most `GRID` pixels; without visible seams otherwise. Only a band of
    tiles is held: wide images should be turned first.

    Args:
        score: From an image [3,h,w] to its scores [C,h,w].
        image: [3,H,W].
        tile: Side of a tile in pixels, see `spans`.
        overlap: What neighbouring tiles share, see `spans`.

    Yields:
        (first row, scores float32 [C,n,W]) of the next n rows.
    """
    down, across = (spans(side, tile, overlap) for side in image.shape[-2:])
    if len(down) == len(across) == 1:
        yield 0, score(image)
        return
    tall, wide = shares(down, overlap), shares(across, overlap)
    kept: Tensor | None = None
    for row, (top, bottom) in enumerate(down):
        band: Tensor | None = None
        for (left, right), weight in zip(across, wide, strict=True):
            piece = score(image[:, top:bottom, left:right])
            if band is None:
                band = piece.new_zeros(len(piece), bottom - top, image.shape[2])
                if kept is not None:
                    band[:, : kept.shape[1]] += kept
            both = tall[row][:, None] * weight
            band[:, :, left:right] += piece * both.to(piece.device)
        assert band is not None
        done = down[row + 1][0] - top if row + 1 < len(down) else bottom - top
        yield top, band[:, :done]
        kept = band[:, done:].clone()
