"""One cell of a table: the tags it lists, or the yes or no it says."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterable

_SEPARATORS = re.compile(r"[;|,]")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_YES = frozenset(("1", "1.0", "true", "yes", "y", "t", "x"))
_NO = frozenset(("0", "0.0", "false", "no", "n", "f"))


def split_tags(cell: str, separator: str | None = None) -> tuple[str, ...]:
    r"""The tags of a cell, each once, without spaces around and with single spaces inside.

    A list of Python or JSON is that list. Otherwise tags are separated by `;`, `|` or `,` where the
    cell has any of these, else by spaces.

    Args:
        cell: The cell.
        separator: What separates the tags instead; `\t` and `\n` stand for tab and line end.

    Example:
        >>> split_tags("cat dog"), split_tags("traffic light, dog"), split_tags("traffic light;")
        (('cat', 'dog'), ('traffic light', 'dog'), ('traffic light',))
        >>> split_tags("['cat', 'traffic light']"), split_tags("[]")
        (('cat', 'traffic light'), ())
    """
    text = cell.strip()
    if separator is not None:
        sign = separator.replace("\\t", "\t").replace("\\n", "\n")
        return each_once(text.split() if sign == " " else text.split(sign))
    listed = _list(text)
    if listed is not None:
        return each_once(listed)
    parts = _SEPARATORS.split(text) if _SEPARATORS.search(text) else text.split()
    return each_once(parts)


def lists_tags(cell: str) -> bool:
    """Whether a cell separates its tags by signs, so that spaces are part of names."""
    return bool(_SEPARATORS.search(cell)) or cell.strip()[:1] in _BRACKETS


def each_once(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags cleaned, without empty ones, each once, in their order."""
    return tuple(dict.fromkeys(tag for tag in map(clean, tags) if tag))


def clean(tag: str) -> str:
    """A tag in NFC, without spaces around, with single spaces inside."""
    # Only spaces and tabs: other signs that Python counts as such do not belong into a name.
    return unicodedata.normalize("NFC", re.sub(r"[ \t\u00a0]+", " ", tag.strip()))


def yes_or_no(cell: str) -> bool | None:
    """What a cell of a wide table says: 1, 1.0, True, yes; 0, 0.0, False, no; else None."""
    word = cell.strip().casefold()
    return True if word in _YES else False if word in _NO else None


def _list(text: str) -> list[str] | None:
    """The items of a list as Python, JSON, or a careless hand writes it; None if it is none."""
    if _BRACKETS.get(text[:1]) != text[-1:] or len(text) < 2:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            items = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(items, list | tuple | set) and all(isinstance(i, str | int) for i in items):
            items = sorted(items, key=str) if isinstance(items, set) else items
            return [str(item) for item in items]
        if isinstance(items, str):  # ('cat') is a text in brackets
            return [items]
        return None
    inner = [part.strip() for part in text[1:-1].split(",")]
    return [part[1:-1] if _quoted(part) else part for part in inner]


def _quoted(part: str) -> bool:
    return len(part) > 1 and part[0] == part[-1] and part[0] in "'\""
