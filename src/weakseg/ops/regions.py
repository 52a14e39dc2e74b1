"""Regions between learnt boundaries: pieces of an image that are taken or left as a whole."""

from __future__ import annotations

import torch
from torch import Tensor

from weakseg.ops.arguments import finite_maps

_DEPTH, _SMALLEST = 0.08, 12


def boundary_regions(
    boundary: Tensor, *, depth: float = _DEPTH, smallest: int = _SMALLEST
) -> Tensor:
    """Cuts an image where boundaries are: a watershed of their probabilities.

    Pixels are taken in the order of their probability; each joins the region that it touches, or
    begins one. Where two regions meet, the shallower one joins the other if its lowest probability
    is less than `depth` below the meeting point, or if it is small.

    Args:
        boundary: Probability of a boundary in 0..1, [h,w].
        depth: How much a boundary must stand out.
        smallest: Least pixels of a region that another one touches.

    Returns:
        The number of each pixel's region, int64 [h,w], from 0, in the order of their first pixels.

    Raises:
        ValueError: The boundary is not [h,w], or not finite.

    Example:
        >>> wall = torch.zeros(3, 9)
        >>> wall[:, 4] = 1
        >>> boundary_regions(wall, smallest=1)[0].tolist()
        [0, 0, 0, 0, 0, 1, 1, 1, 1]
    """
    boundary = finite_maps(boundary, "a boundary map")
    if boundary.ndim != 2:
        raise ValueError(f"expected a boundary map [h,w], got {tuple(boundary.shape)}")
    width = boundary.shape[1]
    flat = boundary.flatten()
    heights = flat.tolist()
    owner = [-1] * len(heights)
    floor, size = list(heights), [1] * len(heights)

    def root(pixel: int) -> int:
        while owner[pixel] != pixel:
            owner[pixel] = owner[owner[pixel]]
            pixel = owner[pixel]
        return pixel

    for pixel in flat.argsort(stable=True).tolist():
        x = pixel % width
        near = [pixel - width, pixel + width]
        near += [pixel - 1] if x else []
        near += [pixel + 1] if x < width - 1 else []
        taken = [other for other in near if 0 <= other < len(owner) and owner[other] >= 0]
        if not taken:
            owner[pixel] = pixel
            continue
        home = root(min(taken, key=heights.__getitem__))
        for other in {root(other) for other in taken} - {home}:
            low, high = sorted((home, other), key=floor.__getitem__)
            if heights[pixel] - floor[high] < depth or min(size[low], size[high]) < smallest:
                owner[high] = low
                size[low] += size[high]
                home = low
        owner[pixel] = home
        size[home] += 1
    roots = torch.tensor([root(pixel) for pixel in range(len(owner))])
    numbers: dict[int, int] = {}
    for each in roots.tolist():
        numbers.setdefault(each, len(numbers))
    return torch.tensor([numbers[each] for each in roots.tolist()]).view(boundary.shape)
