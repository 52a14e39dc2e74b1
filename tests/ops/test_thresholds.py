import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.ops.thresholds import (
    BINS,
    blind_threshold,
    cross_entropy_threshold,
    otsu_threshold,
    parted_at_half,
    score_histogram,
)

weights = st.lists(st.integers(0, 50), min_size=4, max_size=40).filter(
    lambda w: sum(v > 0 for v in w) >= 2
)


def slow_otsu(histogram):
    centres = (torch.arange(len(histogram)).double() + 0.5) / len(histogram)
    scores = {}
    for cut in range(1, len(histogram)):
        low, high = histogram[:cut], histogram[cut:]
        if low.sum() == 0 or high.sum() == 0:
            continue
        means = [
            (part * c).sum() / part.sum()
            for part, c in ((low, centres[:cut]), (high, centres[cut:]))
        ]
        scores[cut] = float(low.sum() * high.sum() * (means[0] - means[1]) ** 2)
    return scores


def slow_cross_entropy(histogram):
    centres = (torch.arange(len(histogram)).double() + 0.5) / len(histogram)
    scores = {}
    for cut in range(1, len(histogram)):
        total = 0.0
        for part, c in ((histogram[:cut], centres[:cut]), (histogram[cut:], centres[cut:])):
            if part.sum() == 0:
                break
            mean = (part * c).sum() / part.sum()
            total += float((part * c * torch.log(c / mean)).sum())
        else:
            scores[cut] = total
    return scores


@given(weights)
@settings(max_examples=60, deadline=None)
def test_otsu_is_best_of_all_cuts(values):
    histogram = torch.tensor(values).double()
    scores = slow_otsu(histogram)
    cut = round(otsu_threshold(histogram) * len(values))
    assert scores[cut] == pytest.approx(max(scores.values()), rel=1e-6)


@given(weights)
@settings(max_examples=60, deadline=None)
def test_cross_entropy_is_best_of_all_cuts(values):
    histogram = torch.tensor(values).double()
    scores = slow_cross_entropy(histogram)
    cut = round(cross_entropy_threshold(histogram) * len(values))
    assert scores[cut] == pytest.approx(min(scores.values()), rel=1e-6, abs=1e-9)


def test_two_clear_groups_are_parted_between_them():
    histogram = torch.zeros(BINS)
    histogram[10:30], histogram[200:220] = 5, 3
    assert 30 / BINS <= blind_threshold(histogram) <= 201 / BINS


def test_threshold_lies_between_its_two_criteria():
    scores = torch.rand(1, 100, 100) ** 3
    histogram = score_histogram(scores)
    low, high = sorted((otsu_threshold(histogram), cross_entropy_threshold(histogram)))
    assert low < blind_threshold(histogram) < high


def test_images_of_all_sizes_count_alike():
    small, large = torch.full((1, 2, 2), 0.1), torch.full((2, 90, 90), 0.9)
    assert float(score_histogram(small).sum()) == pytest.approx(1)
    assert float(score_histogram(large).sum()) == pytest.approx(1)


def test_the_highest_map_counts():
    maps = torch.stack([torch.full((4, 4), 0.2), torch.full((4, 4), 0.7)])
    assert int(score_histogram(maps).argmax()) == int(0.7 * BINS)


def test_no_tags_no_weight():
    histogram = score_histogram(torch.zeros(0, 4, 4))
    assert histogram.shape == (BINS,)
    assert not histogram.any()
    with pytest.raises(ValueError, match="not all 0"):
        blind_threshold(histogram)


def test_a_cut_below_the_highest_bin_is_one():
    histogram = torch.tensor([0.0, 0, 1, 1])
    assert otsu_threshold(histogram) == cross_entropy_threshold(histogram) == 0.75


@given(st.floats(0.01, 0.99), st.floats(0, 1))
def test_a_threshold_becomes_one_half(threshold, value):
    moved = float(parted_at_half(torch.tensor([value]), threshold))
    assert 0 <= moved <= 1
    if abs(value - threshold) > 1e-3:
        assert (moved > 0.5) == (value > threshold)
    assert float(parted_at_half(torch.tensor([threshold]), threshold)) == pytest.approx(
        0.5, abs=1e-3
    )
