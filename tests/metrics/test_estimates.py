"""How good masks are likely to be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.metrics.estimates import (
    DEVIATION,
    Estimate,
    MaskCounts,
    estimated,
    mean_estimate,
    sureness,
)

GOOD = {"strict": 80.0, "wide": 100.0, "score": 81.0, "pixels": 90.0, "images": 4}


def test_sureness_by_hand():
    assert sureness(MaskCounts(**GOOD)) == pytest.approx(0.8 * 0.9)
    assert sureness(MaskCounts(**GOOD), 0.25) == pytest.approx(0.8 * 0.9 * 0.75)
    assert sureness(MaskCounts(**GOOD), 0.25, 0.75) == pytest.approx(0.8 * 0.9 * 0.75 / 2)
    assert sureness(MaskCounts(**GOOD), 0.25, 0.3) == 0
    assert sureness(MaskCounts(**GOOD, whole=1)) == pytest.approx(0.8 * 0.9 * 0.75)


@pytest.mark.parametrize("counts", [MaskCounts(), MaskCounts(**GOOD, whole=4)])
def test_masks_of_nothing_or_of_everything_are_not_sure_at_all(counts):
    assert sureness(counts) == 0
    assert estimated(0).value == 0


def test_counts_add_up():
    total = MaskCounts()
    for _ in range(2):
        total += MaskCounts(**GOOD, whole=1)
    assert total == MaskCounts(**{key: 2 * value for key, value in GOOD.items()}, whole=2)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_surer_the_better_and_never_beyond_the_possible(one, other):
    low, high = (estimated(own) for own in sorted((one, other)))
    assert 0 <= low.value <= high.value <= 1
    for own in (low, high):
        assert 0 <= own.low <= own.value <= own.high <= 1
        assert own.high - own.low <= 2 * DEVIATION + 1e-9
        assert not math.isnan(own.value)


def test_the_mean_of_a_data_set():
    assert mean_estimate([]) is None
    found = mean_estimate([Estimate(0.2, 0.1, 0.3), Estimate(0.6, 0.5, 0.7)])
    assert found == Estimate(pytest.approx(0.4), pytest.approx(0.3), pytest.approx(0.5))
    assert str(found) == "about 40%, likely 30% to 50%"
