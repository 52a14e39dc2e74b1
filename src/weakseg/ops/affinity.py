"""Inter-pixel relations: paths between near pixels, their affinities and their labels.

Two pixels of one grid are a *pair* when the displacement from the first (the source) to the second
is one of `displacements(radius)`. All functions here keep a pair at its source: a *plane* is a map
[h,w] for one displacement, whose value at a pixel speaks of the pair that starts there. Planes come
first, [P,...,h,w], so that each of them is one contiguous block of memory.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

from weakseg.types import BACKGROUND, IGNORE

Offset = tuple[int, int]
"""Rows and columns, in grid pixels."""

_POINT = -1
"""Stands for the boundary map itself where a step of a plan names its planes by index."""

_ONE = 0x3F800000
"""The bits of 1.0 in float32."""


class Relation(IntEnum):
    """What the labels of a pair's two ends say about the pair."""

    UNKNOWN = 0
    """An end is unknown, or lies outside the grid."""
    BACKGROUND = 1
    """Both ends are background."""
    FOREGROUND = 2
    """Both ends bear the same class."""
    NEGATIVE = 3
    """The ends bear different labels."""


@lru_cache(maxsize=32)
def displacements(radius: int) -> tuple[Offset, ...]:
    """All displacements (dy,dx) of one half plane that are shorter than the radius.

    The half plane is dy > 0, or dy = 0 and dx > 0; then every unordered pair of pixels with
    dy² + dx² < radius² occurs once: 34 at radius 5, 152 at radius 10. Short ones come first.

    Args:
        radius: In grid pixels, at least 2.

    Returns:
        The displacements by length, then dy, then dx.

    Raises:
        ValueError: The radius is below 2, which leaves no pair.

    Example:
        >>> displacements(2)
        ((0, 1), (1, 0), (1, -1), (1, 1))
    """
    if radius < 2:
        raise ValueError(f"expected a radius of at least 2 grid pixels, got {radius}")
    half_plane = (
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    )
    return tuple(sorted(half_plane, key=lambda d: (d[0] ** 2 + d[1] ** 2, d)))


def path(dy: int, dx: int) -> frozenset[Offset]:
    """The grid points between a pixel and its partner, both ends included.

    The points of the bounding box of (0,0) and (dy,dx) whose distance to the line through both is
    less than 1: |dy·x − dx·y| < √(dy² + dx²) (IRN, arXiv 1904.05044).

    Args:
        dy: Rows from the pixel to its partner.
        dx: Columns from the pixel to its partner.

    Returns:
        Offsets from the pixel.

    Example:
        >>> sorted(path(0, 2))
        [(0, 0), (0, 1), (0, 2)]
    """
    rows = range(min(0, dy), max(0, dy) + 1)
    columns = range(min(0, dx), max(0, dx) + 1)
    length2 = dy * dy + dx * dx
    inside = {(y, x) for y in rows for x in columns if (dy * x - dx * y) ** 2 < length2}
    return frozenset(inside | {(0, 0)})


@lru_cache(maxsize=32)
def _plan(radius: int) -> tuple[tuple[tuple[int, Offset], ...], ...]:
    """For each displacement, already known planes whose shifted maxima cover its path.

    A maximum may count a point twice, so the path of a long displacement is covered by the paths of
    shorter ones that lie inside it: at radius 10, 2.2 planes on average instead of 14 points. Each
    part is (index of the shorter displacement or _POINT, offset of its source).
    """
    steps = displacements(radius)
    paths = [path(dy, dx) for dy, dx in steps]
    plan = []
    for target_index, target in enumerate(paths):
        candidates: list[tuple[int, Offset, set[Offset]]] = [(_POINT, p, {p}) for p in target]
        for index in range(target_index):
            end_y, end_x = steps[index]
            for oy, ox in target:
                if (oy + end_y, ox + end_x) not in target:
                    continue
                moved = {(y + oy, x + ox) for y, x in paths[index]}
                if moved <= target:
                    candidates.append((index, (oy, ox), moved))
        left = set(target)
        parts = []
        while left:
            index, offset, covered = max(
                candidates, key=lambda part: (len(part[2] & left), part[0], part[1])
            )
            parts.append((index, offset))
            left -= covered
        plan.append(tuple(parts))
    return tuple(plan)


def pair_window(h: int, w: int, dy: int, dx: int) -> tuple[slice, slice] | None:
    """Rows and columns of the sources whose partner at (dy,dx) is inside an h×w grid too."""
    if h <= dy or w <= abs(dx):
        return None
    return slice(0, h - dy), slice(max(0, -dx), w - max(0, dx))


def shifted(window: tuple[slice, slice], dy: int, dx: int) -> tuple[slice, slice]:
    """The window moved by (dy,dx): from the sources to their partners."""
    rows, columns = window
    return slice(rows.start + dy, rows.stop + dy), slice(columns.start + dx, columns.stop + dx)


def path_maxima(boundary: Tensor, radius: int) -> Tensor:
    """The largest value of the boundary map along the path of every pair.

    Args:
        boundary: Probability of a boundary in 0..1, [...,h,w].
        radius: In grid pixels.

    Returns:
        Planes [P,...,h,w] in the order of `displacements(radius)`; 1 where a pair leaves the grid.
        Detached: gradients are the business of `weakseg.ops.relation_losses`.

    Raises:
        ValueError: The map has fewer than two dimensions.
    """
    return _maxima(boundary.detach(), radius, outside=1)


def path_winners(boundary: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """As `path_maxima`, and where each maximum was found.

    A float's bits, read as an integer, are in the order of the numbers where these are not
    negative. With a pixel's index in the lower half of 64 bits, one integer maximum finds value and
    place together; of equal values the last pixel wins.

    Args:
        boundary: Probability of a boundary in 0..1, float32, [...,h,w].
        radius: In grid pixels.

    Returns:
        The planes [P,...,h,w], and int64 planes of flat indices into `boundary`; 1 and 0 where a
        pair leaves the grid.

    Raises:
        ValueError: The map has fewer than two dimensions or is not of float32.
    """
    if boundary.dtype != torch.float32:
        raise ValueError(f"expected a boundary map of float32, got {boundary.dtype}")
    bits = boundary.detach().contiguous().view(torch.int32).long()
    index = torch.arange(bits.numel(), device=bits.device).view(bits.shape)
    keys = _maxima((bits << 32) | index, radius, outside=_ONE << 32)
    return (keys >> 32).int().view(torch.float32), keys.bitwise_and_(0xFFFFFFFF)


def _maxima(values: Tensor, radius: int, *, outside: int) -> Tensor:
    if values.ndim < 2:
        raise ValueError(f"expected a boundary map [...,h,w], got {tuple(values.shape)}")
    h, w = values.shape[-2:]
    steps = displacements(radius)
    maxima = torch.full(
        (len(steps), *values.shape), outside, dtype=values.dtype, device=values.device
    )
    for target, (dy, dx), parts in zip(maxima, steps, _plan(radius), strict=True):
        window = pair_window(h, w, dy, dx)
        if window is None:
            continue
        first, *others = (
            (values if part == _POINT else maxima[part])[(..., *shifted(window, *offset))]
            for part, offset in parts
        )
        largest = target[(..., *window)].copy_(first)
        for view in others:
            torch.maximum(largest, view, out=largest)
    return maxima


def pair_affinity(boundary: Tensor, radius: int) -> Tensor:
    """How likely two near pixels belong together: a = 1 − max of the boundary along their path.

    IRN (arXiv 1904.05044), equation 2.

    Args:
        boundary: Probability of a boundary in 0..1, [...,h,w].
        radius: In grid pixels; pairs are closer than it.

    Returns:
        Planes [P,...,h,w] in 0..1, in the order of `displacements(radius)`, each pair at its
        source; 0 where a pair leaves the grid.

    Raises:
        ValueError: The map has fewer than two dimensions.

    Example:
        >>> wall = torch.tensor([[0.0, 0.9, 0.0]])
        >>> pair_affinity(wall, 3)[displacements(3).index((0, 2))]
        tensor([[0.1000, 0.0000, 0.0000]])
    """
    affinity = path_maxima(boundary, radius)
    return affinity.neg_().add_(1)


@torch.no_grad()
def pair_labels(labels: Tensor, radius: int) -> Tensor:
    """What a label map says about every pair, as codes of `Relation`.

    Args:
        labels: Integer labels [...,h,w]: 0 background, 255 unknown, others classes.
        radius: In grid pixels.

    Returns:
        uint8 planes [P,...,h,w] in the order of `displacements(radius)`, each pair at its source.

    Raises:
        ValueError: The map has fewer than two dimensions, or is not of integers.

    Example:
        >>> pair_labels(torch.tensor([[0, 0, 3, 3, 255]]), 2)[0].tolist()
        [[1, 3, 2, 0, 0]]
    """
    if labels.ndim < 2 or labels.is_floating_point():
        raise ValueError(
            f"expected integer labels [...,h,w], got {tuple(labels.shape)} of {labels.dtype}"
        )
    h, w = labels.shape[-2:]
    steps = displacements(radius)
    codes = torch.zeros(len(steps), *labels.shape, dtype=torch.uint8, device=labels.device)
    # What an equal pair is less than a negative one, by either end.
    less = torch.full_like(codes[0], Relation.NEGATIVE - Relation.FOREGROUND)
    less[labels == BACKGROUND] = Relation.NEGATIVE - Relation.BACKGROUND
    known = (labels != IGNORE).to(torch.uint8)
    for plane, (dy, dx) in zip(codes, steps, strict=True):
        window = pair_window(h, w, dy, dx)
        if window is None:
            continue
        source, partner = (..., *window), (..., *shifted(window, dy, dx))
        same = labels[source] == labels[partner]
        plane[source] = (Relation.NEGATIVE - less[source] * same) * known[source] * known[partner]
    return codes
