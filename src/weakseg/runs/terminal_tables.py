"""Scores as tables for a terminal, made from what stages write to `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

Rates = Mapping[str, float | None]
"""Rates in 0..1 by the name of a label; None where there is nothing."""


def class_table(columns: Mapping[str, Rates], title: str = "") -> Table:
    """A table with a row per label and one of means, in percent.

    Args:
        columns: Heading and rates, all of the same labels.
        title: Above the table.
    """
    table = Table(title=title or None, title_justify="left")
    table.add_column("class")
    for heading in columns:
        table.add_column(heading, justify="right")
    names = list(next(iter(columns.values())))
    for name in names:
        cells = (percent(rates[name]) for rates in columns.values())
        table.add_row(Text(name), *cells, end_section=name == names[-1])
    table.add_row("mean", *(percent(_mean(rates)) for rates in columns.values()))
    return table


def mask_table(record: Mapping[str, Any], title: str = "") -> Table:
    """The scores of masks, label by label.

    Args:
        record: What `Scores.to_json` gives.
        title: Above the table.
    """
    columns = {"IoU": record["iou"], "precision": record["precision"], "recall": record["recall"]}
    if "boundary_iou" in record:
        columns["boundary IoU"] = record["boundary_iou"]
    table = class_table(columns, title)
    table.caption = _near_contours(record)
    return table


def evaluation_tables(record: Mapping[str, Any]) -> Iterator[Table]:
    """The scores of a run's maps and masks: one table of means, one of IoU per class.

    Args:
        record: The `metrics.json` of the stage `evaluate`.
    """
    masks, maps = record["masks"], record["maps"]
    images = f"{record['images']} image{'s' if record['images'] != 1 else ''} with truth"
    table = Table(title=f"Scores in percent, {images}", title_justify="left")
    table.add_column("")
    for heading in ("oracle mIoU @ thr", "blind mIoU @ thr", "precision", "recall"):
        table.add_column(heading, justify="right")
    per_class: dict[str, Rates] = {}
    for name, points in maps.items():
        used = points["blind"] or points["oracle"]
        cells = (_at_threshold(points[kind]) for kind in ("oracle", "blind"))
        table.add_row(name, *cells, percent(used["mean_precision"]), percent(used["mean_recall"]))
        per_class[name if points["blind"] else f"{name} (oracle)"] = used["iou"]
    rates = (percent(masks[f"mean_{kind}"]) for kind in ("iou", "precision", "recall"))
    table.add_row("masks", "", *rates)
    yield table
    per_class["masks"] = masks["iou"]
    if "boundary_iou" in masks:
        per_class["masks, boundary"] = masks["boundary_iou"]
    classes = class_table(per_class, "IoU per class, at the blind threshold")
    classes.caption = _near_contours(masks)
    yield classes


def map_table(metrics: Mapping[str, Any]) -> Table | None:
    """The mean IoU of a run's maps and masks; None where no map was scored.

    Args:
        metrics: What the stage `evaluate` returned.
    """
    maps: Mapping[str, Any] = metrics.get("maps") or {}
    if not maps:
        return None
    table = Table(title="mIoU in percent", title_justify="left")
    table.add_column("")
    for heading in ("oracle", "blind"):
        table.add_column(heading, justify="right")
    for name, points in maps.items():
        table.add_row(name, *oracle_and_blind(points))
    table.add_row("masks", "", percent((metrics.get("masks") or {}).get("mean_iou")))
    return table


def oracle_and_blind(points: Mapping[str, Any]) -> Iterator[str]:
    """The mean IoU of maps at the best threshold and at the one chosen without truth, in percent.

    Args:
        points: Of one kind of map; a point that was not scored may be missing.
    """
    for kind in ("oracle", "blind"):
        yield percent((points.get(kind) or {}).get("mean_iou"))


def percent(value: float | None) -> str:
    """A rate in 0..1 as percent, `–` where there is none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _mean(rates: Rates) -> float | None:
    known = [rate for rate in rates.values() if rate is not None]
    return sum(known) / len(known) if known else None


def _near_contours(record: Mapping[str, Any]) -> str | None:
    bands: Mapping[str, float | None] = record.get("trimap_mean_iou") or {}
    if not bands:
        return None
    return "mIoU near contours: " + ", ".join(f"{w} px {percent(v)}" for w, v in bands.items())


def _at_threshold(point: Mapping[str, Any] | None) -> str:
    return f"{percent(point['mean_iou'])} @ {point['threshold']:.2f}" if point else "–"
