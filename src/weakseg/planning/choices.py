"""A setting that a plan chose, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from weakseg.config.layers import Layer


@dataclass(frozen=True)
class Choice:
    """A setting and the reason for it.

    Attributes:
        setting: Its key, as `fit.steps`.
        value: Its value, as JSON and YAML hold it.
        why: The reason, a sentence.
    """

    setting: str
    value: Any
    why: str


def as_layer(choices: Iterable[Choice], place: str) -> Layer:
    """The choices as nested settings, to be laid under others.

    Args:
        choices: Of each setting the last one counts.
        place: What to call them in an error, as `plan.yaml`.
    """
    nested: dict[str, Any] = {}
    for choice in choices:
        *sections, name = choice.setting.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = choice.value
    return Layer(nested, place)
