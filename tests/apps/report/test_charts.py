import math

import pytest

from weakseg.apps.report.charts import Axis, histogram_chart, sweep_chart, training_charts
from weakseg.apps.report.facts import TrainingLog
from weakseg.apps.report.readings import Sweep


def points(path):
    return [tuple(map(float, pair.split())) for pair in path.strip("MZ").split("L")]


def test_an_axis_goes_from_0_to_100_and_has_round_ticks():
    axis = Axis(0, 0.7)
    assert [axis.at(v) for v in (0, 0.35, 0.7, 9, -1)] == [0, 50, 100, 100, 0]
    assert [tick.text for tick in axis.ticks(4)] == ["0", "0.2", "0.4", "0.6"]
    assert [tick.text for tick in Axis(0, 30_000).ticks(3)] == ["0", "10,000", "20,000", "30,000"]
    assert Axis(2, 2).at(2) == 0


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_losses_are_means_over_equal_runs_of_steps(steps):
    values = tuple(float(s % 2) for s in range(steps))
    log = TrainingLog("classify", tuple(range(1, steps + 1)), {"loss": values}, ())
    (chart,) = training_charts(log)
    drawn = points(chart.lines[0].path)
    assert len(drawn) <= 40
    assert all(0 <= value <= 100 for pair in drawn for value in pair)
    if steps == 1000:  # every run of 25 holds as many zeros as ones, but for one
        assert all(y == pytest.approx(100 - 50, abs=3) for _, y in drawn)
        assert min(y for _, y in points(chart.lines[0].band)) == 0


def test_a_loss_that_is_missing_or_no_number_leaves_a_gap_not_a_crash():
    log = TrainingLog(
        "relate", (1, 2, 3), {"loss": (1.0, math.nan, 0.5), "far": (math.nan,) * 3}, (0.1,) * 3
    )
    loss, rate = training_charts(log)
    assert [line.name for line in loss.lines] == ["loss"]
    assert len(points(loss.lines[0].path)) == 2
    assert rate.told == "Learning rate of relate: highest 0.1."


def test_the_chosen_threshold_of_the_masks_maps_is_marked():
    curve = {"thresholds": (0.0, 0.5, 1.0), "mean_iou": (0.1, 0.5, math.nan)}
    sweeps = [
        Sweep("spotlight", **curve, chosen=(0.4, 0.45), best=(0.5, 0.5)),
        Sweep("weighted", **curve, chosen=(0.25, 0.3), best=(0.5, 0.5)),
    ]
    chart = sweep_chart(sweeps, "weighted")
    (rule,) = [mark for mark in chart.marks if mark.y is None]
    assert (rule.x, rule.text, rule.series) == (25, "chosen: 0.25", 1)
    assert [mark.x for mark in chart.marks if mark.hollow] == [50, 50]
    assert len(points(chart.lines[1].path)) == 2
    assert "weighted 30.0 percent at the chosen 0.25" in chart.told


def test_the_histogram_tells_what_becomes_background():
    chart = histogram_chart([0.75] + [0.0] * 254 + [0.25], 0.5)
    assert chart.told.startswith("75 percent of all places score below the threshold 0.50")
    assert chart.marks[0].x == 50
    heights = [100 - y for _, y in points(chart.lines[0].path)]
    assert heights[0] == 100
    assert heights[-1] == pytest.approx(100 / math.sqrt(3), abs=0.1)
