import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from weakseg.metrics.boundary_iou import BoundaryIoU, trimap_band
from weakseg.metrics.confusion import ConfusionMatrix, mean_iou

IGNORE = 255


def label_maps(seed: int, classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, classes + 2, (2, 1, 4, 4), generator=generator)
    prediction, truth = torch.nn.functional.interpolate(coarse.float(), size=size)[:, 0].byte()
    truth[truth == classes + 1] = IGNORE
    prediction[prediction == classes + 1] = 0
    return prediction, truth


def slow_erosion(mask: Tensor, radius: int, *, outside: bool) -> Tensor:
    out = torch.zeros_like(mask)
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            whole = outside or (radius <= y < height - radius and radius <= x < width - radius)
            window = mask[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            out[y, x] = whole and bool(window.all())
    return out


def slow_fill(labels: Tensor, truth: Tensor) -> Tensor:
    decided = (truth != IGNORE).nonzero()
    order = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    out = labels.clone()
    if not len(decided):
        return out
    source = {(y, x): (y, x) for y, x in decided.tolist()}
    while len(source) < truth.numel():
        grown = dict(source)
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if (y, x) not in source:
                    for dy, dx in order:
                        if (y + dy, x + dx) in source:
                            grown[y, x] = source[y + dy, x + dx]
                            break
        source = grown
    for (y, x), (sy, sx) in source.items():
        out[y, x] = labels[sy, sx]
    return out


def slow_boundary_iou(prediction: Tensor, truth: Tensor, classes: int, distance: int) -> Tensor:
    decided = truth != IGNORE
    prediction, truth = slow_fill(prediction, truth), slow_fill(truth, truth)
    result = []
    for label in range(classes + 1):
        bands = []
        for labels in (truth, prediction):
            mask = labels == label
            bands.append(mask & ~slow_erosion(mask, distance, outside=False) & decided)
        union = int((bands[0] | bands[1]).sum())
        result.append(int((bands[0] & bands[1]).sum()) / union if union else math.nan)
    return torch.tensor(result, dtype=torch.float64)


@given(st.integers(0, 10_000), st.integers(4, 24), st.integers(4, 24), st.floats(0.02, 0.6))
@settings(max_examples=15, deadline=None)
def test_boundary_iou_equals_erosion_of_each_mask(
    seed: int, height: int, width: int, ratio: float
) -> None:
    prediction, truth = label_maps(seed, 2, (height, width))
    boundary = BoundaryIoU(2, ratio=ratio)
    boundary.update(prediction, truth)
    distance = max(1, round(ratio * math.hypot(height, width)))
    expected = slow_boundary_iou(prediction, truth, 2, distance)
    torch.testing.assert_close(boundary.per_class(), expected, equal_nan=True)


def test_boundary_iou_sums_over_images_and_sees_what_iou_does_not() -> None:
    truth = torch.zeros(200, 200, dtype=torch.uint8)
    truth[20:180, 20:180] = 1
    eroded = torch.zeros_like(truth)
    eroded[24:176, 24:176] = 1
    boundary = BoundaryIoU(1)
    boundary.update(truth, truth)
    assert boundary.per_class().tolist() == [1.0, 1.0]
    ring = 160**2 - 148**2  # 2% of the diagonal is 6 pixels
    assert int(boundary.union[1]) == ring
    boundary.update(eroded, truth)
    both = 152**2 - 148**2
    other = 152**2 - 140**2
    assert float(boundary.per_class()[1]) == (ring + both) / (2 * ring + other - both)
    matrix = ConfusionMatrix(1)
    matrix.update(eroded, truth)
    assert float(boundary.mean()) < float(mean_iou(matrix.counts))


def test_boundary_iou_does_not_reward_blobs_for_the_ignored_ring() -> None:
    truth = torch.zeros(100, 100, dtype=torch.uint8)
    truth[28:72, 28:72] = IGNORE
    truth[32:68, 32:68] = 1
    blob = torch.zeros_like(truth)
    blob[10:90, 10:90] = 1
    boundary = BoundaryIoU(1)
    boundary.update(blob, truth)
    assert float(boundary.per_class()[1]) == 0.0
    perfect = BoundaryIoU(1)
    perfect.update((truth > 0).byte(), truth)
    assert perfect.per_class().tolist() == [1.0, 1.0]


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_trimap_band_equals_distance_to_other_labels(seed: int, width: int) -> None:
    _, truth = label_maps(seed, 2, (17, 13))
    band = torch.zeros_like(truth, dtype=torch.bool)
    for y in range(17):
        for x in range(13):
            window = truth[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            band[y, x] = bool((window != truth[y, x]).any()) and truth[y, x] != IGNORE
    assert torch.equal(trimap_band(truth, width), band)
