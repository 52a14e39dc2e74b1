"""A plan made to fit a number of minutes: what costs quality least goes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weakseg.planning.choices import Choice
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.size_rules import SIDES, SMALLEST_SIDE, size_choices
from weakseg.types import ConfigError

_TRAININGS = ("fit", "recalibrate.fit", "relate.fit", "segment.fit")


def fitted(
    choices: Sequence[Choice],
    facts: DataFacts,
    minutes: float,
    expected: Callable[[Sequence[Choice]], float],
) -> tuple[list[Choice], list[str]]:
    """The choices, cut down step by step until the run is expected to fit.

    Args:
        choices: What would be chosen without haste.
        facts: The data.
        minutes: What there is.
        expected: Minutes that a run with such choices takes.

    Returns:
        The choices, and what was cut, in words.

    Raises:
        ConfigError: Nothing fits.
    """
    now, cut = list(choices), list[str]()
    if expected(now) <= minutes:
        return now, cut
    for told, smaller in _cuts(facts, f"to fit {minutes:g} minutes"):
        changed = smaller(now)
        if changed is None:
            continue
        now = changed
        cut.append(told)
        if expected(now) <= minutes:
            return now, cut
    shortest = expected(now)
    raise ConfigError(
        f"no plan fits {minutes:g} minutes: the shortest takes about {shortest:.1f} on this "
        f"machine, for {facts.images} images; give --minutes {_ceiling(shortest)}, or fewer images"
    )


_Cut = Callable[[list[Choice]], list[Choice] | None]


def _cuts(facts: DataFacts, why: str) -> list[tuple[str, _Cut]]:
    """What can be cut, in the order in which it costs quality."""
    return [
        ("maps are spread at one scale", lambda now: _with(now, "spread.scales", [1.0], why)),
        ("maps are taken at one scale", lambda now: _with(now, "cams.scales", [1.0], why)),
        ("the size is one step smaller", lambda now: _smaller(now, facts, why)),
        ("three quarters of the steps", lambda now: _shorter(now, 3, 4, why)),
        ("half of the steps", lambda now: _shorter(now, 2, 3, why)),
        ("the size is another step smaller", lambda now: _smaller(now, facts, why)),
        ("a quarter of the steps", lambda now: _shorter(now, 1, 2, why)),
    ]


def _with(now: list[Choice], key: str, value: object, why: str) -> list[Choice]:
    return [*(own for own in now if own.setting != key), Choice(key, value, why)]


def _smaller(now: list[Choice], facts: DataFacts, why: str) -> list[Choice] | None:
    """At the next smaller working size; None if there is none."""
    values = {own.setting: own.value for own in now}
    sides = [side for side in (SMALLEST_SIDE, *SIDES) if side < values["cams.long_side"]]
    if not sides:
        return None
    chosen = size_choices(sides[-1], facts, why)
    keys = {own.setting for own in chosen}
    return [*chosen, *(own for own in now if own.setting not in keys)]


def _shorter(now: list[Choice], part: int, of: int, why: str) -> list[Choice]:
    """With a part of the steps of every training."""
    keys = {f"{section}.{name}" for section in _TRAININGS for name in ("steps", "least_steps")}
    return [
        Choice(own.setting, max(1, own.value * part // of), why) if own.setting in keys else own
        for own in now
    ]


def _ceiling(minutes: float) -> int:
    return int(-(-minutes // 1)) + 1
