"""Spaces around tags: which are a file's habit, and which are stray."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_SEPARATORS = re.compile(r"(\s*)[;|](\s*)")


def stray(cells: Sequence[str]) -> list[int]:
    """Cells whose spaces are not as in most cells.

    Spaces before and behind the tags, on either side of `;` and `|`, and between tags that only
    spaces separate are compared each with the most frequent ones in that place; of equally frequent
    ones the shorter are taken for the habit.

    Args:
        cells: Cells of tags.

    Returns:
        Positions of the cells that differ.

    Example:
        >>> stray(["cat; dog", "cat;dog", "dog; cow", "cow "])
        [1, 3]
    """
    places = [_blanks(cell) if cell.strip() else [] for cell in cells]
    counts: dict[str, Counter[str]] = {}
    for found in places:
        for place, spaces in found:
            counts.setdefault(place, Counter())[spaces] += 1
    habit = {
        place: min(count, key=lambda b: (-count[b], len(b), b)) for place, count in counts.items()
    }
    return [
        position
        for position, found in enumerate(places)
        if any(spaces != habit[place] for place, spaces in found)
    ]


def _blanks(cell: str) -> list[tuple[str, str]]:
    """The spaces of a cell that say nothing: pairs of place and spaces."""
    inner = cell.strip()
    start = len(cell) - len(cell.lstrip())
    found = [("before", cell[:start]), ("behind", cell[start + len(inner) :])]
    if re.search(r"[;|]", inner):
        for match in _SEPARATORS.finditer(inner):
            found.append(("left", match[1]))
            if match.end() < len(inner):
                found.append(("right", match[2]))
    else:
        found += [("between", spaces) for spaces in re.findall(r"\s+", inner)]
    return found
