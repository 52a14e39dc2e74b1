"""Binary masks as run lengths: COCO's text, CVAT's cropped rows, Label Studio's packed bits.

Each format is a pair of pure functions, inverse to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

_RUN_BITS = np.array([3, 4, 8, 16])
"""Widths that a run's length may have in a brush mask; a packet names one of them."""

_CHANNELS = 4  # a brush mask is the picture's red, green, blue, alpha
_WORD_BITS = 8
_OPAQUE = 128


class CocoRLE(TypedDict):
    """A mask as COCO keeps it: [height, width] and run lengths, as text or as numbers."""

    size: list[int]
    counts: str | list[int]


class CvatRLE(NamedTuple):
    """A mask as CVAT keeps it: run lengths of the rows of its box, in pixels."""

    rle: str
    left: int
    top: int
    width: int
    height: int


def run_lengths(flat: Mask) -> Counts:
    """Lengths of the alternating runs of a row of pixels; the first is of zeros, maybe 0 long.

    Example:
        >>> run_lengths(np.array([1, 1, 0, 1], bool)).tolist()
        [0, 2, 1, 1]
    """
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begin = [0, 0] if flat.size and flat[0] else [0]
    return np.diff(np.concatenate([begin, edges, [flat.size]])).astype(np.int64)


def from_run_lengths(counts: npt.ArrayLike, size: int) -> Mask:
    """The `size` pixels whose alternating runs, the first of zeros, are this long.

    Raises:
        ValueError: The runs are negative or are not `size` long in all.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != size:
        raise ValueError(
            f"expected run lengths ≥ 0 of {size} pixels in all, got {int(lengths.sum())} in all"
        )
    return np.repeat(np.arange(lengths.size) % 2 == 1, lengths)


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """The bounding box of a mask's pixels.

    Args:
        mask: [H,W], not empty.

    Returns:
        Left, top, width and height in pixels.

    Raises:
        ValueError: The mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError("expected a mask with at least one pixel, got none")
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def coco_rle(mask: Mask) -> CocoRLE:
    """A mask in COCO's compressed run lengths, as pycocotools reads them.

    Runs go down the columns. From the fourth on, each is written as its difference to the one two
    before; numbers are split into groups of 5 bits, the lowest first, with a sixth bit where more
    follow, and each group is the character 48 above it.

    Args:
        mask: [H,W].

    Returns:
        Size and text.
    """
    counts = run_lengths(mask.ravel(order="F"))
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    groups, used = [], [np.ones(rest.size, bool)]
    while used[-1].any():
        group = rest & 31
        rest = rest >> 5
        more = np.where(group & 16, rest != -1, rest != 0)
        groups.append((group | more << 5) + 48)
        used.append(used[-1] & more)
    text = np.stack(groups, axis=1)[np.stack(used[:-1], axis=1)]
    return {
        "size": [mask.shape[0], mask.shape[1]],
        "counts": text.astype(np.uint8).tobytes().decode("ascii"),
    }


def from_coco_rle(rle: CocoRLE) -> Mask:
    """The mask [H,W] of COCO's run lengths, compressed (a text) or not (a list of numbers).

    Raises:
        ValueError: The text is damaged or does not fit the size.
    """
    height, width = rle["size"]
    if isinstance(rle["counts"], list):
        flat = from_run_lengths(rle["counts"], height * width)
        return flat.reshape(width, height).T
    if not isinstance(rle["counts"], str):
        raise ValueError(f"expected COCO run lengths, got {str(rle['counts'])[:20]!r}")
    codes = np.frombuffer(rle["counts"].encode("utf-8"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0) + 1
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError(f"expected COCO run lengths, got {rle['counts'][:20]!r}…")
    starts = np.concatenate([[0], ends[:-1]])
    widths = 5 * (ends - starts)
    if widths.max() > 60:
        raise ValueError("expected COCO run lengths, got a number of more than 60 bits")
    places = 5 * (np.arange(codes.size) - np.repeat(starts, ends - starts))
    counts = np.add.reduceat((codes & 31) << places, starts)
    counts -= np.where(codes[ends - 1] & 16, 1 << widths, 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return from_run_lengths(counts, height * width).reshape(width, height).T


def cvat_rle(mask: Mask) -> CvatRLE:
    """A mask in CVAT's run lengths: along the rows of its box, the first run of zeros.

    Args:
        mask: [H,W], not empty.

    Returns:
        What the attributes of CVAT's `<mask>` say.

    Raises:
        ValueError: The mask is empty.
    """
    left, top, width, height = box_of(mask)
    counts = run_lengths(mask[top : top + height, left : left + width].ravel())
    return CvatRLE(", ".join(map(str, counts.tolist())), left, top, width, height)


def from_cvat_rle(rle: CvatRLE, height: int, width: int) -> Mask:
    """The mask [H,W] of CVAT's run lengths.

    Args:
        rle: The run lengths and their box.
        height: H of the image, in pixels.
        width: W.

    Raises:
        ValueError: The text is damaged, or the box does not fit the image.
    """
    bottom, right = rle.top + rle.height, rle.left + rle.width
    if not (0 <= rle.top <= bottom <= height and 0 <= rle.left <= right <= width):
        raise ValueError(f"expected a box inside of {width}×{height} pixels, got {rle[1:]}")
    counts = [int(number) for number in rle.rle.split(",")]
    mask = np.zeros((height, width), bool)
    inside = from_run_lengths(counts, rle.height * rle.width)
    mask[rle.top : bottom, rle.left : right] = inside.reshape(rle.height, rle.width)
    return mask


def brush_rle(mask: Mask) -> bytes:
    """A mask in Label Studio's brush format.

    The four bytes of each pixel, along the rows, are 255 inside and 0 outside. Bits, the highest
    first: the number of bytes (32), the bits of a byte − 1 (5), four widths − 1 (4 each); then for
    each run 1, the number of a width (2), its length − 1 in that width, and its byte.

    Args:
        mask: [H,W].

    Returns:
        The bytes; Label Studio's JSON lists them as numbers.
    """
    counts = _CHANNELS * run_lengths(mask.ravel())
    longest = 1 << int(_RUN_BITS[-1])
    pieces = -(-counts // longest)
    lengths = np.full(int(pieces.sum()), longest)
    some = pieces > 0
    lengths[np.cumsum(pieces)[some] - 1] = (counts - (pieces - 1) * longest)[some]
    byte = np.repeat(np.where(np.arange(counts.size) % 2, 255, 0), pieces)
    chosen = np.searchsorted(1 << _RUN_BITS, lengths)
    bits = _RUN_BITS[chosen]
    packets = ((4 | chosen) << bits | lengths - 1) << _WORD_BITS | byte
    header = [_CHANNELS * mask.size, _WORD_BITS - 1, *(_RUN_BITS - 1)]
    return _packed(
        np.concatenate([header, packets]),
        np.concatenate([[32, 5, 4, 4, 4, 4], 3 + bits + _WORD_BITS]),
    )


def from_brush_rle(data: bytes | Sequence[int], height: int, width: int) -> Mask:
    """The mask [H,W] of Label Studio's brush format: where alpha is at least one half.

    Args:
        data: The bytes, or the numbers of Label Studio's JSON.
        height: H of the image, in pixels.
        width: W.

    Raises:
        ValueError: The data is damaged or does not fit the size.
    """
    source = bytes(data)
    place = 0

    def read(bits: int) -> int:
        nonlocal place
        first, place = place, place + bits
        if place > 8 * len(source):
            raise ValueError("expected a brush mask, got data that ends too early")
        window = source[first // 8 : -(-place // 8)]
        return int.from_bytes(window, "big") >> (-place % 8) & ((1 << bits) - 1)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total != _CHANNELS * height * width or word != _WORD_BITS:
        raise ValueError(
            f"expected {_CHANNELS * height * width} bytes of a brush mask of {width}×{height} "
            f"pixels, got {total} numbers of {word} bits"
        )
    lengths, values, done = [], [], 0
    while done < total:
        same, count = read(1), 0
        count = read(sizes[read(2)]) + 1
        done += count
        lengths += [count] if same else [1] * count
        values += [read(word) for _ in range(1 if same else count)]
    if done != total:
        raise ValueError(f"expected {total} bytes of a brush mask, got runs of {done}")
    flat = np.repeat(np.array(values, np.uint8), lengths)
    alpha: Mask = flat.reshape(height, width, _CHANNELS)[..., -1] >= _OPAQUE
    return alpha


def _packed(values: Counts, widths: Counts) -> bytes:
    """Numbers one after the other, each in as many bits as it is wide, filled up by zeros."""
    ends = np.cumsum(widths)
    bits = np.zeros(int(ends[-1]), np.uint8)
    for place in range(int(widths.max())):
        wide = widths > place
        values, widths, ends = values[wide], widths[wide], ends[wide]
        bits[ends - 1 - place] = values >> place & 1
    return np.packbits(bits).tobytes()
