"""What a reader hands on: entries with the names of what is in them, not yet a catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from weakseg.faults import Fault, FaultKind, listed
from weakseg.path_texts import paths_as_text
from weakseg.sources.image_index import Listing
from weakseg.types import Annotation


@dataclass(frozen=True)
class TableOptions:
    """How a table of tags is to be read where that cannot be told by looking.

    Attributes:
        image_column: The header of the column that names the images; None: a usual name.
        tags_column: The header of the column that holds the tags; None: a usual name.
        separator: What separates the tags of a cell; None: told by looking.
    """

    image_column: str | None = None
    tags_column: str | None = None
    separator: str | None = None


USUAL_TABLE = TableOptions()
"""Everything told by looking."""


class ReadingOptions(TypedDict, total=False):
    """How a source is to be read, where looking does not tell.

    Attributes:
        image_column: The header of the table's column that names the images.
        tags_column: The header of its column that holds the tags.
        separator: What separates the tags of a cell.
        ignore_alpha: Whether an image's fourth channel is left out rather than read as
            transparency.
    """

    image_column: str | None
    tags_column: str | None
    separator: str | None
    ignore_alpha: bool


@dataclass(frozen=True)
class Request:
    """What a reader is asked for.

    Attributes:
        path: The source as it was given: a folder or a file.
        part: The one of the reader's own parts that is wanted, or None for all.
        only: Ids that are wanted, or None: a reader may spare itself the others.
        table: How tables of tags are to be read.
    """

    path: Path
    part: Path | None = None
    only: frozenset[str] | None = None
    table: TableOptions = USUAL_TABLE


@paths_as_text
class _Files:
    __slots__ = ("image", "mask")


@dataclass(frozen=True, slots=True)
class Entry(_Files):
    """One image as a source tells of it.

    Attributes:
        id: The id its sample has.
        image: Its file, or None if there is none that may be used.
        names: The names of what is in it, as written.
        file: The file (or folder) that says so.
        line: The line of that file, or None.
        usable: Whether it becomes a sample; what is not usable is among the faults.
        cell: Its tags as one text, where they were written so.
        truth: Its true mask, where the source tells more than tags.
        mask: The same as a mask file whose index k is the k-th class.
    """

    id: str
    image: Path | None
    names: tuple[str, ...]
    file: Path
    line: int | None = None
    usable: bool = True
    cell: str | None = None
    truth: Annotation | None = None
    mask: Path | None = None


@dataclass
class Reading:
    """Everything a reader found, faults included.

    Attributes:
        folder: The source's folder: `classes.txt` and truth are looked for here.
        listing: Its image files; let go when the source is read.
        entries: Its images in the order of the source; ids may repeat.
        names: Class names that are known without an image that bears them.
        declared: `names` are all there are, in the order of their mask indices.
        partial: There may be images that were not read, because a split was asked for.
        wanted: Ids of the part that was asked for, or None for all.
        shipped: `names` are a data set's fixed list: that some are unused is no fault.
        list_read: The reader took the class numbers from `classes.txt`, which is not read again.
        splits: The ids of splits that the source's own table names.
        faults: What is wrong, in the order found.
        fatal: What leaves nothing to read.
    """

    folder: Path
    listing: Listing
    entries: list[Entry] = field(default_factory=list)
    names: tuple[str, ...] = ()
    declared: bool = False
    shipped: bool = False
    list_read: bool = False
    partial: bool = False
    wanted: frozenset[str] | None = None
    splits: dict[str, frozenset[str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    fatal: list[Fault] = field(default_factory=list)

    def fault(
        self,
        kind: FaultKind,
        file: Path,
        found: str,
        remedy: str,
        *samples: str,
        line: int | None = None,
    ) -> None:
        """Adds a fault."""
        self.faults.append(
            Fault(kind=kind, file=str(file), line=line, found=found, remedy=remedy, samples=samples)
        )

    def note(self, kind: FaultKind, file: Path, found: str, remedy: str) -> None:
        """Adds a note."""
        self.faults.append(
            Fault(kind=kind, file=str(file), found=found, remedy=remedy, severity="note")
        )

    def add_link_faults(self) -> None:
        """Adds the links that leave the image folder, unless an entry's own fault tells of them."""
        told = {sample for f in self.faults if f.kind == "path_leaves" for sample in f.samples}
        self.faults += [f for f in self.listing.faults if told.isdisjoint(f.samples)]

    def note_elsewhere(self) -> None:
        """Notes, once for all, the images that were found by the end of their names alone."""
        found = self.listing.elsewhere
        if found:
            name, path = next(iter(found.items()))
            here = path.relative_to(self.listing.root).as_posix()
            self.note(
                "image_elsewhere",
                self.listing.root,
                f"{len(found)} image{'s' * (len(found) != 1)} named by a path of another place, "
                f"found by its end: {name!r} is taken for {here!r}",
                f"nothing has to be done if that is right; else name images by their path below "
                f"{self.listing.root.name!r}",
            )

    def note_unnamed(self, teller: Path) -> None:
        """Notes the image files that no entry speaks of."""
        named = {entry.id for entry in self.entries}
        named.update(sample for fault in self.faults for sample in fault.samples)
        unnamed = sorted(set(self.listing.images) - named)
        if unnamed:
            self.note(
                "image_unnamed",
                self.listing.root,
                f"{len(unnamed)} image{'s' * (len(unnamed) != 1)} that {teller.name!r} does not "
                f"name, left out: {listed(unnamed)}",
                f"add them to {teller.name!r} if they are wanted",
            )
