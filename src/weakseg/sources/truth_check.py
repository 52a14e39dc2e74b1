"""What is wrong with a source's truth as a whole: masks of no image, of other classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from weakseg.faults import Fault, listed
from weakseg.metrics.truth_agreement import TruthAgreement
from weakseg.sources.inspection import Looked
from weakseg.sources.source import Source
from weakseg.types import BACKGROUND, IGNORE, Catalog


def truth_faults(found: Source, catalog: Catalog, looked: Sequence[Looked]) -> Iterator[Fault]:
    """Faults and notes of the truth of all images together.

    Args:
        found: The source.
        catalog: Its usable samples.
        looked: What decoding them brought to light.

    Yields:
        Masks of no image; truth without any class; indices that contradict the tags.
    """
    strangers = found.masks.strangers
    if strangers and found.masks.listing is not None:
        yield Fault(
            kind="mask_unused",
            file=str(found.masks.listing.root),
            found=f"{len(strangers)} masks bear the name of no image: {listed(strangers)}",
            remedy="name each mask like its image",
            severity="note",
        )
    masks = [item for item in looked if item.present is not None]
    place = str(_place(found, masks))
    tagged = [item.present or frozenset() for item in masks if item.sample.tags]
    if tagged and all(present <= {BACKGROUND, IGNORE} for present in tagged):
        ignored = sum(IGNORE in present for present in tagged)
        yield Fault(
            kind="mask_indices",
            file=place,
            found=f"no mask shows any class; {ignored} hold only 0 and {IGNORE}, which is "
            "'ignored'",
            remedy="give the pixels of the k-th class index k",
        )
        return
    agreement = TruthAgreement(catalog.classes)
    for item in masks:
        agreement.update(
            item.sample.id, item.present or frozenset(), {tag + 1 for tag in item.sample.tags}
        )
    findings = agreement.findings()
    if agreement.contradicts:
        yield Fault(
            kind="mask_tags",
            file=place,
            found="the masks contradict the tags: " + "; ".join(findings),
            remedy="name the classes in the order of the masks' indices (the first has index 1) in "
            "classes.txt, or move the masks elsewhere if they are of other classes",
        )
    elif findings:
        yield Fault(
            kind="mask_tags",
            file=place,
            found="; ".join(findings),
            remedy="look at some of them: a tag may be wrong or missing, or the object too small",
            severity="note",
        )


def _place(found: Source, masks: Sequence[Looked]) -> Path:
    """Where the truth is."""
    if found.masks.listing is not None:
        return found.masks.listing.root
    files = [item.sample.mask.parent for item in masks if item.sample.mask is not None]
    if files:
        return files[0]
    annotations = (item.sample.annotation for item in masks)
    return next((a.file for a in annotations if a is not None), found.path)
