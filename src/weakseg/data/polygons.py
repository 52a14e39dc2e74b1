"""Polygons and the pixels inside them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def fill_polygon(rings: Iterable[npt.ArrayLike], height: int, width: int) -> Mask:
    """The pixels whose centre lies inside of a polygon, by the even-odd rule.

    Pixel (row r, column c) covers x in c..c+1 and y in r..r+1; its centre is (c + ½, r + ½). What
    lies outside of the image is cut off.

    Args:
        rings: Closed lines of x and y in pixels, [n,2] or one number after the other [2n], the last
            point joined to the first; rings inside of others are holes. Rings of fewer than 3
            points enclose nothing.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        bool [height,width].

    Raises:
        ValueError: A ring is no [n,2] or [2n] of finite numbers.

    Example:
        >>> fill_polygon([[(1, 0), (3, 0), (3, 2), (1, 2)]], 2, 4).astype(int).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    crossings = np.zeros((height, width + 1), np.int64)
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim == 1 and points.size % 2 == 0:
            points = points.reshape(-1, 2)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"expected points [n,2] of finite numbers, got {points.shape}")
        if len(points) >= 3:
            _add_crossings(crossings, points)
    inside: Mask = np.cumsum(crossings, axis=1)[:, :width] % 2 == 1
    return inside


def fill_polygons(polygons: Iterable[npt.ArrayLike], height: int, width: int) -> Mask:
    """The pixels inside of any of several polygons without holes; see `fill_polygon`."""
    mask = np.zeros((height, width), np.bool_)
    for polygon in polygons:
        mask |= fill_polygon([polygon], height, width)
    return mask


def fill_ellipse(
    centre: tuple[float, float],
    radii: tuple[float, float],
    degrees: float,
    height: int,
    width: int,
) -> Mask:
    """The pixels whose centre lies inside of an ellipse; see `fill_polygon` for pixels.

    Args:
        centre: x and y in pixels.
        radii: Half of its axes in pixels (≥ 0), along x and y before it is turned.
        degrees: How far it is turned about its centre, clockwise (x to the right, y down).
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        bool [height,width].

    Raises:
        ValueError: A number is not finite, or a radius is negative.

    Example:
        >>> fill_ellipse((1.5, 1.5), (1.1, 0.5), 0, 3, 3).astype(int).tolist()
        [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    """
    if not np.isfinite([*centre, *radii, degrees]).all() or min(radii) < 0:
        raise ValueError(f"expected finite numbers and radii ≥ 0, got {centre}, {radii}, {degrees}")
    if min(radii) == 0:
        return np.zeros((height, width), np.bool_)
    x = np.arange(width) + 0.5 - centre[0]
    y = (np.arange(height) + 0.5 - centre[1])[:, None]
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    along, across = cosine * x + sine * y, cosine * y - sine * x
    inside: Mask = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return inside


def _add_crossings(crossings: npt.NDArray[np.int64], points: Points) -> None:
    """Counts, per row, at which column each edge is first left of the pixel's centre."""
    height, width = crossings.shape[0], crossings.shape[1] - 1
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    flip = y0 > y1
    x0, x1 = np.where(flip, x1, x0), np.where(flip, x0, x1)
    y0, y1 = np.where(flip, y1, y0), np.where(flip, y0, y1)
    # Rows whose centre r + ½ is in y0 ≤ r + ½ < y1.
    first = np.clip(np.ceil(y0 - 0.5), 0, height).astype(np.int64)
    behind = np.clip(np.ceil(y1 - 0.5), 0, height).astype(np.int64)
    counts = np.maximum(behind - first, 0)
    edge = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    x = x0[edge] + (rows + 0.5 - y0[edge]) * slope
    columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    np.add.at(crossings, (rows, columns), 1)
