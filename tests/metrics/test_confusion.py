import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from weakseg.metrics.boundary_iou import BoundaryIoU, trimap_band
from weakseg.metrics.confusion import (
    ConfusionMatrix,
    class_iou,
    class_precision,
    class_recall,
    mean_iou,
)
from weakseg.metrics.sweep import ThresholdSweep

IGNORE = 255


def slow_confusion(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    counts = torch.zeros(classes + 1, classes + 1, dtype=torch.int64)
    for p, t in zip(prediction.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if t != IGNORE:
            counts[t, p] += 1
    return counts


def label_maps(seed: int, classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, classes + 2, (2, 1, 4, 4), generator=generator)
    prediction, truth = torch.nn.functional.interpolate(coarse.float(), size=size)[:, 0].byte()
    truth[truth == classes + 1] = IGNORE
    prediction[prediction == classes + 1] = 0
    return prediction, truth


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_confusion_equals_counting(seed: int, classes: int) -> None:
    prediction, truth = label_maps(seed, classes, (9, 7))
    matrix = ConfusionMatrix(classes)
    matrix.update(prediction, truth)
    matrix.update(prediction.flip(0).long(), truth.long())
    expected = slow_confusion(prediction, truth, classes)
    expected += slow_confusion(prediction.flip(0), truth, classes)
    assert torch.equal(matrix.counts, expected)


def test_rates_by_hand() -> None:
    counts = torch.tensor([[5, 1, 0, 0], [2, 4, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]])
    nan = math.nan
    for rate, expected in [
        (class_iou, [5 / 8, 4 / 10, 0.0, nan]),
        (class_precision, [5 / 7, 4 / 8, nan, nan]),
        (class_recall, [5 / 6, 4 / 6, 0.0, nan]),
    ]:
        torch.testing.assert_close(
            rate(counts), torch.tensor(expected, dtype=torch.float64), equal_nan=True
        )
    assert float(mean_iou(counts)) == pytest.approx((5 / 8 + 4 / 10 + 0) / 3)
    assert class_iou(counts.expand(2, 3, 4, 4)).shape == (2, 3, 4)
    assert math.isnan(float(mean_iou(torch.zeros(2, 2))))


def test_prediction_at_ignored_pixels_changes_nothing() -> None:
    prediction, truth = label_maps(3, 3, (40, 30))
    assert (truth == IGNORE).any()
    other = prediction.masked_fill(truth == IGNORE, IGNORE)
    scores = []
    for labels in (prediction, other):
        matrix, boundary = ConfusionMatrix(3), BoundaryIoU(3, ratio=0.1)
        matrix.update(labels, truth)
        boundary.update(labels, truth)
        scores.append((matrix.counts, boundary.intersection, boundary.union))
    for first, second in zip(*scores, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), "one shape"),
        (torch.tensor([[3]]), torch.tensor([[0]]), "labels 0..2"),
        (torch.tensor([[0]]), torch.tensor([[7]]), "up to 7 in the truth"),
        (torch.tensor([[255]]), torch.tensor([[0]]), "up to 0 in the truth and 255"),
        (torch.tensor([[-1]]), torch.tensor([[1]]), "-1"),
        (torch.tensor([[0]]), torch.tensor([[300]]), "300"),
        (torch.tensor([[0.5]]), torch.tensor([[1]]), "integer"),
    ],
)
def test_confusion_refuses(prediction: Tensor, truth: Tensor, message: str) -> None:
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=message):
        matrix.update(prediction, truth)
    assert not matrix.counts.any()


@given(
    st.integers(0, 10_000),
    st.lists(
        st.one_of(st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.floats(0, 1, width=32)),
        min_size=1,
        max_size=12,
        unique=True,
    ),
)
@settings(max_examples=20, deadline=None)
def test_sweep_equals_one_threshold_at_a_time(seed: int, thresholds: list[float]) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes, size = 4, (6, 8)
    grid = torch.tensor(thresholds, dtype=torch.float32).sort().values
    grid = grid.unique()
    sweep = ThresholdSweep(classes, grid)
    expected = torch.zeros(len(grid), classes + 1, classes + 1, dtype=torch.int64)
    for n in (3, 1, 0):
        own = torch.randperm(classes, generator=generator)[:n]
        maps = torch.rand(n, *size, generator=generator)
        if n:  # scores that equal a threshold, and ties between maps
            maps.view(-1)[: len(grid)] = grid
            maps[0, 0, 0] = maps[-1, 0, 0]
        truth = torch.randint(0, classes + 1, size, generator=generator)
        truth[0, :3] = IGNORE
        sweep.update(maps, own, truth)
        for k, threshold in enumerate(grid):
            prediction = torch.zeros(size, dtype=torch.int64)
            if n:
                score, best = maps.max(0)
                prediction = torch.where(score >= threshold, own[best] + 1, 0)
            expected[k] += slow_confusion(prediction, truth, classes)
    assert torch.equal(sweep.matrices(), expected)
    curve = sweep.curve()
    torch.testing.assert_close(curve.mean_iou, mean_iou(expected))
    assert float(mean_iou(sweep.best().counts)) == float(mean_iou(expected).max())
    assert torch.equal(sweep.at(float(grid[-1])).counts, expected[-1])


def test_dense_thresholds_share_cells() -> None:
    grid = torch.linspace(0, 1, 5001)
    sweep = ThresholdSweep(1, grid)
    scores = torch.cat([grid, torch.rand(5000)])[None, None]
    sweep.update(scores, torch.tensor([0]), torch.ones(1, scores.numel(), dtype=torch.int64))
    expected = (scores.flatten() >= grid[:, None]).sum(1)
    assert torch.equal(sweep.matrices()[:, 1, 1], expected)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])  # edges of the cells that sort the scores
def test_score_equal_to_a_lone_threshold_is_foreground(threshold: float) -> None:
    sweep = ThresholdSweep(1, [threshold])
    score = torch.tensor([[[threshold, max(0.0, threshold - 1e-6)]]])
    sweep.update(score, torch.tensor([0]), torch.tensor([[1, 0]]))
    assert int(sweep.matrices()[0, 1, 1]) == 1
    assert int(sweep.matrices()[0, 0, 1]) == (threshold == 0)


def test_first_of_equal_maps_wins() -> None:
    sweep = ThresholdSweep(3, [0.5])
    sweep.update(torch.full((2, 1, 1), 0.7), torch.tensor([2, 0]), torch.tensor([[3]]))
    assert int(sweep.matrices()[0, 3, 3]) == 1


def test_small_maps_are_upsampled() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 5, 7, generator=generator)
    truth = torch.randint(0, 4, (18, 27), generator=generator)
    classes = torch.tensor([0, 1, 2])
    full = torch.nn.functional.interpolate(
        maps[None], size=(18, 27), mode="bilinear", align_corners=False
    )[0]
    small, large = ThresholdSweep(3), ThresholdSweep(3)
    small.update(maps, classes, truth)
    large.update(full, classes, truth)
    assert torch.equal(small.matrices(), large.matrices())


def test_sweep_best_and_at() -> None:
    sweep = ThresholdSweep(1)
    sweep.update(
        torch.tensor([[[0.1, 0.35, 0.6, 0.9]]]), torch.tensor([0]), torch.tensor([[0, 0, 1, 1]])
    )
    best = sweep.best()
    assert best.threshold == 0.36
    assert best.counts.tolist() == [[2, 0], [0, 2]]
    assert sweep.at(0.6).counts.tolist() == [[2, 0], [0, 2]]
    assert sweep.at(0.61).counts.tolist() == [[2, 0], [1, 1]]
    with pytest.raises(ValueError, match=r"0\.615 \(nearest: 0\.6"):
        sweep.at(0.615)


@pytest.mark.parametrize(
    ("maps", "classes", "truth", "message"),
    [
        (torch.zeros(2, 2), torch.tensor([0]), torch.zeros(2, 2), r"\(2, 2\), \(1,\)"),
        (torch.zeros(2, 2, 2), torch.tensor([0]), torch.zeros(2, 2), r"\(2, 2, 2\), \(1,\)"),
        (torch.full((1, 2, 2), 1.5), torch.tensor([0]), torch.zeros(2, 2).byte(), "0..1"),
        (torch.full((1, 2, 2), math.nan), torch.tensor([0]), torch.zeros(2, 2).byte(), "0..1"),
        (torch.zeros(1, 2, 2), torch.tensor([2]), torch.zeros(2, 2).byte(), "classes in 0..1"),
        (torch.zeros(1, 2, 2), torch.tensor([1]), torch.full((2, 2), 9), "got 9"),
    ],
)
def test_sweep_refuses(maps: Tensor, classes: Tensor, truth: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdSweep(2).update(maps, classes, truth)


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.6, 0.5], [1.2], [[0.1]]])
def test_sweep_refuses_thresholds(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ThresholdSweep(2, torch.tensor(thresholds))


def test_nothing_but_ignored_pixels() -> None:
    truth = torch.full((5, 6), IGNORE, dtype=torch.uint8)
    boundary, sweep = BoundaryIoU(2), ThresholdSweep(2)
    boundary.update(torch.zeros_like(truth), truth)
    sweep.update(torch.rand(1, 5, 6), torch.tensor([1]), truth)
    assert boundary.per_class().isnan().all()
    assert not sweep.matrices().any()
    assert not trimap_band(truth, 2).any()


@pytest.mark.parametrize("classes", [0, 255])
def test_number_of_classes_is_checked(classes: int) -> None:
    for kind in (ConfusionMatrix, ThresholdSweep, BoundaryIoU):
        with pytest.raises(ValueError, match=r"1\.\.254"):
            kind(classes)
