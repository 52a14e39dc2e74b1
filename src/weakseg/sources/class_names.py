"""Class names: the list a source declares, and tags that are not what was meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from weakseg.data.truth import IGNORED
from weakseg.faults import Fault, FaultKind, unprintable
from weakseg.sources.cells import lists_tags
from weakseg.sources.reading import Entry
from weakseg.sources.text import read_list

CLASSES_FILE = "classes.txt"
_LABEL_MAP = "labelmap.txt"

CLASS_LISTS = (CLASSES_FILE, "class_names.txt", _LABEL_MAP)
"""Files that list the classes of a source, in the order in which they are looked for."""

MAX_CLASSES = 254
"""Mask indices are bytes: 0 is background, 255 ignored."""

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
"""The twenty classes of PASCAL VOC in the order of their mask indices 1..20."""

_BACKGROUND = "background"

_MISSING_VALUES = frozenset(
    ("nan", "-nan", "none", "null", "nil", "na", "n/a", "#n/a", "#na", "<na>", "undefined")
)
"""What programs write where there is no value; the spellings that pandas reads as such."""

_SIGNS = ",;|[]{}\"'`"
"""Signs of lists and quotes: a name that holds one was probably cut wrongly."""


@dataclass
class Declared:
    """The names that a list of classes fixes, in the order of their mask indices.

    Attributes:
        path: The list.
        names: Of classes 1..K.
        colours: What each colour or index of the masks stands for ("": background, None: ignored),
            in the list's order; empty if index k is the k-th name.
        faults: Faults and notes.
        fatal: Faults that leave nothing to read.
    """

    path: Path
    names: tuple[str, ...] = ()
    colours: dict[int | tuple[int, int, int], str | None] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    fatal: list[Fault] = field(default_factory=list)


def read_classes(folder: Path) -> Declared | None:
    """Reads a list of classes: one name a line, the first having mask index 1.

    `classes.txt`; else `class_names.txt`, as labelme writes it; else `labelmap.txt`, as CVAT and
    Datumaro write it: `name:red,green,blue:parts:actions`. Leading lines for what is ignored
    (`__ignore__`) and for background, index 0, are passed over.

    Args:
        folder: The source's folder.

    Returns:
        The names, or None where there is no such file.

    Raises:
        FileError: The file cannot be opened.
    """
    path = next((folder / name for name in CLASS_LISTS if (folder / name).is_file()), None)
    if path is None:
        return None
    lines, faults = read_list(path)
    declared = Declared(path, faults=faults)
    if path.name == _LABEL_MAP:
        lines = _read_label_map(declared, lines)
    elif lines and fold(lines[0][1]).strip("_") == "ignore":
        lines = lines[1:]
    if lines and fold(lines[0][1]).strip("_") == _BACKGROUND:
        if path.name == CLASSES_FILE:
            declared.faults.append(
                Fault(
                    kind="tags_file",
                    file=str(path),
                    line=1,
                    found="names background, which is index 0 and no class (passed over)",
                    remedy="remove the line",
                    severity="note",
                )
            )
        lines = lines[1:]
    seen: dict[str, str] = {}
    for line, name in lines:
        if fold(name) in seen:
            same = seen[fold(name)]
            found = f"{name!r} is there twice" if same == name else f"{name!r} is also {same!r}"
            declared.fatal.append(
                Fault(
                    kind="tags_file",
                    file=str(path),
                    line=line,
                    found=found,
                    remedy="name each class once",
                )
            )
        seen[fold(name)] = name
        if unprintable(name):
            declared.fatal.append(
                Fault(
                    kind="tag_characters",
                    file=str(path),
                    line=line,
                    found=f"the class {name!r} has control characters",
                    remedy="remove them: names stand in lists, one a line",
                )
            )
    declared.names = tuple(name for _, name in lines)
    if not lines:
        declared.fatal.append(
            Fault(
                kind="tags_file",
                file=str(path),
                found="the file names no class",
                remedy="write one class name a line, or remove the file",
            )
        )
    return declared


def _read_label_map(declared: Declared, lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The names of a `labelmap.txt` with their lines; its colours go to the list."""
    names = []
    for line, text in lines:
        if text.startswith("#"):
            continue
        name, _, rest = text.partition(":")
        numbers = re.fullmatch(r"(\d+)\s*,\s*(\d+)\s*,\s*(\d+)", rest.split(":")[0].strip())
        if numbers is None or max(map(int, numbers.groups())) > 255:
            declared.fatal.append(
                Fault(
                    kind="tags_file",
                    file=str(declared.path),
                    line=line,
                    found=f"{text!r} has no colour",
                    remedy="write 'name:red,green,blue::' with numbers 0 to 255",
                )
            )
            continue
        red, green, blue = map(int, numbers.groups())
        meaning = {_BACKGROUND: "", "ignore": IGNORED, "ignored": IGNORED, "void": IGNORED}
        declared.colours[red, green, blue] = meaning.get(fold(name).strip("_"), name.strip())
        if meaning.get(fold(name).strip("_"), name) is not IGNORED:
            names.append((line, name.strip()))
    return sorted(names, key=lambda item: fold(item[1]).strip("_") != _BACKGROUND)


def fold(name: str) -> str:
    """A name without case, spaces and invisible characters: equal for spellings of one tag."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")


class NoClass(NamedTuple):
    """Why a tag can be no class unless `classes.txt` names it."""

    kind: FaultKind
    found: str
    remedy: str


def no_class(name: str) -> NoClass | None:
    """Why a tag is probably no class's name, or None.

    Args:
        name: The tag.
    """
    if unprintable(name):
        return NoClass(
            "tag_characters",
            f"tag {name!r} has control characters",
            "remove them: names stand in lists, one a line",
        )
    folded = fold(name)
    if folded.strip("_") == _BACKGROUND:
        return NoClass(
            "tag_reserved",
            f"tag {name!r}, which is no class",
            "leave the tags of an image empty if nothing is in it",
        )
    if folded in _MISSING_VALUES:
        return NoClass(
            "tag_reserved",
            f"tag {name!r}, which programs write where there is no value",
            "leave the tags of an image empty if nothing is in it; if it is a class, list all "
            f"classes in {CLASSES_FILE}",
        )
    signs = sorted({sign for sign in name if sign in _SIGNS})
    if signs:
        return NoClass(
            "tag_characters",
            f"tag {name!r} holds {' '.join(signs)}",
            "separate tags by ';', ',' or '|', and give --separator if it is another sign; if the "
            f"name is right, list all classes in {CLASSES_FILE}",
        )
    return None


def name_faults(
    entries: Sequence[Entry], declared: tuple[str, ...] | None, declarer: str
) -> tuple[list[Fault], frozenset[str]]:
    """Tags that are misspelt, unknown, reserved, or borne by one image only.

    Of several spellings that differ in case or spaces only, the declared or most frequent one is
    right. Without declared names a tag on a single image is taken for a slip.

    Args:
        entries: All entries of the source.
        declared: The names that are all there are, or None.
        declarer: What declares them, for the remedy.

    Returns:
        The faults, sorted by name; the names that are no real classes because of them.
    """
    bearers = _bearers(entries)
    known = frozenset(declared or ())
    groups: dict[str, list[str]] = {}
    for name in sorted({*bearers, *known}):
        groups.setdefault(fold(name), []).append(name)
    faults: list[Fault] = []
    doubtful: set[str] = set()

    def report(kind: FaultKind, name: str, found: str, remedy: str) -> None:
        first = bearers[name][0]
        samples = tuple(sorted({entry.id for entry in bearers[name]}))
        faults.append(
            Fault(
                kind=kind,
                file=str(first.file),
                line=first.line,
                found=found + _lines(bearers[name]),
                remedy=remedy,
                samples=samples,
            )
        )
        doubtful.add(name)

    def frequency(name: str) -> tuple[bool, int, bool, int, str]:
        tidy = name == name.lower()
        return name not in known, -len(_ids(bearers.get(name, ()))), not tidy, len(name), name

    rights: list[str] = []
    for names in groups.values():
        right, *others = sorted(names, key=frequency)
        rights.append(right)
        for name in others:
            if name not in known:
                usual = len(_ids(bearers.get(right, ())))
                report(
                    "tag_spelling",
                    name,
                    f"tag {name!r}, elsewhere {right!r} ({_images(usual)})",
                    f"write {right!r}",
                )
    for name in rights:
        if name in known:
            continue
        count = len(_ids(bearers[name]))
        if (reason := no_class(name)) is not None and (
            declared is None or reason.kind == "tag_reserved"
        ):
            report(reason.kind, name, reason.found, reason.remedy)
        elif declared is not None:
            hint = _nearest(name, declared)
            report(
                "tag_unknown",
                name,
                f"tag {name!r} is not in {declarer}",
                f"{hint}, or add it to {declarer}"
                if hint
                else f"correct it or add it to {declarer}",
            )
        elif count == 1:
            hint = _nearest(name, [other for other in rights if other != name])
            right = f"list all classes in {CLASSES_FILE} if it is right"
            report(
                "tag_once",
                name,
                f"tag {name!r} is on one image only",
                f"{hint} Otherwise {right}" if hint else right,
            )
    faults += _split_names(entries, {*rights, *known})
    return faults, frozenset(doubtful)


def word_notes(entries: Sequence[Entry]) -> list[Fault]:
    """Notes of words that may be one name: they occur only together, one behind the other.

    Only cells in which spaces separate the tags are doubtful: `traffic light`.

    Args:
        entries: All entries of the source.
    """
    doubtful = [e for e in entries if e.cell is not None and not lists_tags(e.cell)]
    pairs: dict[tuple[str, str], list[Entry]] = {}
    for entry in doubtful:
        for pair in pairwise(entry.names):
            pairs.setdefault(pair, []).append(entry)
    alone = Counter(name for entry in entries for name in set(entry.names))
    found = {
        first: second
        for (first, second), bearers in pairs.items()
        if len(bearers) > 1 and alone[first] == alone[second] == len(bearers)
    }
    notes = []
    for start in [name for name in found if name not in found.values()]:
        words = [start]
        while words[-1] in found:
            words.append(found[words[-1]])
        name, first = " ".join(words), pairs[words[0], words[1]][0]
        notes.append(
            Fault(
                kind="tag_words",
                file=str(first.file),
                line=first.line,
                found=f"{' and '.join(map(repr, words))} are read as {len(words)} tags, but occur "
                f"only together ({_images(alone[start])})",
                remedy=f"if they are one name, end it by a semicolon: '{name};'",
                severity="note",
            )
        )
    return notes


def _split_names(entries: Iterable[Entry], names: Iterable[str]) -> list[Fault]:
    """Cells without `;` in which a name of several words was taken apart at its spaces."""
    several = sorted(name for name in names if len(name.split()) > 1)
    faults = []
    for entry in entries:
        if not several or entry.cell is None or lists_tags(entry.cell):
            continue
        text = f" {' '.join(entry.cell.split())} "
        faults += [
            Fault(
                kind="tag_blanks",
                file=str(entry.file),
                line=entry.line,
                found=f"{name!r} is read as the tags {' and '.join(map(repr, name.split()))}",
                remedy=f"end it by a semicolon: '{name};'",
                samples=(entry.id,),
            )
            for name in several
            if f" {name} " in text
        ]
    return faults


def _bearers(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    bearers: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in entry.names:
            bearers.setdefault(name, []).append(entry)
    return bearers


def _ids(entries: Iterable[Entry]) -> set[str]:
    return {entry.id for entry in entries}


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _lines(entries: Sequence[Entry]) -> str:
    """Where else a tag is found, the first place being reported already."""
    numbers = [str(entry.line) for entry in entries[1:] if entry.line is not None]
    if not numbers:
        return ""
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f", also on line{'s' * (len(numbers) > 1)} {', '.join(numbers[:5])}{more}"


def _nearest(name: str, names: Sequence[str]) -> str:
    folded = {fold(other): other for other in names}
    near = difflib.get_close_matches(fold(name), sorted(folded), n=1, cutoff=0.6)
    return f"did you mean {folded[near[0]]!r}?" if near else ""
