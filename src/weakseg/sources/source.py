"""A source by its path: its kind is found by looking, its samples become a catalog."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

from weakseg.data.decode import SUFFIXES
from weakseg.faults import Fault, listed, unprintable
from weakseg.sources.class_names import CLASSES_FILE, MAX_CLASSES, Declared, no_class, read_classes
from weakseg.sources.formats.voc import devkit_root
from weakseg.sources.image_index import Listing, subfolders
from weakseg.sources.mask_files import MaskFiles, find_masks, renamed_note
from weakseg.sources.readers import READERS
from weakseg.sources.reading import Entry, Reading, ReadingOptions, Request, TableOptions
from weakseg.sources.splits import ids_of, split_files, take_split
from weakseg.sources.text import read_list
from weakseg.types import Catalog, DataError, Sample

_log = logging.getLogger(__name__)

_WITHOUT_WORDS = ("masks", "imagefolder")
"""Kinds recognised by folders alone: nearly every folder of annotated images is one of these."""

_MAY_ANNOTATE = frozenset((".json", ".xml", ".txt", ".csv", ".tsv", ".jsonl", ".yaml", ".yml"))
_LOOKED_AT = 10_000  # files of a folder


@dataclass
class Source:
    """A source as it was found, before anything is left out.

    Attributes:
        path: Where it is.
        kind: One of `READERS`.
        split: The split that is wanted, or None for all.
        reading: What its reader found.
        classes: The class names in the order of their mask indices.
        declared: What `classes.txt` says, or None.
        wanted: Ids of the split, or None for all.
        masks: Its mask files.
        faults: Faults of `classes.txt`, the split and the truth folder.
        ignore_alpha: Whether images are read without their fourth channel.
    """

    path: Path
    kind: str
    split: str | None
    reading: Reading
    classes: tuple[str, ...] = ()
    declared: Declared | None = None
    wanted: frozenset[str] | None = None
    masks: MaskFiles = field(default_factory=MaskFiles)
    faults: list[Fault] = field(default_factory=list)
    ignore_alpha: bool = False
    _catalog: Catalog | None = field(default=None, repr=False)

    @property
    def fatal(self) -> list[Fault]:
        """What leaves nothing to read."""
        return [*self.reading.fatal, *(self.declared.fatal if self.declared else [])]

    @property
    def names_fixed(self) -> bool:
        """Whether the class names are declared rather than gathered from the tags."""
        return self.declared is not None or self.reading.declared

    def usable(self) -> dict[str, Entry]:
        """Per id of the split, sorted, its first entry that can become a sample."""
        known = set(self.classes)
        best: dict[str, Entry] = {}
        for entry in self.reading.entries:
            if entry.image is None or not entry.usable or not known.issuperset(entry.names):
                continue
            if self.wanted is None or entry.id in self.wanted:
                best.setdefault(entry.id, entry)
        return dict(sorted(best.items()))

    def catalog(self) -> Catalog:
        """The catalog of everything that is usable."""
        if self._catalog is not None:
            return self._catalog
        index = {name: i for i, name in enumerate(self.classes)}
        known: dict[frozenset[int], frozenset[int]] = {}

        def tags_of(entry: Entry) -> frozenset[int]:
            tags = frozenset(index[name] for name in entry.names)
            return known.setdefault(tags, tags)  # most are alike, and each takes 200 bytes

        samples = tuple(
            Sample(
                id=sample_id,
                image=entry.image,
                tags=tags_of(entry),
                mask=self.masks.plain.get(sample_id) or entry.mask,
                annotation=None
                if sample_id in self.masks.plain or entry.mask
                else self.masks.mapped.get(sample_id) or entry.truth,
                ignore_alpha=self.ignore_alpha,
            )
            for sample_id, entry in self.usable().items()
            if entry.image is not None
        )
        self._catalog = Catalog(self.classes, samples)
        return self._catalog


def open_catalog(
    source: str | Path,
    *,
    kind: str | None = None,
    split: str | None = None,
    **reading: Unpack[ReadingOptions],
) -> Catalog:
    """Opens a source of images and tags.

    Kinds, looked for in this order: `tags` (a file `labels.csv`, `.tsv` or `.jsonl`; images beside
    it, in `images/` or in `JPEGImages/`), `voc` (a devkit), `coco` (instances JSON), annotations of
    `label-studio`, `cvat`, `via`, `labelme`, `pascal-xml` (LabelImg) and `yolo`, `masks` (images
    and index masks), `imagefolder` (`<class>/<image>`). Whatever the kind,
    `ImageSets/Segmentation/*.txt` are splits, files of `SegmentationClass/` or `masks/` that bear
    an image's name are its truth, and `classes.txt` fixes the class names and their order;
    otherwise names are sorted.

    No image is decoded (but a devkit without XML annotations has its tags read from its masks).
    Rows that cannot be used (no such image, a path that leaves the folder, a tag that `classes.txt`
    does not know …) are left out with a warning; `check_catalog` tells why.

    Args:
        source: A folder, a tags file or a COCO JSON.
        kind: One of `READERS`, or None: look.
        split: The name of a split, or None: all images.
        reading: See `ReadingOptions`.

    Returns:
        The catalog, its samples sorted by id.

    Raises:
        DataError: There is nothing here, the kind or split is unknown, the header of the tags file
            is wrong, or no image is left.

    Example:
        >>> catalog = open_catalog("photos", split="train")  # doctest: +SKIP
        >>> catalog.classes, len(catalog)  # doctest: +SKIP
        (('cat', 'dog'), 120)
    """
    found = read_source(source, kind=kind, split=split, **reading)
    if found.fatal:
        raise DataError(str(found.fatal[0]))
    catalog = found.catalog()
    faults = [fault for fault in found.reading.faults if fault.severity == "fault"]
    reported = {entry.id for entry in found.reading.entries}
    reported.update(sample for fault in faults for sample in fault.samples)
    if found.wanted is not None:
        reported &= found.wanted
    if not catalog.samples:
        why = (
            f" ({len(reported)} cannot be used; first fault: {faults[0]})"
            if faults and reported
            else ""
        )
        raise DataError(f"{source}: no images found{why}; weakseg check lists what is wrong")
    left_out = len(reported) - len(catalog)
    if left_out:
        _log.warning(
            "%s: %d of %d images cannot be used and are left out; weakseg check lists them",
            source,
            left_out,
            len(reported),
        )
    return catalog


def read_source(
    source: str | Path,
    *,
    kind: str | None = None,
    split: str | None = None,
    **reading: Unpack[ReadingOptions],
) -> Source:
    """Reads what a source says of its images, keeping every fault.

    Args:
        source: A folder, a tags file or a COCO JSON.
        kind: One of `READERS`, or None: look.
        split: The name of a split, or None: all images.
        reading: See `ReadingOptions`.

    Returns:
        What was found.

    Raises:
        DataError: The source, its kind or the split is unknown, or it cannot be read at all.
    """
    path = Path(source).expanduser()
    if kind is not None and kind not in READERS:
        raise DataError(f"unknown kind {kind!r}; known kinds: {', '.join(READERS)}")
    try:
        if not path.exists():
            raise DataError(f"{source}: there is no such file or folder; check the path")
        table = TableOptions(
            reading.get("image_column"), reading.get("tags_column"), reading.get("separator")
        )
        kinds = [kind] if kind else _find_kinds(path)
        found = _read(path, kinds[0], split, table)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{source}: cannot be read ({reason}); check its permissions") from error
    if len(kinds) > 1:
        found.faults.append(_several_kinds(path, kinds))
    found.ignore_alpha = reading.get("ignore_alpha", False)
    return found


def _read(path: Path, kind: str, split: str | None, table: TableOptions) -> Source:
    reader = READERS[kind]
    folder = _folder(path, kind)
    files = split_files(folder)
    parts = reader.parts(path)
    part = None
    lines: list[tuple[int, str]] = []
    faults: list[Fault] = []
    if split is not None and split not in files:
        part = parts.get(split)
    elif split is not None:
        lines, faults = read_list(files[split])
    only = frozenset(name for _, line in lines for name in ids_of(line)) if lines else None
    reading = reader.read(Request(path, part, only, table))
    reading.note_elsewhere()
    if split is not None and split not in files and part is None:
        if split not in reading.splits and not reading.fatal:
            known = sorted({*files, *parts, *reading.splits})
            names = f"known splits: {', '.join(known)}" if known else "this source has no splits"
            raise DataError(f"{path}: unknown split {split!r}; {names}")
        reading.wanted = reading.splits.get(split)
    found = Source(path, kind, split, reading, faults=faults, wanted=reading.wanted)
    found.declared = None if reading.list_read else read_classes(reading.folder)
    if found.declared:
        found.faults += found.declared.faults
    found.masks = find_masks(reading.folder, reading.listing.images, found.declared)
    if found.masks.listing:
        found.faults += found.masks.listing.faults
    found.faults += renamed_note(found.masks)
    if split is not None and split in files:
        found.wanted, more = take_split(reading, files[split], lines)
        found.faults += more
    reading.listing = Listing(reading.listing.root)  # of very many images it takes memory
    found.classes = _class_names(found)
    strange = [name for name in found.classes if unprintable(name)]
    if strange and not found.declared:
        reading.fatal.append(
            Fault(
                kind="tag_characters",
                file=str(path),
                found=f"the class {strange[0]!r} has control characters",
                remedy="rename it where the source lists its classes",
            )
        )
    if len(found.classes) > MAX_CLASSES:
        reading.fatal.append(
            Fault(
                kind="tags_file",
                file=str(path),
                found=f"{len(found.classes)} classes, more than the {MAX_CLASSES} a mask can hold",
                remedy="leave some out",
            )
        )
    return found


def _find_kinds(path: Path) -> list[str]:
    """The kinds that a source may be, the first being the one that is read."""
    found: list[str] = []
    for name, reader in READERS.items():
        if found and (path.is_file() or name in _WITHOUT_WORDS):
            break
        try:
            if reader.fits(path):
                found.append(name)
        except DataError:
            if not found:
                raise
    if found:
        return found
    if path.is_file():
        raise DataError(
            f"{path}: is neither a tags file (.csv, .tsv, .jsonl) nor another tool's annotations "
            "(COCO, Label Studio, CVAT, VIA, labelme, YOLO's data.yaml); name a folder of images"
        )
    images, strangers = _look_around(path)
    unread = ""
    if strangers:
        unread = (
            f"; nothing reads {listed(strangers)}: if tags are in there, export them from your "
            "tool as COCO, VOC, YOLO or CSV"
        )
    if images:
        raise DataError(
            f"{path}: there are images but no tags{unread}; write labels.csv with the header "
            "'image,tags'"
        )
    raise DataError(
        f"{path}: no images found{unread}; known kinds of sources: {', '.join(READERS)}"
    )


def _several_kinds(path: Path, kinds: list[str]) -> Fault:
    return Fault(
        kind="annotation",
        file=str(path),
        found=f"read as {kinds[0]}; there are also annotations of {', '.join(kinds[1:])}",
        remedy=f"give --kind {kinds[1]} if those are meant",
        severity="note",
    )


def _look_around(folder: Path) -> tuple[bool, list[str]]:
    """Whether there are images near the top of a folder, and files that may hold annotations."""
    images, strangers = False, []
    for place in (folder, *subfolders(folder)):
        try:
            children = sorted(place.iterdir())[:_LOOKED_AT]
        except OSError:
            continue
        for child in children:
            if child.suffix.lower() in SUFFIXES:
                images = True
            elif child.suffix.lower() in _MAY_ANNOTATE and child.is_file():
                strangers.append(child.relative_to(folder).as_posix())
            elif child.is_dir() and not images:
                images = any(
                    file.suffix.lower() in SUFFIXES for file in sorted(child.glob("*"))[:100]
                )
    return images, strangers


def _folder(path: Path, kind: str) -> Path:
    """Where the source's `ImageSets` may be."""
    folder = path if path.is_dir() else path.parent
    if kind == "voc":
        return devkit_root(path) or folder
    if path.is_file() and folder.name.casefold() == "annotations":
        return folder.parent
    return folder


def _class_names(found: Source) -> tuple[str, ...]:
    if found.declared:
        return found.declared.names
    if found.reading.declared:
        return found.reading.names
    # Of all images, not of the split's: the splits of a source share their classes.
    borne = {
        name
        for entry in found.reading.entries
        if entry.usable and entry.image is not None
        for name in entry.names
        if no_class(name) is None
    }
    return tuple(sorted(borne.union(found.reading.names)))


def declarer(found: Source) -> str:
    """What fixes the class names, in words."""
    return CLASSES_FILE if found.declared else "the categories"
