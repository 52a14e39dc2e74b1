"""A run's samples on their way to other processes: rows that JSON holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weakseg.types import Sample


def rows_of_samples(samples: Iterable[Sample]) -> list[list[Any]]:
    """A row per sample, to be read by `samples_of_rows` in any folder: paths become absolute.

    Args:
        samples: A run's: their truth, if it is known, is a mask.

    Example:
        >>> rows_of_samples([Sample("a", Path("/photos/a.png"), frozenset({2, 0}))])
        [['a', '/photos/a.png', [0, 2], None, False]]
    """
    return [
        [
            sample.id,
            str(sample.image.absolute()),
            sorted(sample.tags),
            None if sample.mask is None else str(sample.mask.absolute()),
            sample.ignore_alpha,
        ]
        for sample in samples
    ]


def samples_of_rows(rows: Iterable[list[Any]]) -> list[Sample]:
    """The samples that `rows_of_samples` was given."""
    return [
        Sample(
            name, Path(image), frozenset(tags), mask=mask and Path(mask), ignore_alpha=ignore_alpha
        )
        for name, image, tags, mask, ignore_alpha in rows
    ]
