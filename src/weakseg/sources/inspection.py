"""Decodes every image and truth mask of a catalog, a few at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weakseg.data.decode import MAX_ASPECT, MIN_SIDE, ImageFacts, decode_fully
from weakseg.data.truth import true_mask
from weakseg.faults import Fault, FaultKind, FileError, listed
from weakseg.types import IGNORE, Catalog, Sample

_BATCH = 256  # images under way at once: bounds memory and how long an interrupt takes


@dataclass(frozen=True, slots=True)
class Looked:
    """What decoding one sample brought to light.

    Attributes:
        sample: The sample.
        facts: What its image is, or None if it cannot be decoded.
        faults: What is wrong with its image and its mask.
        present: The indices in its mask, or None without one that can be read.
    """

    sample: Sample
    facts: ImageFacts | None
    faults: tuple[Fault, ...]
    present: frozenset[int] | None


def look(catalog: Catalog, workers: int) -> Iterator[Looked]:
    """Decodes all samples.

    Args:
        catalog: The samples.
        workers: Threads that decode.

    Yields:
        What each turned out to be, in the catalog's order.
    """
    classes = catalog.classes
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(catalog), _BATCH):
            batch = catalog.samples[start : start + _BATCH]
            yield from pool.map(lambda sample: _look_at(sample, classes), batch)


def _look_at(sample: Sample, classes: Sequence[str]) -> Looked:
    faults: list[Fault] = []
    facts: ImageFacts | None = None
    try:
        facts = decode_fully(sample.image)
    except FileError as error:
        faults.append(error.fault(sample.id))
    if facts is not None:
        faults += _shape(sample, facts)
        if facts.alpha == "all" and not sample.ignore_alpha:
            faults.append(_transparent(sample))
    present: frozenset[int] | None = None
    if sample.has_truth:
        try:
            indices = true_mask(sample, classes)
            assert indices is not None
        except FileError as error:
            known: tuple[FaultKind, ...] = ("mask_channels", "mask_indices")
            kind: FaultKind = error.kind if error.kind in known else "mask_damaged"
            faults.append(error.fault(sample.id).model_copy(update={"kind": kind}))
        else:
            present = frozenset(
                np.flatnonzero(np.bincount(indices.ravel(), minlength=256)).tolist()
            )
            faults += _mask(sample, facts, indices.shape, present, len(classes))
    return Looked(sample, facts, tuple(faults), present)


def _transparent(sample: Sample) -> Fault:
    return Fault(
        kind="image_channels",
        file=str(sample.image),
        found="fully transparent: nothing of it is to be seen",
        remedy="replace or remove it; if its fourth channel is no transparency, give "
        "--ignore-alpha",
        samples=(sample.id,),
    )


def channel_notes(source: Path, looked: Iterable[Looked]) -> Iterator[Fault]:
    """Notes, one for all images, of channels and frames that are not simply read.

    Args:
        source: Where the images are.
        looked: What decoding them brought to light.
    """
    seen = [(item.sample, item.facts) for item in looked if item.facts is not None]

    def told(kind: FaultKind, chosen: Sequence[Sample], found: str, remedy: str) -> Iterator[Fault]:
        if chosen:
            plural = "s" * (len(chosen) != 1)
            text = f"{len(chosen)} image{plural} {found}: {listed([s.id for s in chosen])}"
            yield Fault(kind=kind, file=str(source), found=text, remedy=remedy, severity="note")

    yield from told(
        "image_channels",
        [s for s, facts in seen if facts.alpha == "partly" and not s.ignore_alpha],
        "partly transparent, laid over white",
        "if the fourth channel is no transparency but another band, as near infrared, give "
        "--ignore-alpha",
    )
    yield from told(
        "image_channels",
        [s for s, f in seen if f.bands > 3 and f.mode in _BANDS and f.alpha == "none"],
        "with more than three bands, of which the first three are read as red, green and blue",
        "nothing has to be done if that is right; else make RGB images of the bands that matter",
    )
    yield from told(
        "image_frames",
        [s for s, facts in seen if facts.frames > 1],
        "of several frames or pages, of which the first is read",
        "nothing has to be done if that is right; else save each as an image of its own",
    )


_BANDS = ("RGB", "RGBA", "RGBX")  # CMYK's four bands are colours


def _shape(sample: Sample, facts: ImageFacts) -> Iterator[Fault]:
    short, long = sorted((facts.height, facts.width))
    size = f"{facts.width}×{facts.height} pixels"
    if short < MIN_SIDE:
        yield Fault(
            kind="image_too_small",
            file=str(sample.image),
            found=f"{size}; both sides must have at least {MIN_SIDE}",
            remedy="replace or remove it",
            samples=(sample.id,),
        )
    elif long > MAX_ASPECT * short:
        yield Fault(
            kind="image_shape",
            file=str(sample.image),
            found=f"{size}: longer than {MAX_ASPECT} times its short side",
            remedy="cut it into pieces if its masks are poor",
            severity="note",
        )


def _mask(
    sample: Sample,
    facts: ImageFacts | None,
    shape: tuple[int, ...],
    present: Collection[int],
    classes: int,
) -> Iterator[Fault]:
    size = None if facts is None else (facts.height, facts.width)
    if facts is not None and size is not None and shape != size:
        turned = facts.orientation >= 5 and shape == size[::-1]
        yield Fault(
            kind="mask_size",
            file=str(_truth_file(sample)),
            found=f"{shape[1]}×{shape[0]} pixels, its image {facts.width}×{facts.height}"
            + (" once turned upright by its EXIF orientation" if turned else ""),
            remedy="turn the mask like the photo" if turned else "make the mask anew for its image",
            samples=(sample.id,),
        )
    unknown = sorted(index for index in present if classes < index < IGNORE)
    if unknown:
        more = f" and {len(unknown) - 6} more" if len(unknown) > 6 else ""
        yield Fault(
            kind="mask_indices",
            file=str(_truth_file(sample)),
            found=f"indices {', '.join(map(str, unknown[:6]))}{more} stand for no class",
            remedy=f"use 0 (background), 1 to {classes} (the classes in their order) and "
            f"{IGNORE} (ignored), or name all classes in classes.txt",
            samples=(sample.id,),
        )


def _truth_file(sample: Sample) -> Path | None:
    return sample.annotation.file if sample.annotation else sample.mask
