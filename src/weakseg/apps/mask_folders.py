"""Scores of any folder of masks against a folder of true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from rich.console import Console
from torch import Tensor

from weakseg import progress
from weakseg.data.images import read_mask
from weakseg.data.masks import mask_classes
from weakseg.faults import listed
from weakseg.metrics.confusion import MAX_CLASSES, EvaluateSettings
from weakseg.metrics.scores import (
    BACKGROUND_NAME,
    MaskScorer,
    Scores,
    present_labels,
    size_text,
    top_label,
)
from weakseg.metrics.truth_agreement import TruthAgreement
from weakseg.processors import one_thread
from weakseg.runs.corrections import NO_CORRECTIONS, read_corrections
from weakseg.runs.image_files import has_shard_folders, without_shard
from weakseg.runs.run_dir import RunDir
from weakseg.sources.name_index import NameIndex, plain_name, without_suffix
from weakseg.sources.text import names_of, read_list
from weakseg.types import BACKGROUND, IGNORE, DataError

_NAMED_FAULTS = 5


@one_thread()
def evaluate_masks(
    predicted: Path | str,
    truth: Path | str,
    *,
    ids: Sequence[str] | Path | str | None = None,
    classes: Sequence[str] | Path | str | None = None,
    settings: EvaluateSettings | None = None,
    console: Console | None = None,
) -> Scores:
    """Scores any folder of masks against a folder of true ones.

    Masks belong together whose paths below the folders are equal but for the suffix. None is left
    out silently: what cannot be scored is an error.

    Args:
        predicted: Folder of PNG masks: palette, gray or black-and-white, index 0 background.
        truth: Folder of true masks of the same kind; 255 is ignored.
        ids: Which images to score: their paths below the folders without suffix, or a text file
            with one a line, with or without suffix. None: all that are in either folder.
        classes: Names of classes 1..K. None: as the masks themselves tell (`write_mask` keeps
            them), or `classes.txt` in or beside the truth's folder; else as many as the greatest
            index in the truth, without names.
        settings: What is measured; the defaults if None.
        console: Where to show how far it is; nowhere if None.

    Returns:
        The scores over all images.

    Raises:
        DataError: A folder or list cannot be read, a mask is missing on either side, of another
            size, unreadable or no label map, or has an index that no class bears.

    Example:
        >>> scores = evaluate_masks("runs/cats/masks", "VOC/masks")  # doctest: +SKIP
        >>> print(f"{scores.mean_iou:.3f}")  # doctest: +SKIP
        0.671
    """
    ours, theirs = _mask_files(Path(predicted)), _mask_files(Path(truth))
    wanted = _wanted(ours, theirs, ids)
    _refuse_missing(Path(predicted), Path(truth), ours, theirs, wanted, listed=ids is not None)
    classes = None if classes is None else names_of(classes, "classes")
    names = _class_names([ours[wanted[0]], theirs[wanted[0]]], Path(truth), classes)
    limit = MAX_CLASSES if names is None else len(names)

    scorer = MaskScorer(limit, settings or EvaluateSettings())
    faults: list[str] = []
    tops: dict[str, int] = {}
    most = 0
    agreement = TruthAgreement(names or [f"class {k}" for k in range(1, limit + 1)])
    quiet = console or Console(quiet=True)
    with progress.track(quiet, "evaluate", len(wanted)) as advance:
        for key in wanted:
            try:
                prediction, true = read_mask(ours[key]), read_mask(theirs[key])
                _check_pair(ours[key], prediction, theirs[key], true, limit)
            except DataError as error:
                faults.append(str(error))
            else:
                scorer.update(prediction, true)
                tops[key], most = top_label(prediction), max(most, top_label(true))
                agreement.update(
                    key, present_labels(true), present_labels(prediction) - {BACKGROUND, IGNORE}
                )
            advance()
    if names is None:
        most = max(most, 1)
        faults += [
            f"{ours[key]} has index {top}, but the greatest in the truth is {most}: "
            "name the classes if that is right"
            for key, top in tops.items()
            if top > most
        ]
        names = tuple(f"class {k}" for k in range(1, most + 1))
    if faults:
        raise DataError(f"{len(faults)} of {len(wanted)} masks cannot be scored: {_some(faults)}")
    warnings = (*_warnings(agreement), *_corrected_since(Path(predicted)))
    return replace(scorer.scores(names), warnings=warnings)


def _corrected_since(folder: Path) -> list[str]:
    """That people corrected masks of a run after they were made, if the folder is a run's."""
    run = RunDir(folder.absolute().parent)
    if folder.absolute().name != "masks" or not run.is_run:
        return []
    corrections = read_corrections(run.path, run.load_catalog()) or NO_CORRECTIONS
    said = corrections.since(folder)
    if not said:
        return []
    return [
        f"people corrected {said} since these masks were made; `weakseg run` learns from that, and "
        "`weakseg export --to png` writes the masks as they are now"
    ]


def _warnings(agreement: TruthAgreement) -> tuple[str, ...]:
    """What makes scores doubtful: truth without classes, or with the classes in another order."""
    if agreement.two_values:
        return tuple(agreement.findings())
    return tuple(
        f"index {index} of the truth is where the masks have index {k}: are their classes in the "
        "same order?"
        for index, k in agreement.moved().items()
    )


def _mask_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder that holds the masks")
    shards = any(map(has_shard_folders, (folder, folder.parent)))

    def key(path: Path) -> str:
        name = path.relative_to(folder).with_suffix("").as_posix()
        return normalize("NFC", without_shard(name) if shards else name)

    files = {
        key(path): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    }
    if not files:
        raise DataError(f"{folder} holds no PNG masks")
    return files


def _wanted(
    ours: Mapping[str, Path], theirs: Mapping[str, Path], ids: Sequence[str] | Path | str | None
) -> list[str]:
    everything = sorted(ours.keys() | theirs.keys())
    if ids is None:
        return everything
    index = NameIndex(everything, name="{}.png".format)
    keys: dict[str, None] = {}
    for name in names_of(ids, "images"):
        found = index.find(name).items or index.find(without_suffix(plain_name(name))).items
        if len(found) > 1:
            raise DataError(f"{name!r} may be any of {listed(list(found))}; name it by its path")
        keys[found[0] if found else without_suffix(plain_name(name))] = None
    if not keys:
        raise DataError(f"{ids if isinstance(ids, str | Path) else 'the list'} names no image")
    return list(keys)


def _refuse_missing(
    predicted: Path,
    truth: Path,
    ours: Mapping[str, Path],
    theirs: Mapping[str, Path],
    wanted: Sequence[str],
    *,
    listed: bool,
) -> None:
    parts = []
    for folder, files in ((predicted, ours), (truth, theirs)):
        missing = [key for key in wanted if key not in files]
        if missing:
            parts.append(f"{len(missing)} of {len(wanted)} masks in {folder} ({_some(missing)})")
    if parts:
        remedy = "" if listed else "; give a list of the images to score"
        raise DataError(f"missing: {' and '.join(parts)}{remedy}")


def _class_names(
    examples: Sequence[Path], truth: Path, classes: Sequence[str] | None
) -> tuple[str, ...] | None:
    if classes is not None:
        return _checked_names(classes, "the classes given")
    told = [(str(path), names) for path in examples if (names := mask_classes(path)) is not None]
    for folder in (truth, truth.parent):
        if (path := folder / "classes.txt").is_file():
            lines = [line for _, line in read_list(path)[0]]
            if lines and lines[0].strip("_").lower() == BACKGROUND_NAME:
                del lines[0]
            told.append((str(path), tuple(lines)))
            break
    for place, names in told[1:]:
        first, expected = told[0]
        if names != expected:
            raise DataError(
                f"the classes of {place} ({', '.join(names)}) are not those of {first} "
                f"({', '.join(expected)}): the same index means different things"
            )
    return _checked_names(told[0][1], told[0][0]) if told else None


def _checked_names(names: Sequence[str], place: str) -> tuple[str, ...]:
    if not 1 <= len(names) <= MAX_CLASSES:
        raise DataError(f"expected 1..{MAX_CLASSES} classes, got {len(names)} from {place}")
    return tuple(names)


def _check_pair(
    our_path: Path, prediction: Tensor, their_path: Path, truth: Tensor, classes: int
) -> None:
    if prediction.shape != truth.shape:
        raise DataError(
            f"{our_path} is {size_text(prediction)}, "
            f"but its truth {their_path} is {size_text(truth)}"
        )
    for path, mask in ((our_path, prediction), (their_path, truth)):
        if (top := top_label(mask)) > classes:
            raise DataError(f"{path} has index {top}, but there are {classes} classes")
    if bool(((prediction == IGNORE) & (truth != IGNORE)).any()):
        raise DataError(
            f"{our_path} has index {IGNORE} where the truth is known: every pixel must be decided"
        )


def _some(items: Sequence[str]) -> str:
    rest = f", … ({len(items)} in all)" if len(items) > _NAMED_FAULTS else ""
    return "; ".join(items[:_NAMED_FAULTS]) + rest
