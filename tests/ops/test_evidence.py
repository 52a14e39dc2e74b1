"""What tags alone tell: average precision, images held out, visual words."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.ops.evidence import (
    FOLDS,
    area_under_curve,
    average_precision,
    by_chance,
    certainty,
    evidence_histogram,
    evidence_map,
    excess_threshold,
    held_out,
    nearest_words,
    told_apart,
    word_histograms,
)


def slow_average_precision(scores, there):
    total = 0.0
    for score, own in zip(scores, there, strict=True):
        if own:
            above = [b for a, b in zip(scores, there, strict=True) if a >= score]
            total += sum(above) / len(above)
    return total / sum(there) if any(there) else float("nan")


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_average_precision_is_its_definition(rows):
    scores, there = zip(*rows, strict=True)
    found = average_precision(
        torch.tensor(scores, dtype=torch.float32)[:, None], torch.tensor(there)[:, None]
    )
    expected = slow_average_precision(scores, there)
    assert float(found) == pytest.approx(expected, nan_ok=True)


def test_average_precision_of_a_known_order():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    tags = torch.tensor([[True], [False], [True], [False]])
    assert float(average_precision(scores, tags)) == pytest.approx((1 + 2 / 3) / 2)


def test_what_is_separable_is_told_and_chance_is_not():
    generator = torch.Generator().manual_seed(0)
    tags = torch.rand(120, 2, generator=generator) < 0.3
    features = torch.randn(120, 6, generator=generator)
    features[:, 0] += 4 * tags[:, 0]
    found = held_out(features, tags)
    above = (found.precision - found.chance) / (1 - found.chance)
    assert float(above[0]) > 0.9
    assert float(above[1]) < 0.3
    assert found.weights.shape == (FOLDS, 6, 2)
    assert float(found.chance[0]) == pytest.approx(float(tags[:, 0].float().mean()))
    assert (found.weights[:, 0, 0] > 0).all()


def test_no_image_is_judged_by_what_it_taught():
    # Each image has a feature of its own: learnt by heart it tells all, held out nothing.
    tags = torch.arange(60)[:, None] % 3 == 0
    found = held_out(torch.eye(60) * 10, tags)
    assert float(found.scores.std()) < 0.5
    assert float(found.precision) < 0.6
    assert found.fold.tolist() == [i % FOLDS for i in range(60)]


def test_classes_of_too_few_images_are_not_known():
    tags = torch.zeros(40, 3, dtype=torch.bool)
    tags[:4, 0] = True  # too few with it
    tags[4:, 1] = True
    tags[:36, 2] = True  # too few without it
    found = held_out(torch.randn(40, 3), tags)
    assert found.precision.isnan().tolist() == [True, True, True]
    assert not found.weights.isnan().any()


def test_numbers_of_images_must_agree():
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(5, 1\)"):
        held_out(torch.zeros(4, 2), torch.zeros(5, 1, dtype=torch.bool))


def test_words_are_the_nearest_centres():
    generator = torch.Generator().manual_seed(1)
    features, centres = torch.randn(5, 4, 6, generator=generator), torch.randn(7, 5)
    found = nearest_words(features, centres)
    distance = (features[None] - centres[:, :, None, None]).square().sum(dim=1)
    assert torch.equal(found, distance.argmin(dim=0))


def test_histograms_are_roots_of_shares():
    words = [torch.tensor([[0, 0], [0, 2]]), torch.tensor([1, 1, 2])]
    found = word_histograms(words, 4)
    expected = np.sqrt([[0.75, 0, 0.25, 0], [0, 2 / 3, 1 / 3, 0]])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def slow_area(own, other):
    return sum((a > b) + (a == b) / 2 for a in own for b in other) / (len(own) * len(other))


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=8),
    st.lists(st.integers(-3, 3), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_area_under_curve_is_its_definition(own, other):
    scores = torch.tensor([*own, *other], dtype=torch.float32)
    positive = torch.arange(len(scores)) < len(own)
    assert area_under_curve(scores, positive) == pytest.approx(slow_area(own, other))


def test_without_positives_nothing_is_known():
    assert area_under_curve(torch.rand(4), torch.zeros(4, dtype=torch.bool)) == 0.5


@pytest.mark.parametrize(("heads", "throws", "expected"), [(2, 2, 0.25), (1, 2, 0.75), (0, 0, 1)])
def test_sign_test_of_few_throws(heads, throws, expected):
    assert by_chance(heads, throws) == pytest.approx(expected)


def test_sign_test_of_many_throws_is_the_binomial_tail():
    assert by_chance(60, 100) == pytest.approx(0.0284, abs=1e-4)
    assert by_chance(600, 1000) < 1e-9


def test_evidence_is_parted_where_its_excess_begins():
    # Both kinds of images have as much between -1 and 1; those with the tag have more at 3.
    both = torch.linspace(-1, 1, 400)[None, None]
    excess = torch.cat([both, torch.full((1, 1, 100), 3.0)], dim=2)
    tagged = evidence_histogram(excess)[0]
    untagged = evidence_histogram(both)[0]
    threshold = excess_threshold(tagged, untagged)
    assert 0.9 < threshold <= 3
    assert float(tagged[-180:].sum()) == pytest.approx(0.2, abs=1e-4)


def test_histogram_takes_evidence_beyond_its_ends():
    histogram = evidence_histogram(torch.tensor([[[-100.0, 100.0]]]))
    assert histogram[0, 0] == histogram[0, -1] == 0.5


def test_evidence_of_coarse_words_is_laid_on_the_fine_grid():
    fine = torch.tensor([[0, 1], [1, 0]], dtype=torch.int16)
    coarse = torch.tensor([[1]], dtype=torch.int16)
    weights = torch.tensor([[1.0], [2.0], [10.0], [20.0]])  # two words of each of two stages
    assert evidence_map(weights, [fine, coarse]).tolist() == [[[21.0, 22.0], [22.0, 21.0]]]


def test_certainty_of_guessing_is_0_and_of_the_best_1():
    found = certainty(
        torch.tensor([0.2, 0.8, 0.1, float("nan")]), torch.tensor([0.2, 0.2, 0.2, 0.2]), 0.8
    )
    assert found.tolist() == pytest.approx([0, 1, 0, 0])


def test_stuff_of_its_own_is_told_apart_and_the_same_stuff_is_not():
    generator = torch.Generator().manual_seed(0)
    same = [torch.randint(0, 8, (60,), generator=generator) for _ in range(20)]
    other = [torch.randint(0, 8, (60,), generator=generator) for _ in range(20)]
    own = [torch.randint(6, 14, (60,), generator=generator) for _ in range(20)]
    assert told_apart(same, other, 16) == pytest.approx(0.5, abs=0.05)
    assert told_apart(own, other, 16) > 0.85
    assert told_apart([], [], 16) == 0.5
