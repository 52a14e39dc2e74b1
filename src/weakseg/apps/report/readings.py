"""Scores and threshold sweeps as `metrics.json` files tell them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True)
class Score:
    """How well something fits the truth; rates in 0..1, None where there is nothing.

    Attributes:
        stage: Whose `metrics.json`.
        place: Where in it, as `("maps", "weighted", "blind")`.
        name: What was scored, in words.
        values: `threshold`, `mean_iou`, `mean_precision`, …
        iou: Per label.
        confusion: Pixels [C][C], truth down, found across; None if not kept.
        labels: The C labels' names, background first.
    """

    stage: str
    place: tuple[str, ...]
    name: str
    values: Mapping[str, float | None]
    iou: Mapping[str, float | None]
    confusion: Sequence[Sequence[int]] | None
    labels: tuple[str, ...]

    @property
    def oracle(self) -> bool:
        """Whether its threshold was chosen by looking at the truth."""
        return self.place[-1:] == ("oracle",)


@dataclass(frozen=True)
class Sweep:
    """Scores of one kind of maps at every threshold.

    Attributes:
        kind: `spotlight`, `compensation` or `weighted`.
        thresholds: Ascending [T].
        mean_iou: [T] in 0..1; NaN where there is nothing.
        chosen: The threshold chosen without truth and its score; None if there is none.
        best: The threshold that is best by the truth, and its score.
    """

    kind: str
    thresholds: tuple[float, ...]
    mean_iou: tuple[float, ...]
    chosen: tuple[float, float] | None
    best: tuple[float, float] | None


def scores_in(
    stage: str, value: Any, place: tuple[str, ...], labels: tuple[str, ...]
) -> Iterator[Score]:
    """All scores in a `metrics.json`, wherever they are in it.

    Args:
        stage: Whose file.
        value: The file, or a part of it.
        place: Where in it the part is.
        labels: The labels' names, background first; empty: as the scores tell.
    """
    if not isinstance(value, dict):
        return
    if is_number(value.get("mean_iou")) and isinstance(value.get("iou"), dict):
        yield Score(
            stage,
            place,
            _score_name(stage, place),
            {key: item if is_number(item) else None for key, item in value.items()},
            value["iou"],
            value.get("confusion"),
            labels or tuple(value["iou"]),
        )
    for key, item in value.items():
        yield from scores_in(stage, item, (*place, str(key)), labels)


def _score_name(stage: str, place: tuple[str, ...]) -> str:
    match place:
        case ("maps", kind, "blind"):
            return f"{kind} maps"
        case ("maps", kind, "oracle"):
            return f"{kind} maps, best threshold by truth"
        case _:
            words = " ".join(place).replace("_", " ")
            return words if stage == "evaluate" and words else f"{stage} {words}".strip()


def sweeps_in(maps: Mapping[str, Any]) -> Iterator[Sweep]:
    """The threshold sweeps of each kind of map in the stage `evaluate`'s `metrics.json`."""
    for kind, record in maps.items():
        curve = record.get("curve") or {}
        if curve.get("threshold"):
            yield Sweep(
                str(kind),
                tuple(map(number_or_nan, curve["threshold"])),
                tuple(map(number_or_nan, curve["mean_iou"])),
                _point(record.get("blind")),
                _point(record.get("oracle")),
            )


def _point(record: Mapping[str, Any] | None) -> tuple[float, float] | None:
    if not record or not all(is_number(record.get(key)) for key in ("threshold", "mean_iou")):
        return None
    return float(record["threshold"]), float(record["mean_iou"])


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number_or_nan(value: object) -> float:
    """A number of a JSON file; NaN for anything else."""
    return float(value) if isinstance(value, (int, float)) else math.nan
