"""The source of a run: read, checked unless it was before, without its bad images if asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Unpack

from rich.console import Console

from weakseg.faults import FaultsFoundError
from weakseg.progress import counted
from weakseg.runs.contents import Contents, catalog_digest, truth_digest
from weakseg.runs.run_dir import CATALOG, RunDir
from weakseg.runs.stage_dir import fingerprint_hash
from weakseg.sources.check import CheckReport, check_source
from weakseg.sources.check import skip_bad as without_bad
from weakseg.sources.class_counts import COUNT_KINDS
from weakseg.sources.reading import ReadingOptions
from weakseg.sources.source import Source, read_source
from weakseg.types import Catalog, DataError


class CheckedSource(NamedTuple):
    """What a run begins with.

    Attributes:
        catalog: The samples to use.
        skipped: Ids of those left out because they are bad, sorted.
        checked: A hash of all that was checked, by which an unchanged source is known again; empty
            if something cannot even be found.
    """

    catalog: Catalog
    skipped: list[str]
    checked: str


def checked_source(
    source: Path | str,
    folder: RunDir,
    contents: Contents,
    *,
    kind: str | None,
    split: str | None,
    skip_bad: bool,
    console: Console,
    name: str = CATALOG,
    **reading: Unpack[ReadingOptions],
) -> CheckedSource:
    """Reads a source and checks it, unless that was done for this run and nothing has changed.

    Args:
        source: A folder, a tags file or a COCO JSON.
        folder: The run's folder, which need not be there.
        contents: Hashes of the images and masks; those of this source are taken.
        kind: As for `read_source`.
        split: As for `read_source`.
        skip_bad: Whether to go on without the images that are bad.
        console: Where to print.
        name: The run's file about it, `CATALOG` or `VALIDATION`, from which nothing is learnt.
        reading: As for `read_source`.

    Raises:
        DataError: The source cannot be read, or no image is left.
        FaultsFoundError: It has faults.
    """
    found = read_source(source, kind=kind, split=split, **reading)
    told = _hash_of(found)
    catalog = Catalog((), ()) if found.fatal else found.catalog()
    with counted(console, "contents", late=True) as progress:
        key = _with_files(told, catalog, contents, progress)
    there = folder.is_run and (folder.path / name).is_file()
    record = folder.catalog_record(name) if there else {}
    if key and record.get("checked") == key and (skip_bad or not record["skipped"]):
        del found  # of very many images it takes more memory than all that follows
        same = _where_they_are(folder.load_catalog(name, source_tags=True), catalog)
        if same is not None:
            return CheckedSource(same, record["skipped"], key)
        found = read_source(source, kind=kind, split=split, **reading)
    catalog, report = good_samples(
        found, skip_bad=skip_bad, console=console, learnt_from=name == CATALOG
    )
    if report.faults:
        console.print(
            f"check: {len(report.faults)} faults; going on without {len(report.bad)} bad images "
            f"(their ids are in {name})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return CheckedSource(catalog, list(report.bad), key)


def good_samples(
    found: Source, *, skip_bad: bool, console: Console | None, learnt_from: bool = True
) -> tuple[Catalog, CheckReport]:
    """Checks a source that was read.

    Args:
        found: What was read; its entries are let go (see `check_source`).
        skip_bad: Whether to go on without the images that are bad.
        console: Where to show how far it is; nowhere if None.
        learnt_from: Whether something will be learnt from it; else it matters less how many images
            a class has.

    Returns:
        The samples that are left, and what was found.

    Raises:
        DataError: None is left.
        FaultsFoundError: There are faults, and bad images are not skipped.
    """
    with counted(console, "check") as progress:
        report = check_source(found, progress=progress)
    if not learnt_from:
        report = report.without(*COUNT_KINDS)
    if not report.faults:
        return found.catalog(), report
    if not skip_bad:
        raise FaultsFoundError(report)
    if found.fatal:
        raise DataError(str(found.fatal[0]))
    return without_bad(found.catalog(), report)[0], report


def _where_they_are(catalog: Catalog, found: Catalog) -> Catalog | None:
    """A run's samples with the files of the source, which may have been moved; None: not there."""
    now = {sample.id: sample for sample in found}
    if any(sample.id not in now for sample in catalog):
        return None
    samples = (
        there if (there := now[sample.id]).tags == sample.tags else replace(there, tags=sample.tags)
        for sample in catalog
    )
    return Catalog(catalog.classes, tuple(samples))


def _hash_of(found: Source) -> str:
    """A hash of all that a source tells; empty if something cannot even be found.

    It stays when the source is moved or copied as a whole.
    """
    if found.fatal:
        return ""
    place = str(found.path)
    told = hashlib.sha256(repr((found.classes, found.ignore_alpha)).encode())
    for entry in found.reading.entries:
        image = str(entry.image).removeprefix(place)
        told.update(repr((entry.id, entry.names, entry.cell, entry.line, image)).encode())
    for fault in (*found.reading.faults, *found.faults):
        told.update(repr(str(fault).replace(place, "")).encode())
    return told.hexdigest()[:16]


def _with_files(
    told: str, catalog: Catalog, contents: Contents, progress: Callable[[int, int], None] | None
) -> str:
    """A hash of all that `check` looks at: what a source tells, and its files; empty as above."""
    if not told:
        return ""
    try:
        contents.take(catalog, progress)
        files = [catalog_digest(catalog, contents), truth_digest(catalog, contents)]
    except (DataError, OSError):
        return ""
    return fingerprint_hash({"told": told, "files": files})
