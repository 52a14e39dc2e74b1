"""The report's page: facts, pictures and charts poured into a template."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from weakseg import progress
from weakseg.apps.report import charts, doubts, pictures, viewer
from weakseg.apps.report import score_tables as scores
from weakseg.apps.report.doubts import Survey
from weakseg.apps.report.facts import Facts, read_facts
from weakseg.files import sweep_here, write_atomic

FILE = "report.html"
_FRAME_BYTES = 600_000
"""Kept free for everything but pictures."""


def write_report(run: Path | str, *, console: Console | None = None) -> Path:
    """Writes a run's report, one page that needs nothing else and no network.

    It shows whatever stages there are. Everything in it comes from files of the run, and from the
    images and true masks that the run names.

    Args:
        run: The run's folder; need not be finished.
        console: Where to show how far it is; nowhere if None.

    Returns:
        The page, `RUN/report.html`.

    Raises:
        RunError: The folder is no run, is damaged, or cannot be written.
    """
    facts = read_facts(Path(run))
    page = render(facts, console or Console(quiet=True))
    path = facts.path / FILE
    sweep_here(facts.path)
    write_atomic(path, page.encode())
    return path


def render(facts: Facts, console: Console) -> str:
    """The page as HTML."""
    surveyed = facts.has("cams") and facts.has("masks")
    look = len(doubts.looked_at(facts)) if surveyed else 0
    shown = pictures.gallery(facts)
    most = look + len(shown) + doubts.PER_KIND * len(doubts.KINDS)
    with progress.track(console, "report", most) as advance:
        survey = doubts.survey(facts, advance) if surveyed else None
        first = survey.doubts if survey else {}
        budget = pictures.MAX_BYTES - _FRAME_BYTES
        urgent = list(
            pictures.cards(facts, [facts.catalog[key] for key in first], first, budget, advance)
        )
        budget -= sum(card.bytes for card in urgent)
        usual = list(pictures.cards(facts, shown, {}, budget, advance))
        budget -= sum(card.bytes for card in usual)
        advance(most - look - len(first) - len(shown))
    viewed = viewer.shown_images(facts, urgent, usual, budget) if facts.has("masks") else []
    script = _resource("script.js").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html")
        .render(
            facts=facts,
            survey=survey,
            kinds=doubts.KINDS,
            meanings=doubts.MEANINGS,
            urgent=urgent,
            shown_kinds={doubt.kind for card in urgent for doubt in card.doubts},
            usual=usual,
            viewed=viewed,
            review=viewer.review_command(facts),
            two_branches=any(_shows_both(card) for card in usual),
            columns=_columns([*urgent, *usual]),
            score_rows=scores.score_rows(facts),
            class_columns=scores.class_columns(facts),
            class_rows=scores.class_rows(facts),
            confusions=scores.confusions(facts.scores),
            trainings=[(log.stage, charts.training_charts(log)) for log in facts.logs],
            thresholds=_threshold_charts(facts, survey),
            threshold=facts.thresholds.get(facts.kind),
            masks=next((s for s in facts.scores if s.name == "masks"), None),
            colours={
                name: f"#{bytes(pictures.colour(k)).hex()}"
                for k, name in enumerate(facts.catalog.classes)
            },
            style=_look() + _resource("style.css"),
            script=script,
            script_digest=digest,
        )
    )


def _threshold_charts(facts: Facts, survey: Survey | None) -> list[charts.Chart]:
    found = []
    if facts.sweeps:
        found.append(charts.sweep_chart(facts.sweeps, facts.kind))
    threshold = facts.thresholds.get(facts.kind)
    if survey is not None and survey.histogram is not None and threshold is not None:
        found.append(charts.histogram_chart(survey.histogram.tolist(), threshold))
    return found


def _shows_both(card: pictures.Card) -> bool:
    return any(panel.title == "compensation" for panel in card.panels)


def _columns(shown: Sequence[pictures.Card]) -> int:
    """Pictures side by side where there is room: all of a card, or half of many."""
    most = max((len(card.panels) for card in shown), default=1)
    return max(4, most if most <= 6 else -(-most // 2))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("weakseg.apps.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration, number=number, percent=percent, few=few, name=_folder_name
    )
    return environment


def _resource(name: str) -> str:
    return resources.files("weakseg.apps.report").joinpath("templates", name).read_text("utf-8")


def _look() -> str:
    return resources.files("weakseg.apps").joinpath("look", "look.css").read_text("utf-8")


def _folder_name(path: Path) -> str:
    return path.resolve().name


def duration(seconds: float) -> str:
    """Seconds in words, as `8 min 54 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def number(value: float) -> str:
    """A number as people read it: `1,242`, `0.119`."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(value: Any) -> str:
    """A rate in 0..1 as percent with a decimal, `–` where there is none."""
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "–"
    return f"{100 * value:.1f}"


def few(value: float) -> str:
    """A rate in 0..1 as whole percent; `<1` for the smallest."""
    return "<1" if 0 < value < 0.005 else f"{100 * value:.0f}"
