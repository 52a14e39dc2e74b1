"""Splits of a source: lists of images in `ImageSets`."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from weakseg.data.decode import SUFFIXES
from weakseg.faults import Fault
from weakseg.sources.image_index import IMAGE_FOLDERS, SPLIT_FOLDER, find_folder
from weakseg.sources.reading import Reading


def split_files(folder: Path) -> dict[str, Path]:
    """Split names and files: `ImageSets/Segmentation/*.txt`, else `Main`, else itself."""
    sets = find_folder(folder, SPLIT_FOLDER)
    if sets is None:
        return {}
    for place in (find_folder(sets, "Segmentation"), find_folder(sets, "Main"), sets):
        files = sorted(place.glob("*.txt")) if place else []
        if files:
            return {file.stem: file for file in files if not file.name.startswith(".")}
    return {}


def ids_of(line: str) -> list[str]:
    """The ids a line of a split may mean, the likeliest first.

    A line is an id; or an id and 1, 0 or −1 (VOC's per-class lists; −1: not in the class); or the
    paths of an image and its mask.
    """
    flagged = re.fullmatch(r"(.*\S)\s+(-1|0|1)", line)
    names = [line]
    if flagged:
        names.append(flagged[1])
    elif len(line.split()) > 1:
        names.append(line.split(maxsplit=1)[0])
    return [_plain_id(name) for name in names]


def _plain_id(name: str) -> str:
    name = name.replace("\\", "/").removeprefix("./").lstrip("/")
    for folder in IMAGE_FOLDERS:
        name = name.removeprefix(f"{folder}/")
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def take_split(
    reading: Reading, file: Path, lines: list[tuple[int, str]]
) -> tuple[frozenset[str], list[Fault]]:
    """Which images a split means.

    Args:
        reading: What the source has.
        file: The split's file.
        lines: Its lines that are not blank, with their numbers.

    Returns:
        The ids of the split, those of lines that lead nowhere too; faults of such lines.
    """
    faults: list[Fault] = []
    told = {entry.id for entry in reading.entries}
    there: Collection[str] = reading.listing.images
    wanted: dict[str, int] = {}
    for number, line in lines:
        names = ids_of(line)
        known = next((name for name in names if name in told), None)
        name = known or next((name for name in names if name in there), names[0])
        if line.split()[-1] == "-1" and name != names[0]:
            continue
        if known is None:
            missing = "is not named by the source's tags" if name in there else "does not exist"
            faults.append(
                Fault(
                    kind="split",
                    file=str(file),
                    line=number,
                    found=f"image {name!r} {missing}",
                    remedy="correct or remove the line",
                    samples=(name,),
                )
            )
        elif name in wanted:
            faults.append(
                Fault(
                    kind="split",
                    file=str(file),
                    line=number,
                    found=f"{name!r} is also on line {wanted[name]} (taken once)",
                    remedy="remove one of the lines",
                    severity="note",
                )
            )
        wanted.setdefault(name, number)
    return frozenset(wanted), faults
