import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.data.rle import (
    CvatRLE,
    box_of,
    brush_rle,
    coco_rle,
    cvat_rle,
    from_brush_rle,
    from_coco_rle,
    from_cvat_rle,
    from_run_lengths,
    run_lengths,
)


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    share = draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 9999))).random((height, width)) < share


def large() -> np.ndarray:
    """A blob with a ragged part, as photographs' masks are, with runs over 65,536."""
    y, x = np.mgrid[:3000, :4000]
    blob = (y - 1700) ** 2 / 1.2 + (x - 2000) ** 2 < 900**2
    return blob ^ (((y // 37 + x // 91) % 7 == 0) & (y > 2000))


def slow_run_lengths(flat) -> list[int]:
    counts, value = [0], 0
    for pixel in flat:
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return counts


def slow_coco_text(counts) -> str:
    text = ""
    for place, count in enumerate(counts):
        rest = count - counts[place - 2] if place > 2 else count
        while True:
            group, rest = rest & 31, rest >> 5
            more = rest != (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * more)
            if not more:
                break
    return text


def slow_brush(data, height: int, width: int) -> np.ndarray:
    """Decodes [H,W,4] from a text of zeros and ones."""
    bits = "".join(f"{byte:08b}" for byte in data)

    def take(count):
        nonlocal bits
        found, bits = int(bits[:count], 2), bits[count:]
        return found

    total, word, sizes, out = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)], []
    while len(out) < total:
        same = take(1)
        count = take(sizes[take(2)]) + 1
        out += [take(word)] * count if same else [take(word) for _ in range(count)]
    assert len(bits) < 8
    assert set(bits) <= {"0"}
    return np.array(out).reshape(height, width, 4)


@pytest.mark.parametrize(
    ("flat", "counts"),
    [("0", [1]), ("1", [0, 1]), ("0011101", [2, 3, 1, 1]), ("1000", [0, 1, 3]), ("111", [0, 3])],
)
def test_run_lengths(flat, counts):
    pixels = np.array([digit == "1" for digit in flat])
    assert run_lengths(pixels).tolist() == counts == slow_run_lengths(pixels)
    assert np.array_equal(from_run_lengths(counts, len(flat)), pixels)


@given(masks())
@settings(deadline=None)
def test_coco_is_as_written_slowly_and_comes_back(mask):
    rle = coco_rle(mask)
    assert rle["size"] == list(mask.shape)
    assert rle["counts"] == slow_coco_text(slow_run_lengths(mask.T.ravel()))
    assert np.array_equal(from_coco_rle(rle), mask)


@given(masks())
@settings(deadline=None)
def test_pycocotools_writes_and_reads_the_same(mask):
    cocotools = pytest.importorskip("pycocotools.mask")
    theirs = cocotools.encode(np.asfortranarray(mask, np.uint8))
    ours = coco_rle(mask)
    assert theirs["counts"].decode() == ours["counts"]
    assert np.array_equal(cocotools.decode(ours), mask)
    assert cocotools.area(ours) == mask.sum()
    if mask.any():
        assert tuple(cocotools.toBbox(ours)) == box_of(mask)


@given(masks())
@settings(deadline=None)
def test_cvat_is_as_read_slowly_and_comes_back(mask):
    if not mask.any():
        with pytest.raises(ValueError, match="at least one pixel"):
            cvat_rle(mask)
        return
    rle = cvat_rle(mask)
    found, place, value = np.zeros_like(mask), 0, False
    for count in map(int, rle.rle.split(", ")):
        for offset in range(place, place + count):
            found[rle.top + offset // rle.width, rle.left + offset % rle.width] = value
        place, value = place + count, not value
    assert place == rle.width * rle.height
    assert np.array_equal(found, mask)
    assert np.array_equal(from_cvat_rle(rle, *mask.shape), mask)


@given(masks())
@settings(deadline=None, max_examples=50)
def test_brush_is_as_read_slowly_and_comes_back(mask):
    data = brush_rle(mask)
    pixels = slow_brush(data, *mask.shape)
    assert np.array_equal(pixels, np.where(mask, 255, 0)[..., None].repeat(4, axis=2))
    assert np.array_equal(from_brush_rle(list(data), *mask.shape), mask)


# fmt: off
BY_RLE_PACK = [
    0, 0, 0, 24, 57, 27, 252, 96, 3, 133, 10, 15, 100, 5, 10, 15, 63, 206, 1, 16, 76, 31, 224,
]
"""Alpha 0, 200, 127, 0, 0, 255 as packed by npm's @thi.ng/rle-pack 3, with literal bytes."""
# fmt: on


def test_brush_as_label_studios_own_library_writes_it():
    assert from_brush_rle(BY_RLE_PACK, 2, 3).tolist() == [
        [False, True, False],
        [False, False, True],
    ]


def test_brush_of_other_widths():
    text = f"{12:032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in (2, 5, 7, 9))
    text += f"000{3:02b}" + f"{1:08b}{2:08b}{3:08b}{127:08b}"  # 4 literals in the width 2
    text += f"101{7:05b}{200:08b}"  # a run of 8 in the width 5
    text += "0" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big")
    assert from_brush_rle(data, 1, 3).tolist() == [[False, True, True]]


@pytest.mark.parametrize("edge", [1, 2, 3, 4, 5, 64, 65, 16384, 16385, 32768, 32769])
def test_brush_runs_around_the_widths_of_their_lengths(edge):
    mask = np.zeros((1, edge + 2), bool)
    mask[0, 1:-1] = True
    data = brush_rle(mask)
    assert np.array_equal(slow_brush(data, *mask.shape)[..., 3] == 255, mask)
    assert np.array_equal(from_brush_rle(data, *mask.shape), mask)


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (coco_rle, lambda rle, size: from_coco_rle(rle)),
        (cvat_rle, lambda rle, size: from_cvat_rle(rle, *size)),
        (brush_rle, lambda rle, size: from_brush_rle(rle, *size)),
    ],
)
def test_twelve_megapixels_take_well_under_a_second(write, read):
    mask = large()
    start = time.process_time()
    rle = write(mask)
    written = time.process_time()
    back = read(rle, mask.shape)
    assert written - start < 1
    assert time.process_time() - written < 1
    assert np.array_equal(back, mask)


def test_damaged_run_lengths_are_refused():
    mask = np.eye(5, dtype=bool)
    coco, cvat, brush = coco_rle(mask), cvat_rle(mask), brush_rle(mask)
    damaged = ("", "é", coco["counts"] + "o", coco["counts"] + "1", "o" * 14 + "0", "\x1f")
    for counts in (*damaged, {"a": {}}, None, 3):
        with pytest.raises(ValueError, match="expected"):
            from_coco_rle({"size": [5, 5], "counts": counts})
    with pytest.raises(ValueError, match="expected"):
        from_coco_rle({**coco, "size": [5, 6]})
    for wrong in (cvat._replace(left=1), cvat._replace(rle="30"), CvatRLE("-1, 26", 0, 0, 5, 5)):
        with pytest.raises(ValueError, match="expected"):
            from_cvat_rle(wrong, 5, 5)
    for data, size in ((brush[:-1], (5, 5)), (brush, (5, 4)), (b"", (5, 5))):
        with pytest.raises(ValueError, match="expected"):
            from_brush_rle(data, *size)
    longer = bytes([0, 0, 0, 4, *brush_rle(np.ones((1, 2), bool))[4:]])
    with pytest.raises(ValueError, match="expected 4 bytes"):
        from_brush_rle(longer, 1, 1)
