"""What was marked in images by a tool: their tags, and true masks where every mark has pixels."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.data.truth import IGNORED, Region, RegionMask
from weakseg.faults import listed
from weakseg.sources.annotation_files import Tally
from weakseg.sources.class_names import CLASSES_FILE, fold
from weakseg.sources.image_index import MASK_FOLDERS, find_folder
from weakseg.sources.reading import Entry, Reading

IGNORE_NAME = "__ignore__"
"""The label of pixels that nobody is to look at, as labelme writes it."""

_LONG = 1 << 20  # pixels
_FAR = 1e9  # pixels; also keeps out what is no number (nan) or without end


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that was marked in an image.

    Attributes:
        name: Its class as written; empty if none was given.
        form: How `shape` tells its pixels (see `weakseg.data.truth.FORMS`); None: it tells where
            something is, but not which pixels are its (a box, a line, a point).
        shape: As the form has it.
    """

    name: str
    form: str | None = None
    shape: Any = None


@dataclass
class Marked:
    """All that was marked in one image.

    Attributes:
        file: The annotation file.
        sample_id: The image's id.
        images: Its files; several only if they differ in their suffix alone.
        marks: Its marks, later ones over earlier ones.
        tags: What the image as a whole was said to show.
        size: Its height and width by the annotation, or None.
        exact: Whether the pixels of its marks may be taken for true.
        line: The line of the file, or None.
        usable: Whether it becomes a sample.
    """

    file: Path
    sample_id: str
    images: list[Path]
    marks: list[Mark] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    exact: bool = True
    line: int | None = None
    usable: bool = True


def side(value: Any) -> bool:
    """Whether a value may be an image's height or width in pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LONG


def is_background(name: str) -> bool:
    """Whether a label means background (`background`, `_background_` …), which is no class."""
    return fold(name).strip("_") == "background"


def add_entries(reading: Reading, marked: Iterable[Marked], tally: Tally) -> None:
    """Makes entries of what was marked.

    Tags are the names of marks and of the image as a whole. A true mask is there where every mark
    has pixels and every tag a mark; once some image has one, images without any mark are all
    background. Spaces around names are removed, pixels labelled `__ignore__` are ignored, what is
    labelled background shows no class.

    Args:
        reading: Where the entries go.
        marked: What was marked.
        tally: Where faults and notes go.
    """
    told: list[tuple[Marked, tuple[str, ...], tuple[Region, ...] | None]] = []
    counts = _Counts()
    for item in marked:
        names = tuple(dict.fromkeys(_names(item, counts)))
        told.append((item, names, _regions(item, names)))
    empty_is_true = any(regions for _, _, regions in told)
    for item, names, regions in told:
        if item.usable and not item.marks and not item.tags:
            counts.unmarked.append(item.sample_id)
        for image in (*item.images, *(() if item.images else (None,))):
            truth = None
            if image is not None and regions is not None and (regions or empty_is_true):
                truth = RegionMask(item.file, item.size or image, regions)
            reading.entries.append(
                Entry(
                    item.sample_id,
                    image,
                    names,
                    item.file,
                    line=item.line,
                    usable=item.usable and image is not None,
                    truth=truth,
                )
            )
    if told:
        counts.into(tally, told[0][0].file, len(told))


def declare(reading: Reading, names: Iterable[str], place: Path, tally: Tally) -> None:
    """Makes a tool's list of classes the reading's, without those that no image shows.

    All stay where there are masks beside the annotations: their indices count by the list.

    Args:
        reading: Its entries are there.
        names: The list, in its order.
        place: The file that holds it.
        tally: Where a note goes.
    """
    known = list(dict.fromkeys(name for name in names if not is_background(name)))
    reading.declared = bool(known)
    if any(find_folder(reading.folder, name) for name in MASK_FOLDERS):
        reading.names, reading.shipped = tuple(known), True
        return
    borne = {name for entry in reading.entries for name in entry.names}
    used = [name for name in known if name in borne]
    if used and len(used) < len(known):
        unused = [name for name in known if name not in borne]
        tally.add(
            "class_unused",
            place,
            f"{len(unused)} of {len(known)} classes are in no image and are left out: "
            f"{listed(unused)}",
            "nothing has to be done"
            if place == reading.folder / CLASSES_FILE
            else f"nothing has to be done; name all classes in {CLASSES_FILE} to keep them",
            severity="note",
        )
    reading.names = tuple(used or known)


@dataclass
class _Counts:
    unmarked: list[str] = field(default_factory=list)
    blank: list[tuple[Marked, str]] = field(default_factory=list)
    nameless: list[Marked] = field(default_factory=list)
    background: list[tuple[Marked, str]] = field(default_factory=list)

    def into(self, tally: Tally, place: Path, total: int) -> None:
        if self.unmarked:
            some = self.unmarked
            tally.add(
                "annotation",
                place,
                f"nothing is marked in {len(some)} of {total} images, which is read as none of the "
                f"classes being there (first: {some[0]!r})",
                "leave out those that nobody has looked at yet",
                severity="note",
            )
        for item, name in self.blank:
            tally.add(
                "tag_blanks",
                item.file,
                f"spaces around the label {name!r} (removed)",
                "nothing has to be done",
                severity="note",
            )
        for item in self.nameless:
            tally.add(
                "annotation",
                item.file,
                f"a mark without a label in image {item.sample_id!r}",
                "give it a label, or delete it",
                item.sample_id,
            )
        for item, name in self.background:
            tally.add(
                "annotation",
                item.file,
                f"the label {name!r} is read as background, which is no class",
                "nothing has to be done",
                severity="note",
            )


def _names(item: Marked, counts: _Counts) -> Iterable[str]:
    for written in (*(mark.name for mark in item.marks), *item.tags):
        name = written.strip()
        if name != written and name:
            counts.blank.append((item, written))
        if not name:
            counts.nameless.append(item)
        elif is_background(name):
            counts.background.append((item, name))
        elif name != IGNORE_NAME:
            yield name


def _regions(item: Marked, names: Sequence[str]) -> tuple[Region, ...] | None:
    """What to draw, or None where pixels are not known."""
    if not item.exact or not item.usable:
        return None
    regions = []
    for mark in item.marks:
        name = mark.name.strip()
        if mark.form is None or not name:
            return None
        regions.append(Region(IGNORED if name == IGNORE_NAME else name, mark.form, mark.shape))
    drawn = {region.name for region in regions}
    return tuple(regions) if drawn.issuperset(names) else None


def numbers(value: Any, count: int | None = None) -> array[float] | None:
    """Finite numbers, one after the other, or None if a value is nothing else.

    Args:
        value: A list of numbers, or of lists of numbers.
        count: How many there have to be; None: any number.
    """
    if not isinstance(value, list):
        return None
    flat = [part for item in value for part in (item if isinstance(item, list) else [item])]
    if count is not None and len(flat) != count:
        return None
    if not all(isinstance(part, int | float) and abs(part) < _FAR for part in flat):
        return None
    return array("d", flat)
