"""`weakseg correct RUN --from SOURCE`: masks that people drew elsewhere become a run's truth."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakseg.data.decode import image_size, mask_indices
from weakseg.data.images import read_mask
from weakseg.data.masks import mask_classes
from weakseg.data.truth import true_mask
from weakseg.faults import listed
from weakseg.runs.image_files import image_file
from weakseg.runs.review_dir import ReviewDir
from weakseg.runs.run_dir import RunDir
from weakseg.sources.class_names import read_classes
from weakseg.sources.name_index import NameIndex
from weakseg.sources.source import read_source
from weakseg.types import BACKGROUND, IGNORE, Catalog, DataError, Sample

Indices = npt.NDArray[np.uint8]

PNG_FOLDER = "png"
"""The kind of a folder that holds masks alone; the other kinds are those of `weakseg check`."""

_LISTS = frozenset(("classes.txt", "class_names.txt", "labelmap.txt"))


@dataclass(frozen=True)
class CorrectSummary:
    """What became of masks from outside.

    Attributes:
        corrected: Images whose masks are new.
        unchanged: Images that had these masks already.
        left_out: Images of the run whose masks were not taken.
        notes: Why, and what else could not be used, each a sentence.
    """

    corrected: int
    unchanged: int
    left_out: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
    """A mask from outside: what it is called there, its pixels by the run's classes."""

    name: str
    read: Callable[[], Indices]


def correct(
    run: Path | str,
    source: Path | str,
    *,
    kind: str | None = None,
    who: str = "weakseg correct",
    progress: Callable[[int, int], None] | None = None,
) -> CorrectSummary:
    """Takes masks of some of a run's images as true; all of them, or none if one does not fit.

    Args:
        run: The run's folder.
        source: What another tool wrote (any kind that `weakseg check` reads; its images may lie
            beside it or not, for the run has them), or a folder of PNG masks with the images'
            names.
        kind: The kind; None: found by looking.
        who: Who is named as the one who drew them.
        progress: Called as `progress(done, total)` after each mask.

    Raises:
        DataError: The source cannot be read, or a mask does not fit its image or the classes.
        RunError: The folder is no run, or has no masks yet.
    """
    folder = RunDir(run)
    catalog = folder.load_catalog()
    folder.stage("masks")
    notes: list[str] = []
    with _given(catalog, Path(source).expanduser(), kind, notes) as masks:
        planned = _planned(catalog, masks, notes, source)
        reviews = ReviewDir(folder.path, catalog.classes)
        reviews.sweep()
        made = []
        for sample, labels in planned:
            made.append(_take(folder, reviews, sample, labels, who))
            if progress is not None:
                progress(len(made), len(planned))
        left_out = len(masks) - len(planned)
    return CorrectSummary(sum(made), len(made) - sum(made), left_out, tuple(notes))


def _planned(
    catalog: Catalog, masks: Sequence[_Given], notes: list[str], source: Path | str
) -> list[tuple[Sample, Indices]]:
    """Images and their new masks; every fault is found before anything is written."""
    index = NameIndex(catalog, name=lambda sample: f"{sample.id}.png")
    planned: dict[str, tuple[Sample, Indices]] = {}
    empty: list[str] = []
    unknown: list[str] = []
    for mask in masks:
        found = index.find(f"{mask.name}.png").items
        if len(found) > 1:
            names = listed([sample.id for sample in found])
            raise DataError(f"{source}: {mask.name!r} may be any of {names}; name it by its path")
        if not found:
            unknown.append(mask.name)
            continue
        sample, labels = found[0], mask.read()
        height, width = image_size(sample.image)
        if labels.shape != (height, width):
            raise DataError(
                f"{source}: the mask of {mask.name!r} is {labels.shape[1]}×{labels.shape[0]}, but "
                f"its image is {width}×{height}; export it at the image's own size"
            )
        if sample.id in planned:
            raise DataError(f"{source}: there are two masks of {sample.id!r}; leave one of them")
        if sample.tags and not labels.any():
            empty.append(sample.id)
        else:
            planned[sample.id] = (sample, labels)
    if unknown:
        notes.append(f"{_count(unknown)} not in this run, left out: {listed(unknown)}")
    if empty:
        notes.append(
            f"{_count(empty)} without any region left out, for the tags say that something is "
            f"there: {listed(empty)}; if nothing is, remove the tags in `weakseg review`"
        )
    if not planned:
        why = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{source}: holds no mask of this run's images{why}")
    return list(planned.values())


def _take(
    folder: RunDir,
    reviews: ReviewDir,
    sample: Sample,
    labels: Indices,
    who: str,
) -> bool:
    """Saves a mask as true; whether it was not there before."""
    names = reviews.classes
    mask = torch.from_numpy(labels)
    tags = [names[k - 1] for k in np.unique(labels).tolist() if 0 < k != IGNORE]
    found = reviews.load(sample.id)
    if found and found.now.state == "corrected" and set(found.now.tags) == set(tags):
        known = reviews.mask(sample.id, found.now.mask)
        if torch.equal(known, mask):
            return False

    def before() -> tuple[list[str], Tensor]:
        made = read_mask(image_file(folder.path, "masks", sample.id, ".png"))
        return [names[tag] for tag in sorted(sample.tags)], made

    version = found.version if found else None
    reviews.change(
        sample.id,
        version,
        before,
        who=who,
        action="import",
        state="corrected",
        tags=tags,
        mask=mask,
    )
    return True


@contextmanager
def _given(
    catalog: Catalog, source: Path, kind: str | None, notes: list[str]
) -> Iterator[list[_Given]]:
    """The masks of a source, with a note of what of it cannot be used."""
    if kind == PNG_FOLDER or (kind is None and _holds_masks_alone(source)):
        yield _of_folder(catalog, source)
        return
    if found := _beside_images(catalog, source, kind, notes):
        yield found
        return
    # The run has the images: the annotations are read as if they lay beside them.
    with tempfile.TemporaryDirectory(prefix="weakseg-") as name:
        place = Path(name)
        target = place / source.name if source.is_file() else place
        _link(source, target)
        for sample in catalog:
            _link(sample.image, place / "images" / f"{sample.id}{sample.image.suffix}")
        try:
            found = _read(catalog, target, kind, notes)
        except DataError as error:
            raise DataError(_told_of(source, target, str(error))) from None
        notes[:] = [_told_of(source, target, note) for note in notes]
        yield found


def _told_of(source: Path, target: Path, text: str) -> str:
    """A message about the copy as one about the source."""
    return text.replace(str(target), str(source))


def _beside_images(
    catalog: Catalog, source: Path, kind: str | None, notes: list[str]
) -> list[_Given]:
    """The masks of a source that has its images; none if they are missing."""
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder; check the path")
    try:
        found = _read(catalog, source, kind, notes)
    except DataError:  # told when it fails again, with the images beside it
        found = []
    if not found:
        notes.clear()
    return found


def _read(catalog: Catalog, source: Path, kind: str | None, notes: list[str]) -> list[_Given]:
    found = read_source(source, kind=kind)
    if found.fatal:
        raise DataError(str(found.fatal[0]))
    faults = [fault for fault in found.reading.faults if fault.severity == "fault"]
    if faults:
        notes.append(f"{_count(faults, 'entry', 'entries')} cannot be used, the first: {faults[0]}")
    theirs = found.catalog()
    return [
        _Given(sample.id, _mapped(catalog, theirs.classes, sample, source))
        for sample in theirs
        if sample.has_truth
    ]


def _mapped(
    catalog: Catalog, names: Sequence[str], sample: Sample, source: Path
) -> Callable[[], Indices]:
    def read() -> Indices:
        labels = true_mask(sample, names)
        assert labels is not None
        return _renamed(labels, names, catalog.classes, f"{source}: {sample.id!r}")

    return read


def _of_folder(catalog: Catalog, folder: Path) -> list[_Given]:
    """Masks by their files' names; indices are those of the run unless a list tells others."""
    declared = read_classes(folder) or read_classes(folder.parent)
    if declared and declared.fatal:
        raise DataError(str(declared.fatal[0]))

    def reader(path: Path) -> Callable[[], Indices]:
        def read() -> Indices:
            names = mask_classes(path) or (declared.names if declared else catalog.classes)
            return _renamed(mask_indices(path), names, catalog.classes, str(path))

        return read

    return [
        _Given(path.relative_to(folder).with_suffix("").as_posix(), reader(path))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    ]


def _holds_masks_alone(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    masks = [path for path in files if path.suffix.lower() == ".png"]
    return bool(masks) and all(path in masks or path.name in _LISTS for path in files)


def _renamed(labels: Indices, theirs: Sequence[str], ours: Sequence[str], where: str) -> Indices:
    """A mask's indices, which mean `theirs`, as indices of `ours`."""
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for value in np.unique(labels).tolist():
        if value in (BACKGROUND, IGNORE):
            continue
        if value > len(theirs):
            raise DataError(f"{where}: index {value} stands for no class; there are {len(theirs)}")
        name = theirs[value - 1]
        if name not in ours:
            raise DataError(
                f"{where}: {name!r} is none of the run's classes ({', '.join(ours)}); rename it "
                "where it was drawn, or leave it out"
            )
        table[value] = ours.index(name) + 1
    return table[labels]


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where that cannot be; folders with all they hold."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                _link(path, target / path.relative_to(source))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copy2(source, target)


def _count(items: Sequence[object], one: str = "image", many: str = "images") -> str:
    return f"{len(items)} {one if len(items) == 1 else many}"
