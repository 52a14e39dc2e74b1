"""YOLO: one text file a photo, with class numbers and boxes, polygons or key points."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from weakseg.data.decode import SUFFIXES
from weakseg.sources.annotation_files import Tally, beside, ends, files_below, folder_splits
from weakseg.sources.class_names import CLASSES_FILE
from weakseg.sources.formats.yolo_config import NAME_FILES, Config, config_file, read_config
from weakseg.sources.formats.yolo_labels import YoloMask, read_rows
from weakseg.sources.image_index import Listing, find_folder, scan
from weakseg.sources.marks import declare, is_background
from weakseg.sources.reading import Entry, Reading, Request

_LOOKED_AT = 20
_LABELS, _IMAGES = "labels", "images"
_ANEW = "export the labels anew"


def is_yolo(source: Path) -> bool:
    """Whether a file lists YOLO's classes and parts, or a folder has it or label files."""
    if config_file(source) is not None:
        return True
    if source.is_file():
        return False
    return any(_is_label_of_image(path, source) for path in islice(_texts(source), _LOOKED_AT))


def read_yolo(request: Request) -> Reading:
    """Reads label files of YOLO (Ultralytics, Roboflow, darknet, CVAT, Label Studio).

    The label file of `…/images/a.jpg` is `…/labels/a.txt`, else `a.txt` beside it. Tags are the
    classes of all its lines, be they boxes, polygons, turned boxes or key points; an image without
    a label file, or with an empty one, shows none. Classes and parts are those of `data.yaml` or
    `obj.data`, else the names of `classes.txt`, `obj.names` or `_darknet.labels`, in their order.
    Where all lines of an image are polygons, they are its true pixels; but not if all polygons of
    the source have four corners: then they may be turned boxes. Shares are of the upright photo.

    Args:
        request: What is wanted.

    Returns:
        One entry per image of the parts.
    """
    source = request.path
    path = config_file(source)
    folder = source if source.is_dir() else source.parent
    config = read_config(path) if path else Config(folder, folder)
    if not config.names and not config.problems:
        config.take_names()
    else:
        config.compare_lists()
    whole = scan(config.folder, config.folder, skip=(_LABELS,))
    if config.problems:
        return Reading(config.folder, whole, fatal=config.problems)
    members = config.members(whole)
    listing = _images_folder(config.folder, whole, members)
    reading = Reading(config.folder, listing, faults=config.faults)
    tally = Tally()
    _add_entries(reading, config, members, tally)
    declare(reading, (name for _, name in config.names), config.file, tally)
    by_list = config.file == config.folder / CLASSES_FILE
    reading.list_read = by_list and not reading.shipped
    reading.faults += tally.faults()
    if config.parts:
        reading.splits = {
            name: frozenset(listing.id_of(path) for path in paths)
            for name, paths in members.items()
        }
    else:
        reading.splits = folder_splits(entry.id for entry in reading.entries)
    reading.add_link_faults()
    reading.note_unnamed(config.file)
    return reading


@dataclass(frozen=True, slots=True)
class _Image:
    """An image and what its label file says, in short."""

    sample_id: str
    path: Path
    label: Path | None
    names: tuple[str, ...] = ()
    usable: bool = True
    polygons: int = 0
    others: int = 0
    quads: bool = True
    outside: bool = False


def _add_entries(
    reading: Reading, config: Config, members: dict[str, frozenset[Path]], tally: Tally
) -> None:
    texts = {_key(path, config.folder): path for path in _texts(config.folder)}
    within = frozenset().union(*members.values()) if config.parts else None
    used: set[Path] = set()
    images: list[_Image] = []
    for sample_id, paths in reading.listing.images.items():
        for path in paths:
            label = next(
                (texts[n] for n in _label_names(_key(path, config.folder)) if n in texts), None
            )
            if label is not None:
                used.add(label)
            if within is None or path in within:
                images.append(_look(sample_id, path, label, config, tally))
    quads = [image for image in images if image.polygons and image.quads]
    exact = not config.pose and any(image.polygons and not image.quads for image in images)
    for image in images:
        truth = None
        known = not image.others and not image.outside and image.usable
        if exact and known and image.label is not None:
            truth = YoloMask(image.label, image.path, config.names)
        file = image.label or config.file
        reading.entries.append(
            Entry(image.sample_id, image.path, image.names, file, usable=image.usable, truth=truth)
        )
    if quads and not exact and not config.pose:
        tally.add(
            "annotation",
            quads[0].label or config.file,
            f"all polygons have four corners ({len(quads)} images): they may be turned boxes, so "
            "they are read for tags only",
            "nothing has to be done for tags",
            severity="note",
        )
    unlabelled = [image for image in images if image.label is None]
    if unlabelled:
        tally.add(
            "annotation",
            config.file,
            f"{len(unlabelled)} of {len(images)} images have no label file, which is read as none "
            f"of the classes being there (first: {unlabelled[0].sample_id!r})",
            "leave out those that nobody has looked at yet",
            severity="note",
        )
    _orphans(reading, config, set(texts.values()) - used, tally)


def _look(sample_id: str, path: Path, label: Path | None, config: Config, tally: Tally) -> _Image:
    if label is None:
        return _Image(sample_id, path, None)
    rows = read_rows(label)
    names = dict(config.names)
    unknown = sorted(rows.classes - set(names))
    if rows.wrong is not None:
        line, found = rows.wrong
        tally.add("annotation", label, found, _ANEW, sample_id, line=line)
    elif unknown:
        tally.add(
            "annotation",
            label,
            f"the class number {unknown[0]}, which {config.file.name!r} does not name (it names "
            f"{len(names)}, from {min(names)} to {max(names)})",
            "correct the number, or name all classes in the order of their numbers",
            sample_id,
        )
    if rows.outside and not config.pose:
        tally.add(
            "annotation",
            label,
            "numbers that are no shares of the image's sides (0 to 1): read for tags only",
            "divide x by the image's width, y by its height",
            severity="note",
        )
    if rows.scored:
        tally.add(
            "annotation",
            label,
            "boxes with a confidence: these are predictions, not what somebody saw",
            "nothing has to be done if they may serve as tags",
            severity="note",
        )
    tags = sorted(rows.classes & set(names))
    return _Image(
        sample_id,
        path,
        label,
        tuple(dict.fromkeys(names[k] for k in tags if not is_background(names[k]))),
        usable=rows.wrong is None and not unknown,
        polygons=len(rows.rows),
        others=rows.others,
        quads=all(len(values) == 8 for _, values in rows.rows),
        outside=rows.outside,
    )


def _orphans(reading: Reading, config: Config, texts: set[Path], tally: Tally) -> None:
    """Label files of no image."""
    for path in sorted(texts):
        parts = _key(path, config.folder).split("/")
        folders = [part.casefold() for part in parts[:-1]]
        if path.name.casefold() in NAME_FILES:
            continue
        if _LABELS not in folders:
            rows = read_rows(path)
            if rows.wrong or not rows.classes:
                continue
        if _LABELS in folders:
            place = len(folders) - 1 - folders[::-1].index(_LABELS)
            beside = config.folder.joinpath(*parts[:place])
            images = find_folder(beside, _IMAGES)
            parts[place : place + 1] = [images.name] if images else []
        if reading.listing.root != config.folder:
            parts = parts[1:]
        tally.add(
            "image_missing",
            path,
            "a label file of no image",
            "add the image, or remove the label file",
            "/".join(parts),
        )


def _texts(folder: Path) -> Iterator[Path]:
    """Text files that may be label files."""
    for path in files_below(folder, ".txt"):
        if path.name.casefold() not in NAME_FILES:
            yield path


def _is_label_of_image(path: Path, folder: Path) -> bool:
    """Whether a text file looks like a label file, and there is an image that it is of."""
    first = next((line for line in ends(path).splitlines() if line.strip()), b"")
    if not re.fullmatch(rb"\s*\d+(\.0*)?(\s+-?[0-9.]+(e-?\d+)?){4,}\s*", first, re.IGNORECASE):
        return False
    return any(
        (folder / f"{name}{suffix}").is_file()
        for name in beside(path, folder)
        for suffix in _usual_suffixes()
    )


def _usual_suffixes() -> Iterator[str]:
    for suffix in sorted(SUFFIXES):
        yield suffix
        yield suffix.upper()


def _label_names(key: str) -> list[str]:
    """Where the label file of an image may be, the likeliest first; both without suffix."""
    parts = key.split("/")
    names = []
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].casefold() == _IMAGES:
            names.append("/".join((*parts[:place], _LABELS, *parts[place + 1 :])))
    below = ["/".join((*parts[:k], _LABELS, *parts[k:])) for k in range(len(parts))]
    return [*names, key, *below]


def _key(path: Path, folder: Path) -> str:
    relative = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
    return relative.removesuffix(path.suffix)


def _images_folder(folder: Path, whole: Listing, members: dict[str, frozenset[Path]]) -> Listing:
    """The folder `images` if all images are in it, else the source's folder."""
    images = find_folder(folder, _IMAGES)
    if images is None:
        return whole
    told = [path for part in members.values() for path in part]
    every = told or [path for paths in whole.images.values() for path in paths]
    if every and all(path.is_relative_to(images) for path in every):
        return scan(images, folder)
    return whole
