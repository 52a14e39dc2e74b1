"""A stage begun again where something from outside ended it that it can do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from weakseg.faults import FileError, listed
from weakseg.runs.context import StageContext
from weakseg.runs.outside_faults import ReaderEndedError
from weakseg.runs.processes import process_count
from weakseg.types import Catalog, RunError

Result = TypeVar("Result")
Lose = Callable[[Sequence[str], str], Catalog]

MOST_LOST = 0.5
"""Share of lost images above which it is rather the disk that is gone."""


def attempted(
    work: Callable[[StageContext], Result],
    context: StageContext,
    stage: str,
    lose: Lose | None,
) -> Result:
    """Does a stage's work, again if a reading process was ended, and without images that are lost.

    Work that is begun again goes on from what it left: a checkpoint, or the images that it has not
    come to.

    Args:
        work: The stage, which raises errors as `outside_faults_told` does.
        context: What it is given.
        stage: Its name.
        lose: Called with the ids of lost images and why, records them and returns the samples that
            are left; None: lost images are an error. Several processes of a launcher never leave
            images out.

    Returns:
        What the work returned.

    Raises:
        FileError: An image is lost, and images are not left out.
        RunError: Reading processes are ended time and again, or most images are lost.
    """
    replaced = False
    while True:
        try:
            return work(context)
        except ReaderEndedError as error:
            if replaced or process_count() > 1:
                raise
            replaced = True
            context.say(f"{stage}: {error.found}; going on with new ones")
        except FileError as error:
            if lose is None or process_count() > 1:
                raise
            lost = _checked_lost(context, stage, error)
            second = context.validation
            kept = [sample.id for sample in second or () if sample.id not in lost]
            catalog = lose(lost, f"{stage}: {error.found}")
            context = replace(context, catalog=catalog, validation=second and second.subset(kept))


def _checked_lost(context: StageContext, stage: str, error: FileError) -> list[str]:
    """The images that can no longer be read, told."""
    catalog = context.catalog
    lost = list(_lost(catalog, error))
    if not lost and context.validation is not None:
        catalog = context.validation
        lost = list(_lost(catalog, error))
    if not lost:  # it is another file
        raise error
    if len(lost) > MOST_LOST * len(catalog):
        raise RunError(
            f"stage {stage!r}: {len(lost)} of {len(catalog)} images cannot be read any more, the "
            f"first is {error.path}; see that their disk is there, and give the same command again"
        ) from error
    context.say(
        f"{stage}: {len(lost)} image{'s' * (len(lost) > 1)} cannot be read any more, left out from "
        f"here on: {listed(lost)} ({error.found})"
    )
    return lost


def _lost(catalog: Catalog, error: FileError) -> Iterator[str]:
    """The image that was met, and all others that are not there."""
    if any(sample.image == error.path for sample in catalog):
        for sample in catalog:
            if sample.image == error.path or not sample.image.is_file():
                yield sample.id
