"""LabelImg and Roboflow's Pascal VOC: one XML a photo, beside it or in a folder of annotations."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

from weakseg.sources.annotation_files import (
    Tally,
    beside,
    best_listing,
    files_below,
    folder_splits,
    images_of,
    load_xml,
    xml_root,
)
from weakseg.sources.formats.voc import devkit_root
from weakseg.sources.marks import Mark, Marked, add_entries
from weakseg.sources.reading import Reading, Request

_ROOT = "annotation"
_LOOKED_AT = 5
_ANEW = "write the annotation anew"


def is_pascal_xml(source: Path) -> bool:
    """Whether a file is an annotation in VOC's XML, or a folder that is no devkit has some."""
    if source.is_file():
        return source.suffix.lower() == ".xml" and xml_root(source)[0] == _ROOT
    some = list(islice(files_below(source, ".xml"), _LOOKED_AT))
    return any(xml_root(file)[0] == _ROOT for file in some) and devkit_root(source) is None


def read_pascal_xml(request: Request) -> Reading:
    """Reads VOC's XML annotations that are not in a devkit.

    Tags are the names of the `object` elements (difficult ones too: they are in the image); boxes
    give no true pixels. An XML is of the image that bears its name: beside it, in a folder of
    images parallel to the folder of annotations, or in the folder around that; else of the image
    that its `filename` names.

    Args:
        request: What is wanted.

    Returns:
        One entry per XML.
    """
    source = request.path
    folder = source if source.is_dir() else source.parent
    paths = [source] if source.is_file() else list(files_below(source, ".xml"))
    tally = Tally()
    found = [(path, *load_xml(path)) for path in paths]
    strangers = [path for path, root, _ in found if root is not None and root.tag != _ROOT]
    files = [item for item in found if item[0] not in set(strangers)]
    if strangers:
        tally.add(
            "annotation",
            strangers[0],
            f"{len(strangers)} XML files are no annotations of images, so not read",
            "nothing has to be done if they are something else",
            severity="note",
        )
    names = [[*beside(path, folder), *_written(path, root, folder)] for path, root, _ in files]
    listing = best_listing(folder, names)
    marked: list[Marked] = []
    for (path, root, broken), each in zip(files, names, strict=True):
        written = (root.findtext("filename") or "").strip() if root is not None else ""
        sample_id, images, missing = images_of(listing, each, written)
        if missing is not None:
            tally.add(missing.kind, path, missing.found, missing.remedy, sample_id)
        marks = [] if root is None else _marks(root)
        if broken:
            tally.add("annotation", path, broken, _ANEW, sample_id)
        marked.append(Marked(path, sample_id, images, marks, usable=not broken))
    reading = Reading(folder, listing)
    add_entries(reading, marked, tally)
    reading.faults += tally.faults()
    reading.splits = folder_splits(entry.id for entry in reading.entries)
    reading.add_link_faults()
    if source.is_dir():
        reading.note_unnamed(folder)
    return reading


def _marks(root: ElementTree.Element) -> list[Mark]:
    # Only an object's own name: its parts (head, hand …) have names too.
    return [Mark(item.findtext("name") or "") for item in root.findall("object")]


def _written(path: Path, root: ElementTree.Element | None, folder: Path) -> list[str]:
    """Where the image is by the name that the XML itself has of it."""
    name = "" if root is None else (root.findtext("filename") or "").strip()
    name = name.replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", ".."):
        return []
    suffix = Path(name).suffix
    return [stem + suffix for stem in beside(path.with_name(name), folder)]
