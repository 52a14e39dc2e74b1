"""Whether there are enough images, with and without each class, for a classifier to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from weakseg.faults import Fault, FaultKind, listed
from weakseg.types import Catalog

FEW_OF_A_CLASS, FEW_IN_ALL = 20, 50
"""Fewer images than this get a note. Rules of thumb: a pretrained network tells classes apart from
some tens of images of each; below, its masks depend on which images these happen to be."""

COUNT_KINDS: tuple[FaultKind, ...] = ("no_tags", "few_images")
"""Kinds of faults that matter only to what is learnt from."""


def count_faults(catalog: Catalog, place: Path) -> Iterator[Fault]:
    """What the numbers of images and tags say of what can be learnt.

    Class activation maps come from a classifier: it must see images with and without each class.

    Args:
        catalog: The images that can be used.
        place: The source, for the faults.

    Yields:
        A fault if no image has a tag, or all have all of them; notes of classes that every image
        has, and of small numbers.
    """
    if not catalog.samples:
        return

    def fault(kind: FaultKind, found: str, remedy: str, *, note: bool = False) -> Fault:
        severity = "note" if note else "fault"
        return Fault(kind=kind, file=str(place), found=found, remedy=remedy, severity=severity)

    counts = dict.fromkeys(range(len(catalog.classes)), 0)
    for sample in catalog:
        for index in sample.tags:
            counts[index] += 1
    if not any(counts.values()):
        yield fault(
            "no_tags",
            "no image has a tag",
            "name for each image what is in it; only images that show none of the classes have "
            "no tag",
        )
        return
    total = len(catalog)
    everywhere = [catalog.classes[k] for k, count in counts.items() if count == total]
    tagged = [k for k, count in counts.items() if count]
    if len(everywhere) == len(tagged) and total > 1:
        yield fault(
            "no_tags",
            f"every image has {listed(everywhere)}: there is nothing to tell them from",
            "add images without them, best of the same places (no tags: 'image.jpg,'); as many as "
            "there are images with them is a good number",
        )
    elif everywhere and total > 1:
        yield fault(
            "no_tags",
            f"every image has {listed(everywhere)}: its masks will be guesses",
            "add images without it, best of the same places; as many as there are with it is a "
            "good number",
            note=True,
        )
    few = [f"{catalog.classes[k]} ({counts[k]})" for k in tagged if counts[k] < FEW_OF_A_CLASS]
    if total < FEW_IN_ALL:
        yield fault(
            "few_images",
            f"{total} image{'s' * (total != 1)} in all",
            "expect rough masks that change from seed to seed: some hundred images with tags are "
            "a good number",
            note=True,
        )
    elif few:
        names = ", ".join(few[:6]) + (f" and {len(few) - 6} more" if len(few) > 6 else "")
        yield fault(
            "few_images",
            f"classes on fewer than {FEW_OF_A_CLASS} images: {names}",
            "expect poor masks of them: add images, or leave the class out",
            note=True,
        )
