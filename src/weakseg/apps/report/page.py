"""The report's page: facts, pictures and charts poured into a template."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from weakseg import progress
from weakseg.apps.report import charts, doubts, pictures, viewer
from weakseg.apps.report import score_tables as scores
from weakseg.apps.report.doubts import Survey
from weakseg.apps.report.facts import Facts, read_facts
from weakseg.apps.report.joined_script import joined_script, resource
from weakseg.apps.report.pictures import Card
from weakseg.files import sweep_here, write_atomic
from weakseg.runs.corrections import NO_CORRECTIONS, read_corrections
from weakseg.runs.review_dir import REVIEW

FILE = "report.html"
_FRAME_BYTES = 600_000
"""Kept free for everything but pictures."""

_STYLES = ("look/look.css", "look/viewer.css", "report/templates/style.css")
_SCRIPTS = (
    "look/view.js",
    "look/pointers.js",
    "look/queue_list.js",
    "look/keys.js",
    "look/about.js",
    "report/templates/archive.js",
    "report/templates/viewer.js",
    "report/templates/script.js",
)


def write_report(run: Path | str, *, console: Console | None = None) -> Path:
    """Writes a run's report, a page that needs no network, opened from the disk.

    Pictures that it has no room for lie in the folder `RUN/report` beside it. It shows whatever
    stages there are. Everything in it comes from files of the run, and from the images and true
    masks that the run names.

    Args:
        run: The run's folder; need not be finished.
        console: Where to show how far it is; nowhere if None.

    Returns:
        The page, `RUN/report.html`.

    Raises:
        RunError: The folder is no run, is damaged, or cannot be written.
    """
    facts = read_facts(Path(run))
    sweep_here(facts.path)
    page, beside = render(facts, console or Console(quiet=True))
    path = facts.path / FILE
    write_atomic(path, page.encode())
    viewer.remove_others(facts.path, beside)
    return path


def render(facts: Facts, console: Console) -> tuple[str, str]:
    """The page as HTML, and the folder of pictures that it has no room for, if there is one."""
    surveyed = facts.has("cams") and facts.has("masks")
    corrections = read_corrections(facts.path, facts.catalog) or NO_CORRECTIONS
    look = len(doubts.looked_at(facts)) if surveyed else 0
    shown = pictures.gallery(facts)
    most = look + len(shown) + doubts.PER_KIND * len(doubts.KINDS)
    if facts.has("masks"):
        most += viewer.to_draw(facts, len(shown))
    with progress.track(console, "report", most) as shown_progress:
        left = most

        def advance() -> None:
            nonlocal left
            left -= 1
            shown_progress()

        survey = doubts.survey(facts, advance) if surveyed else None
        first = survey.doubts if survey else {}
        chosen = [facts.catalog[key] for key in first]
        budget = pictures.MAX_BYTES - _FRAME_BYTES
        draw = partial(pictures.cards, facts, advance=advance, corrections=corrections)
        urgent = list(draw(chosen, first, budget))
        budget -= sum(card.bytes for card in urgent)
        usual = list(draw(shown, {}, budget))
        budget -= sum(card.bytes for card in usual)
        viewed = None
        if facts.has("masks"):
            carded = _carded(urgent, usual)
            viewed = viewer.make_viewer(
                facts, survey, corrections, carded, budget=budget, advance=advance
            )
        shown_progress(max(0, left))
    script = joined_script(_SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = (
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
            corrected=corrections.since(facts.path / "masks"),
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
            reviewed=bool(viewed) and (facts.path / REVIEW).is_dir(),
            icons=resource("look/icons.svg").strip(),
            style="".join(map(resource, _STYLES)),
            script=script,
            script_digest=digest,
        )
    )
    return page, viewed.beside if viewed else ""


def _carded(urgent: Sequence[Card], usual: Sequence[Card]) -> dict[str, str]:
    """By image, the id of its photo in the page: `f1`, `f2`, … and `g1`, `g2`, … of the gallery."""
    found: dict[str, str] = {}
    for letter, group in (("f", urgent), ("g", usual)):
        for number, card in enumerate(group, start=1):
            found.setdefault(card.id, f"{letter}{number}")
    return found


def _threshold_charts(facts: Facts, survey: Survey | None) -> list[charts.Chart]:
    found = []
    if facts.sweeps:
        found.append(charts.sweep_chart(facts.sweeps, facts.kind))
    threshold = facts.thresholds.get(facts.kind)
    if survey is not None and survey.histogram is not None and threshold is not None:
        found.append(charts.histogram_chart(survey.histogram.tolist(), threshold))
    return found


def _shows_both(card: Card) -> bool:
    return any(panel.title == "compensation" for panel in card.panels)


def _columns(shown: Sequence[Card]) -> int:
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
