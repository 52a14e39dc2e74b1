"""Line charts as geometry in percent of the plot, for a template to draw at any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from weakseg.apps.report.facts import TrainingLog
from weakseg.apps.report.readings import Sweep

_POINTS = 40
"""Most points of a training's curve: each is the mean of as many steps as that takes."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A value on an axis: where (percent from left or bottom), and as text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: For the legend.
        series: Number of its colour, from 0.
        path: SVG path in 0..100, y downwards.
        band: SVG path of the spread around it; empty if there is none.
        filled: Whether the area below is tinted.
        minor: Whether it is drawn thinner than the others.
    """

    name: str
    series: int
    path: str
    band: str = ""
    filled: bool = False
    minor: bool = False


@dataclass(frozen=True)
class Mark:
    """A point worth a remark: percent from left and bottom.

    Attributes:
        x: From the left.
        y: From the bottom; None: a line across the whole height, without a dot.
        text: The remark; empty: only a dot.
        series: Number of its colour.
        hollow: Whether it is drawn as a ring.
    """

    x: float
    y: float | None
    text: str
    series: int
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Attributes:
        title: What it shows.
        told: The same for those who cannot see it, with the values that matter.
        x_name: What is across.
        x_ticks: Across.
        y_ticks: Upwards.
        lines: The curves.
        marks: Points worth a remark.
    """

    title: str
    told: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()


class Axis:
    """From values to percent of the plot.

    Args:
        low: Value at 0 percent.
        high: Value at 100 percent, if it is greater.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0

    def at(self, value: float) -> float:
        """Percent of the plot, within 0..100."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def ticks(self, count: int = 5) -> tuple[Tick, ...]:
        """About so many round values."""
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(Tick(self.at(k * step), f"{k * step:,.6g}") for k in range(first, last + 1))


def training_charts(log: TrainingLog) -> list[Chart]:
    """Losses and learning rate of a training."""
    x = Axis(0, log.steps[-1])
    charts = []
    if log.losses:
        charts.append(_loss_chart(log, x))
    rates = [(s, r) for s, r in zip(log.steps, log.rates, strict=False) if math.isfinite(r)]
    if rates:
        rates = _thinned(rates)
        y = Axis(0, max(rate for _, rate in rates))
        told = f"Learning rate of {log.stage}: highest {max(r for _, r in rates):.4g}."
        line = Line("learning rate", 1, _path(rates, x, y))
        charts.append(Chart("Learning rate", told, "step", x.ticks(), y.ticks(4), (line,)))
    return charts


def _loss_chart(log: TrainingLog, x: Axis) -> Chart:
    binned = {name: _binned(log.steps, values) for name, values in log.losses.items()}
    binned = {name: rows for name, rows in binned.items() if rows}
    tops = [mean for rows in binned.values() for _, mean, _, _ in rows]
    main = next(iter(binned))
    spread = sorted(high for _, _, _, high in binned[main])
    # One wild step must not flatten all the others.
    y = Axis(min(0.0, *tops), max(*tops, spread[int(0.95 * (len(spread) - 1))]))
    lines = tuple(
        Line(
            name.replace("_", " "),
            series,
            _path([(step, mean) for step, mean, _, _ in rows], x, y),
            _band(rows, x, y) if name == main else "",
            minor=name != main,
        )
        for series, (name, rows) in enumerate(binned.items())
    )
    first, last = binned[main][0][1], binned[main][-1][1]
    told = f"Loss of {log.stage}: from {first:.3g} to {last:.3g} in {log.steps[-1]:.0f} steps."
    return Chart("Loss", told, "step", x.ticks(), y.ticks(4), lines)


def sweep_chart(sweeps: Sequence[Sweep], used: str) -> Chart:
    """Score against threshold, of each kind of map.

    Args:
        sweeps: At least one.
        used: The kind that the masks are made of; its chosen threshold gets a line.
    """
    curves = [
        [(t, v) for t, v in zip(s.thresholds, s.mean_iou, strict=True) if math.isfinite(v)]
        for s in sweeps
    ]
    x, y = Axis(0, 1), Axis(0, max((v for curve in curves for _, v in curve), default=1) * 1.12)
    lines, marks, told = [], [], []
    for series, (sweep, curve) in enumerate(zip(sweeps, curves, strict=True)):
        lines.append(Line(sweep.kind, series, _path(curve, x, y)))
        if sweep.best:
            marks.append(Mark(x.at(sweep.best[0]), y.at(sweep.best[1]), "", series, hollow=True))
        if sweep.chosen:
            at, score = sweep.chosen
            if sweep.kind == used:
                marks.append(Mark(x.at(at), None, f"chosen: {at:.2f}", series))
            marks.append(Mark(x.at(at), y.at(score), "", series))
            told.append(f"{sweep.kind} {100 * score:.1f} percent at the chosen {at:.2f}")
    return Chart(
        "mIoU against threshold",
        f"Score against threshold: {'; '.join(told) or 'none chosen'}.",
        "threshold",
        x.ticks(),
        tuple(Tick(tick.at, f"{100 * float(tick.text):.0f} %") for tick in y.ticks(4)),
        tuple(lines),
        tuple(marks),
    )


def histogram_chart(shares: Sequence[float], threshold: float) -> Chart:
    """How many places have which score, on a scale of roots, and the chosen threshold.

    Args:
        shares: Of equal bins of 0..1, summing to 1.
        threshold: The chosen one.
    """
    wide = _merged(shares, 64)
    x, y = Axis(0, 1), Axis(0, math.sqrt(max(wide, default=1)))
    curve = [((k + 0.5) / len(wide), math.sqrt(share)) for k, share in enumerate(wide)]
    background = sum(s for k, s in enumerate(shares) if (k + 0.5) / len(shares) < threshold)
    told = f"{100 * background:.0f} percent of all places score below the threshold {threshold:.2f}"
    return Chart(
        "How many places score how high",
        f"{told} and become background.",
        "score",
        x.ticks(),
        (),
        (Line("share of places", 0, _path(curve, x, y), filled=True),),
        (Mark(x.at(threshold), None, f"chosen: {threshold:.2f}", 0),),
    )


def _merged(shares: Sequence[float], most: int) -> list[float]:
    size = max(1, len(shares) // most)
    return [sum(shares[k : k + size]) for k in range(0, len(shares), size)]


def _binned(steps: Sequence[float], values: Sequence[float]) -> list[tuple[float, ...]]:
    """Step, mean, lowest and highest of at most `_POINTS` equal runs of steps."""
    size = -(-len(values) // _POINTS)
    rows: list[tuple[float, ...]] = []
    for k in range(0, len(values), size):
        part = [value for value in values[k : k + size] if math.isfinite(value)]
        if part:
            middle = steps[min(k + size // 2, len(steps) - 1)]
            rows.append((middle, sum(part) / len(part), min(part), max(part)))
    return rows


def _thinned(points: Points, most: int = 400) -> list[tuple[float, float]]:
    size = -(-len(points) // most)
    return [*points[:-1:size], points[-1]]


def _path(points: Points, x: Axis, y: Axis) -> str:
    return "M" + "L".join(f"{x.at(a)} {100 - y.at(b):.2f}" for a, b in points) if points else ""


def _band(rows: Sequence[tuple[float, ...]], x: Axis, y: Axis) -> str:
    there = [(step, high) for step, _, _, high in rows]
    back = [(step, low) for step, _, low, _ in reversed(rows)]
    return _path([*there, *back], x, y) + "Z"
