"""Polygons and the pixels inside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    outlines: list[Points] = []
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim == 1 and points.size % 2 == 0:
            points = points.reshape(-1, 2)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"expected points [n,2] of finite numbers, got {points.shape}")
        if len(points) >= 3:
            outlines.append(points)
    inside = np.zeros((height, width), np.bool_)
    if not outlines:
        return inside
    # Only the box around the rings is looked at: many small polygons in a large image are usual.
    every = np.concatenate(outlines)
    left, top = (int(v) for v in np.clip(np.floor(every.min(axis=0)), 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(np.ceil(every.max(axis=0)), 0, (width, height)))
    if left < right and top < bottom:
        crossings = np.zeros((bottom - top, right - left + 1), np.int32)
        for points in outlines:
            _add_crossings(crossings, points, top, left)
        inside[top:bottom, left:right] = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
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


def mask_polygons(mask: npt.ArrayLike) -> list[list[Points]]:
    """The outlines of a mask's regions along the edges of its pixels, corners only.

    A region is what hangs together by sides of pixels; such that touch at a corner are two. No ring
    meets a point twice, so that polygons are valid for GIS programs. `fill_polygon` of all rings
    gives back exactly the mask.

    Args:
        mask: bool [H,W].

    Returns:
        Of each region, from the top, its rings [n,2] of x and y in pixels, as `fill_polygon` takes
        them: first the outer one, clockwise on the screen, then its holes, the other way round.

    Raises:
        ValueError: `mask` is no [H,W].

    Example:
        >>> mask_polygons([[0, 1, 1], [0, 1, 1]])
        [[array([[1., 0.],
               [3., 0.],
               [3., 2.],
               [1., 2.]])]]
    """
    array = np.asarray(mask, np.bool_)
    if array.ndim != 2:
        raise ValueError(f"expected a mask [H,W], got {array.shape}")
    rings = _rings(array)
    owner = _owners(array.shape, rings)
    polygons: dict[int, list[Points]] = {}
    outer: dict[int, int] = {}
    # From the top and the left: what is left of a hole's first corner is known by then.
    for number in sorted(range(len(rings)), key=lambda i: _first_corner(rings[i])):
        ring = rings[number]
        if _signed_area(ring) > 0:
            outer[number] = number
            polygons[number] = [ring]
        else:
            row, column = _first_corner(ring)
            left = np.flatnonzero(owner[row, :column] >= 0)[-1]  # the region's edge in that row
            outer[number] = outer[int(owner[row, left])]
            polygons[outer[number]].append(ring)
    return list(polygons.values())


def bridged(polygon: Sequence[npt.ArrayLike]) -> Points:
    """A polygon of `mask_polygons` as one ring: each hole hangs at a bridge of no width.

    Bridges run along the middle of a row of pixels, inside of the region; the pixels inside remain
    the same, whatever rule fills the ring.

    Args:
        polygon: The outer ring and its holes [n,2], from the top.

    Returns:
        Float [n,2].

    Example:
        >>> ring = bridged(mask_polygons([[1, 1, 1], [1, 0, 1], [1, 1, 1]])[0])
        >>> fill_polygon([ring], 3, 3).astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    ring, *holes = (np.asarray(points, np.float64) for points in polygon)
    for hole in holes:
        row, column = _first_corner(hole)
        y = row + 0.5
        end = np.roll(ring, -1, axis=0)
        low, high = np.minimum(ring[:, 1], end[:, 1]), np.maximum(ring[:, 1], end[:, 1])
        spans = (low < y) & (y < high) & (ring[:, 0] < column)
        at = int(np.argmax(np.where(spans, ring[:, 0], -np.inf)))
        # From its first corner a hole goes down its left side, where the bridge arrives.
        first = int(np.flatnonzero((hole == (column, row)).all(axis=1))[0])
        round_trip = np.roll(hole, -first - 1, axis=0)
        land, shore = (ring[at, 0], y), (column, y)
        ring = np.concatenate(
            [ring[: at + 1], [land, shore], round_trip, [shore, land], ring[at + 1 :]]
        )
    return ring


def _rings(mask: Mask) -> list[Points]:
    """The closed lines around a mask's pixels, with the mask at their right hand."""
    padded = np.pad(mask, 1)
    above, below = padded[:-1], padded[1:]
    north_west, north_east, south_west, south_east = (
        above[:, :-1], above[:, 1:], below[:, :-1], below[:, 1:]
    )  # fmt: skip
    odd = north_west ^ north_east ^ south_west ^ south_east
    falling = north_west & south_east & ~north_east & ~south_west
    rising = north_east & south_west & ~north_west & ~south_east
    rows, columns = np.nonzero(odd | falling | rising)
    twice = ~odd[rows, columns]
    rows, columns = (np.repeat(values, 1 + twice) for values in (rows, columns))
    # Corners of a row pair up to horizontal edges, those of a column to vertical ones. Where pixels
    # touch at a corner it stands twice, and each copy goes with one of the pixels.
    copy = np.zeros(len(rows), np.int64)
    copy[1:] = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    copy = np.where(rising[rows, columns], 1 - copy, copy)
    order = np.lexsort((copy, rows, columns))
    down = np.empty(len(rows), np.int64)
    down[order[0::2]], down[order[1::2]] = order[1::2], order[0::2]
    return _followed(
        list(zip(columns.tolist(), rows.tolist(), strict=True)),
        down.tolist(),
        south_east[rows, columns].tolist(),
    )


def _followed(corners: list[tuple[int, int]], down: list[int], inside: list[bool]) -> list[Points]:
    """Rings from corners in rows, the other end of each one's vertical edge, and what is beyond."""
    rings: list[Points] = []
    seen = [False] * len(corners)
    for start in range(len(corners)):
        if seen[start]:
            continue
        path: list[tuple[int, int]] = []
        places: dict[tuple[int, int], int] = {}
        at, across = start, inside[start]
        while not seen[at]:
            seen[at] = True
            corner = corners[at]
            if corner in places:  # a ring that touches itself is two
                begin = places[corner]
                loop, path = path[begin:], path[:begin]
                for point in loop:
                    del places[point]
                rings.append(np.array(loop, np.float64))
            places[corner] = len(path)
            path.append(corner)
            at, across = (at ^ 1 if across else down[at]), not across
        rings.append(np.array(path, np.float64))
    return rings


def _owners(size: tuple[int, ...], rings: Sequence[Points]) -> npt.NDArray[np.int64]:
    """Which ring has a vertical edge at the left of each pixel, int64 [H,W+1]; -1: none."""
    owner = np.full((size[0], size[1] + 1), -1)
    for number, ring in enumerate(rings):
        (x0, y0), (x1, y1) = ring.T.astype(np.int64), np.roll(ring, -1, axis=0).T.astype(np.int64)
        upright = x0 == x1
        x, low, high = x0[upright], np.minimum(y0, y1)[upright], np.maximum(y0, y1)[upright]
        length = high - low
        rows = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length - low, length)
        owner[rows, np.repeat(x, length)] = number
    return owner


def _first_corner(ring: Points) -> tuple[int, int]:
    """Row and column of a ring's leftmost corner among the topmost."""
    top = ring[:, 1].min()
    return int(top), int(ring[ring[:, 1] == top, 0].min())


def _signed_area(ring: Points) -> float:
    """The area inside, in pixels; below 0 for a ring that goes anticlockwise on the screen."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x0 * y1 - x1 * y0).sum() / 2)


def _add_crossings(crossings: npt.NDArray[np.int32], points: Points, top: int, left: int) -> None:
    """Counts, per row, at which column each edge is first left of the pixel's centre.

    Args:
        crossings: Of the rows from `top` on and the columns from `left` on; is added to.
        points: A ring, in the whole image.
        top: See `crossings`.
        left: See `crossings`.
    """
    height, width = crossings.shape[0], crossings.shape[1] - 1
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    flip = y0 > y1
    x0, x1 = np.where(flip, x1, x0), np.where(flip, x0, x1)
    y0, y1 = np.where(flip, y1, y0), np.where(flip, y0, y1)
    # Rows whose centre r + ½ is in y0 ≤ r + ½ < y1.
    first = np.clip(np.ceil(y0 - 0.5), top, top + height).astype(np.int64)
    behind = np.clip(np.ceil(y1 - 0.5), top, top + height).astype(np.int64)
    counts = np.maximum(behind - first, 0)
    edge = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    x = x0[edge] + (rows + 0.5 - y0[edge]) * slope
    columns = np.clip(np.ceil(x - 0.5) - left, 0, width).astype(np.int64)
    np.add.at(crossings, (rows - top, columns), 1)
