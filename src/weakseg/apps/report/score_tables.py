"""Scores as tables for people: overview, classes, confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weakseg.apps.report.facts import Facts
from weakseg.apps.report.readings import Score

MOST_LABELS = 24
"""Most labels of a confusion matrix; of more, those that are mixed up most."""

MOST_MIX_UPS = 8
"""How many confusions are told in words."""

_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class MixUp:
    """Pixels of one label taken for another: names and share of the true label's pixels, 0..1."""

    truth: str
    found: str
    share: float


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix to look at.

    Attributes:
        name: What was scored.
        labels: Names, across and down.
        rows: Share of each true label's pixels by what they were found to be; None: no pixels.
        hidden: How many labels are left out.
        mix_ups: The greatest confusions.
    """

    name: str
    labels: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    hidden: int
    mix_ups: tuple[MixUp, ...]


@dataclass(frozen=True)
class ScoreRow:
    """A score, and the one of the same maps at the threshold that is best by the truth."""

    score: Score
    best: Score | None


@dataclass(frozen=True)
class ClassRow:
    """A class: its name, how many images bear it, its IoU in each column of the table."""

    name: str
    images: int | None
    iou: tuple[float | None, ...]


def score_rows(facts: Facts) -> list[ScoreRow]:
    """A row per thing that was scored."""
    by_place = {(score.stage, score.place): score for score in facts.scores}
    rows = []
    for score in facts.scores:
        key = (score.stage, score.place[:-1])
        if not score.oracle:
            rows.append(ScoreRow(score, by_place.get((key[0], (*key[1], "oracle")))))
        elif (key[0], (*key[1], "blind")) not in by_place:
            rows.append(ScoreRow(score, None))
    return rows


def class_columns(facts: Facts) -> list[Score]:
    """The scores shown per class: those that needed no truth to come about."""
    return [score for score in facts.scores if not score.oracle]


def class_rows(facts: Facts) -> list[ClassRow]:
    """A row per class, background last."""
    columns = class_columns(facts)
    rows = [
        ClassRow(name, images, tuple(score.iou.get(name) for score in columns))
        for name, images in zip(facts.catalog.classes, facts.tagged, strict=True)
    ]
    others = dict.fromkeys(name for score in columns for name in score.iou)
    for name in others:
        if name not in facts.catalog.classes:
            rows.append(ClassRow(name, None, tuple(score.iou.get(name) for score in columns)))
    return rows


def confusions(scores: Sequence[Score]) -> list[Confusion]:
    """All confusion matrices that were kept."""
    return [_confusion(score) for score in scores if score.confusion]


def _confusion(score: Score) -> Confusion:
    counts = score.confusion or []
    labels = score.labels
    sums = [sum(row) for row in counts]
    shares = [
        [count / total if total else None for count in row]
        for row, total in zip(counts, sums, strict=True)
    ]
    wrong = [
        MixUp(labels[i], labels[j], share)
        for i, row in enumerate(shares)
        for j, share in enumerate(row)
        if i != j and share is not None and share >= _LEAST_SHARE
    ]
    wrong.sort(key=lambda mix: -mix.share)
    shown = _most_mixed(shares)
    return Confusion(
        score.name,
        tuple(labels[k] for k in shown),
        tuple(tuple(shares[i][j] for j in shown) for i in shown),
        len(labels) - len(shown),
        tuple(wrong[:MOST_MIX_UPS]),
    )


def _most_mixed(shares: Sequence[Sequence[float | None]]) -> list[int]:
    """Background and the labels of which most is taken for others, in their order."""
    right = [row[k] for k, row in enumerate(shares)]
    order = sorted(
        range(1, len(shares)), key=lambda k: 2.0 if right[k] is None else right[k] or 0.0
    )
    return [0, *sorted(order[: MOST_LABELS - 1])]
