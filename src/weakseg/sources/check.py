"""Reads a whole source and tells everything that is wrong with it, and what it is like."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from weakseg.data.decode import ImageFacts
from weakseg.faults import Fault, FaultKind, listed
from weakseg.sources.class_counts import count_faults
from weakseg.sources.class_names import name_faults, word_notes
from weakseg.sources.duplicates import repeated, same_content
from weakseg.sources.fingerprint import Fingerprint, take_fingerprint
from weakseg.sources.inspection import Looked, channel_notes, look
from weakseg.sources.reading import ReadingOptions
from weakseg.sources.source import Source, declarer, read_source
from weakseg.sources.truth_check import truth_faults
from weakseg.types import Catalog, DataError


class CheckReport(BaseModel):
    """What `check_catalog` found. Serialises to JSON by `model_dump_json()`.

    Example:
        >>> report = check_catalog("photos")  # doctest: +SKIP
        >>> for fault in report.faults:  # doctest: +SKIP
        ...     print(fault)
        photos/labels.csv:7: tag 'hrose' is on one image only; did you mean 'horse'? …
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="The source's path as it was given.")
    kind: str = Field(description="How it was read: one of `READERS`.")
    split: str | None = Field(description="The split that was checked; None: everything.")
    faults: tuple[Fault, ...] = Field(
        description="What is ambiguous or harmful, by file and line; a run refuses these."
    )
    notes: tuple[Fault, ...] = Field(
        description="What is unusual but read correctly without doubt, by file and line."
    )
    doubtful: tuple[str, ...] = Field(
        description="Class names that exist only because of a misspelt tag."
    )
    fingerprint: Fingerprint = Field(description="What the images that can be read are like.")

    @property
    def ok(self) -> bool:
        """Whether there are no faults (notes do not count)."""
        return not self.faults

    def without(self, *kinds: FaultKind) -> CheckReport:
        """The report without faults and notes of some kinds."""
        return self.model_copy(
            update={
                "faults": tuple(fault for fault in self.faults if fault.kind not in kinds),
                "notes": tuple(note for note in self.notes if note.kind not in kinds),
            }
        )

    @property
    def bad(self) -> tuple[str, ...]:
        """Ids of all samples that cannot be used because of some fault, sorted."""
        return tuple(sorted({sample for fault in self.faults for sample in fault.samples}))


def check_catalog(
    source: str | Path,
    *,
    kind: str | None = None,
    split: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
    **reading: Unpack[ReadingOptions],
) -> CheckReport:
    """Reads everything of a source, decodes every image and truth mask, lists every fault.

    Nothing is kept in memory but a few numbers per image. Faults of samples outside of the split
    are not listed; misspelt tags are reported for the whole source.

    Args:
        source: A folder, a tags file or a COCO JSON, as for `open_catalog`.
        kind: The source's kind, or None: look.
        split: The split to check, or None: everything.
        progress: Called as `progress(done, total)` after each image, in the calling thread.
        workers: Threads that decode (≥ 1).
        reading: As for `open_catalog`.

    Returns:
        Faults, notes and fingerprint.

    Raises:
        DataError: There is nothing at this path, or the kind or split is unknown.
        ValueError: `workers` is below 1.

    Example:
        >>> check_catalog("photos").ok  # doctest: +SKIP
        True
    """
    found = read_source(source, kind=kind, split=split, **reading)
    return check_source(found, progress=progress, workers=workers)


def check_source(
    found: Source, *, progress: Callable[[int, int], None] | None = None, workers: int = 2
) -> CheckReport:
    """Decodes every image and truth mask of a source that was read, lists every fault.

    Args:
        found: What was read of it. Its entries are let go before images are decoded: of very many
            images they take as much memory as all the rest.
        progress: As for `check_catalog`.
        workers: As for `check_catalog`.

    Raises:
        ValueError: `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"expected workers ≥ 1, got {workers}")
    faults = [*found.fatal, *found.reading.faults, *found.faults]
    doubtful: frozenset[str] = frozenset()
    catalog = Catalog(found.classes, ())
    looked: list[Looked] = []
    if not found.fatal:
        catalog = found.catalog()
        names, doubtful = _names(found)
        faults += names
        faults += word_notes(found.reading.entries)
        faults += repeated(found.reading.entries)
        faults += _unused(found, catalog)
        found.reading.entries.clear()
        if not catalog.samples:
            faults.append(_no_images(found))
        with warnings.catch_warnings():
            # Pillow warns of large images before our own limit refuses them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module="PIL")
            alike: dict[ImageFacts, ImageFacts] = {}  # of most images there are others like them
            for looked_at in look(catalog, workers):
                facts = looked_at.facts and alike.setdefault(looked_at.facts, looked_at.facts)
                looked.append(replace(looked_at, facts=facts))
                if progress is not None:
                    progress(len(looked), len(catalog))
        for looked_at in looked:
            faults += looked_at.faults
        faults += channel_notes(found.path, looked)
        faults += same_content(catalog, [item.sample for item in looked if item.facts])
        faults += count_faults(catalog, found.path)
        faults += truth_faults(found, catalog, looked)
    within = list(_in_split(faults, found.wanted))
    return CheckReport(
        source=str(found.path),
        kind=found.kind,
        split=found.split,
        faults=_ordered(fault for fault in within if fault.severity == "fault"),
        notes=_ordered(fault for fault in within if fault.severity == "note"),
        doubtful=tuple(sorted(doubtful)),
        fingerprint=take_fingerprint(catalog, [item.facts for item in looked if item.facts]),
    )


def skip_bad(catalog: Catalog, report: CheckReport) -> tuple[Catalog, list[str]]:
    """The catalog without the samples that a report calls bad.

    Classes that existed only because of misspelt tags go with them; declared classes stay.

    Args:
        catalog: The catalog of the source that was checked.
        report: What `check_catalog` said of it.

    Returns:
        The catalog that is left, and the sorted ids of all bad samples (of rows without an image
        too, which the catalog never had).

    Raises:
        DataError: No sample is left.

    Example:
        >>> good, skipped = skip_bad(catalog, report)  # doctest: +SKIP
    """
    bad = frozenset(report.bad)
    samples = [sample for sample in catalog if sample.id not in bad]
    if not samples:
        raise DataError(
            f"{report.source}: no image is left without the {len(bad)} bad ones; "
            "weakseg check lists what is wrong"
        )
    borne = {index for sample in samples for index in sample.tags}
    if not borne:
        raise DataError(
            f"{report.source}: no image with a tag is left without the {len(bad)} bad ones; "
            "weakseg check lists what is wrong"
        )
    kept = [
        index
        for index, name in enumerate(catalog.classes)
        if index in borne or name not in report.doubtful
    ]
    order = {index: position for position, index in enumerate(kept)}
    return (
        Catalog(
            tuple(catalog.classes[index] for index in kept),
            tuple(replace(s, tags=frozenset(order[index] for index in s.tags)) for s in samples),
        ),
        sorted(bad),
    )


def _names(found: Source) -> tuple[list[Fault], frozenset[str]]:
    declared = found.classes if found.names_fixed else None
    faults, doubtful = name_faults(found.reading.entries, declared, declarer(found))
    return faults, doubtful.intersection(found.classes)


def _no_images(found: Source) -> Fault:
    return Fault(
        kind="image_missing",
        file=str(found.path),
        found="no images found that can be used",
        remedy="fix the other faults, or check that this is the right folder",
    )


def _unused(found: Source, catalog: Catalog) -> Iterator[Fault]:
    """Classes that no image bears: in the whole source, or only in the split."""
    everywhere = {name for entry in found.reading.entries for name in entry.names}
    here = {found.classes[index] for sample in catalog for index in sample.tags}
    place = found.declared.path if found.declared else found.path
    if found.reading.partial:
        everywhere.update(found.classes)  # others may bear them
    nobody = [name for name in found.classes if name not in everywhere]
    if nobody and found.reading.shipped and not found.declared:
        yield _class_unused(place, f"no image has {listed(nobody)} of the data set's classes", True)
    else:
        for name in nobody:
            yield _class_unused(place, f"no image has the class {name!r}", False)
    absent = [name for name in found.classes if name in everywhere and name not in here]
    if absent and catalog.samples:
        within = f"split {found.split!r}" if found.split else "images that can be used"
        yield _class_unused(place, f"no image of the {within} has {listed(absent)}", True)


def _class_unused(place: Path, found: str, is_note: bool) -> Fault:
    return Fault(
        kind="class_unused",
        file=str(place),
        found=found,
        remedy="tag its images, or take it out of the list",
        severity="note" if is_note else "fault",
    )


def _in_split(faults: Iterable[Fault], wanted: frozenset[str] | None) -> Iterator[Fault]:
    """Faults of the split's samples, and those of no sample."""
    for fault in faults:
        inside = fault.samples if wanted is None else tuple(s for s in fault.samples if s in wanted)
        if inside or not fault.samples:
            yield fault if inside == fault.samples else fault.model_copy(update={"samples": inside})


def _ordered(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    unique = dict.fromkeys(faults)
    return tuple(sorted(unique, key=lambda f: (f.file, f.line or 0, f.kind, f.found)))
