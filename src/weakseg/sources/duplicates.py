"""Images that are there twice: by name, by row, by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from weakseg.data.truth import true_mask
from weakseg.faults import Fault, FileError, listed
from weakseg.sources.reading import Entry
from weakseg.types import Catalog, Sample


def repeated(entries: Iterable[Entry]) -> Iterator[Fault]:
    """Ids that several rows or several files have."""
    by_id: dict[str, Entry] = {}
    several: dict[str, list[Entry]] = {}
    for entry in entries:
        if by_id.setdefault(entry.id, entry) is not entry:
            several.setdefault(entry.id, [by_id[entry.id]]).append(entry)
    for sample_id, same in sorted(several.items()):
        first, *others = same
        files = sorted({entry.image.name for entry in same if entry.image})
        if len(files) > 1:
            yield Fault(
                kind="duplicate_name",
                file=str(others[-1].image or others[-1].file),
                found=f"{listed(files)} have the same name but for their suffix",
                remedy="give each image its own name: masks are named after them",
                samples=(sample_id,),
            )
        else:
            alike = all(set(entry.names) == set(first.names) for entry in others)
            place = f"line {first.line}" if first.line else first.file.name
            for entry in others:
                yield Fault(
                    kind="duplicate_row",
                    file=str(entry.file),
                    line=entry.line,
                    found=f"image {sample_id!r} is named twice, first in {place}"
                    + ("" if alike else ", with other tags"),
                    remedy="remove one of them" if alike else "put all its tags into one of them",
                    samples=() if alike else (sample_id,),
                )
    folded: dict[str, list[str]] = {}
    if len({sample_id.casefold() for sample_id in by_id}) < len(by_id):
        for sample_id in sorted(by_id):
            folded.setdefault(sample_id.casefold(), []).append(sample_id)
    for ids in folded.values():
        if len(ids) > 1:
            yield Fault(
                kind="duplicate_name",
                file=str(by_id[ids[0]].file),
                found=f"{listed(ids)} differ in case only",
                remedy="rename all but one: on Windows and macOS their masks replace each other",
                severity="note",
            )


def same_content(catalog: Catalog, samples: list[Sample]) -> Iterator[Fault]:
    """Images that are byte for byte the same. Only those of equal size are hashed."""
    sizes = np.fromiter((sample.image.stat().st_size for sample in samples), np.int64)
    _, which, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    same: dict[bytes, Sample | list[Sample]] = {}
    for place in np.flatnonzero(counts[which] > 1).tolist():
        sample = samples[place]
        with sample.image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        there = same.setdefault(digest, sample)
        if isinstance(there, list):
            there.append(sample)
        elif there is not sample:
            same[digest] = [there, sample]
    for alike in same.values():
        if isinstance(alike, list):
            first, *others = alike
            contrary = any(
                sample.tags != first.tags or not _same_truth(catalog, sample, first)
                for sample in others
            )
            for sample in others:
                tags = ""
                if sample.tags == first.tags and contrary:
                    tags = " but another true mask"
                elif sample.tags != first.tags:
                    tags = f" but other tags ({_tags(catalog, sample)} – {_tags(catalog, first)})"
                yield Fault(
                    kind="duplicate_content",
                    file=str(sample.image),
                    found=f"the same content as {first.image.name!r} ({first.id}){tags}",
                    remedy="remove one, and give the other all tags that are right"
                    if tags
                    else "nothing has to be done; it counts twice",
                    samples=(first.id, sample.id) if contrary else (),
                    severity="fault" if contrary else "note",
                )


def _same_truth(catalog: Catalog, first: Sample, second: Sample) -> bool:
    """Whether two images do not have different true masks."""
    if not (first.has_truth and second.has_truth):
        return True
    try:
        one, two = (true_mask(sample, catalog.classes) for sample in (first, second))
    except FileError:  # it is reported where masks are looked at
        return True
    return np.array_equal(one, two)  # type: ignore[arg-type]


def _tags(catalog: Catalog, sample: Sample) -> str:
    return " ".join(catalog.classes[index] for index in sorted(sample.tags)) or "none"
