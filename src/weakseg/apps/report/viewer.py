"""The report's first part: every image with its mask, one large, all in a strip."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from weakseg.apps.report.facts import Facts
from weakseg.apps.report.pictures import Card, cards
from weakseg.runs.run_dir import VALIDATION
from weakseg.types import RunError, Sample

MORE = 600
"""Most images shown besides those that have a card of their own."""


@dataclass(frozen=True)
class Shown:
    """An image in the viewer.

    Attributes:
        key: Id of its photo in the page.
        card: Its pictures.
        split: The split it is of; empty: the source has none.
        file: Its mask, as a path below the run's folder; empty: it has none.
        stored: Whether the pictures stand in a card below; else the strip holds them.
    """

    key: str
    card: Card
    split: str
    file: str
    stored: bool


def shown_images(
    facts: Facts,
    urgent: Sequence[Card],
    usual: Sequence[Card],
    budget: int,
    advance: Callable[[], None] = lambda: None,
) -> list[Shown]:
    """All images that the page has room for: the doubtful first, then all others.

    Args:
        facts: Of a run whose stage `masks` is finished.
        urgent: Cards of the images to look at first; their photos have the ids `f1`, `f2`, …
        usual: Cards of the gallery: `g1`, `g2`, …
        budget: Most bytes of further pictures.
        advance: Called after each further image.
    """
    found: dict[str, Shown] = {}
    for letter, group in (("f", urgent), ("g", usual)):
        for number, card in enumerate(group, start=1):
            if card.id not in found:
                file = f"masks/{card.id}.png"
                found[card.id] = Shown(f"{letter}{number}", card, facts.split, file, stored=True)
    second = _validation(facts)
    rest = [sample for sample in facts.catalog if sample.id not in found]
    own = {sample.id for sample in facts.catalog}
    more = list(islice(_mixed(rest, second), MORE))
    for number, card in enumerate(cards(facts, more, {}, budget, advance, brief=True), start=1):
        trained = card.id in own
        found[card.id] = Shown(
            f"p{number}",
            card,
            facts.split if trained else facts.validation_split,
            f"{'masks' if trained else 'validate'}/{card.id}.png",
            stored=False,
        )
    return list(found.values())


def _mixed(rest: Sequence[Sample], second: Sequence[Sample]) -> Iterator[Sample]:
    """All of both, after every third of the rest one of the second split."""
    others = iter(second)
    for number, sample in enumerate(rest, start=1):
        yield sample
        if number % 3 == 0:
            yield from islice(others, 1)
    yield from others


def review_command(facts: Facts) -> str:
    """The command that opens the page on which masks are corrected."""
    return shlex.join(["weakseg", "review", str(facts.path)])


def _validation(facts: Facts) -> list[Sample]:
    """Images of the second split that have masks."""
    if not facts.has("validate"):
        return []
    try:
        catalog = facts.context.run.load_catalog(VALIDATION)
    except RunError:
        return []
    return [s for s in catalog if (facts.path / "validate" / f"{s.id}.png").is_file()]
