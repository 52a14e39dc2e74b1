"""PASCAL VOC devkits: tags from XML annotations, else from masks."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from weakseg.sources.class_names import CLASSES_FILE, VOC_CLASSES, read_classes
from weakseg.sources.image_index import MASK_FOLDERS, Missing, find_folder, scan
from weakseg.sources.mask_files import find_masks
from weakseg.sources.mask_tags import read_tags_of_masks
from weakseg.sources.reading import Entry, Reading, Request
from weakseg.types import DataError

_IMAGES, _ANNOTATIONS = "JPEGImages", "Annotations"


def devkit_root(source: Path) -> Path | None:
    """The folder with `JPEGImages` and `Annotations` or masks: the source or its only `VOC…`.

    Args:
        source: A folder such as `VOCdevkit` or `VOCdevkit/VOC2012`.

    Returns:
        The folder, or None if the source is no devkit.

    Raises:
        DataError: There are several devkits below the source.
    """
    if not source.is_dir():
        return None
    if _is_devkit(source):
        return source
    below = sorted(child for child in source.glob("VOC*") if _is_devkit(child))
    if len(below) > 1:
        names = ", ".join(child.name for child in below)
        raise DataError(
            f"{source}: holds several devkits ({names}); name one of them as the source"
        )
    return below[0] if below else None


def read_voc(request: Request) -> Reading:
    """Reads a VOC devkit.

    Tags are the names of the `object` elements of `Annotations/<id>.xml` (difficult ones too: they
    are in the image). Without any XML they are the classes of the images' masks, whose indices
    `classes.txt` names, or VOC's twenty classes. If all names are VOC's and there are masks, the
    classes are VOC's twenty, so that its mask indices stay right.

    Args:
        request: What is wanted.

    Returns:
        One entry per annotated image.

    Raises:
        DataError: There is no devkit here, or several.
    """
    root = devkit_root(request.path)
    if root is None:
        raise DataError(
            f"{request.path}: is no VOC devkit; it needs {_IMAGES}, and {_ANNOTATIONS} or "
            f"{MASK_FOLDERS[0]}"
        )
    images = find_folder(root, _IMAGES) or root
    reading = Reading(root, scan(images, root))
    annotations = find_folder(root, _ANNOTATIONS)
    files = sorted(annotations.rglob("*.xml")) if annotations else []
    if annotations and files:
        _from_xml(reading, annotations, files)
    else:
        _from_masks(reading, request.only)
    reading.add_link_faults()
    if annotations and files:
        reading.note_unnamed(annotations)
    elif request.only is None:
        reading.note_unnamed(reading.folder / MASK_FOLDERS[0])
    return reading


def _from_xml(reading: Reading, annotations: Path, files: list[Path]) -> None:
    for file in files:
        if file.name.startswith("."):
            continue
        sample_id = file.relative_to(annotations).with_suffix("").as_posix()
        images = reading.listing.images.get(sample_id, [])
        if not images:
            _, missing = reading.listing.resolve(sample_id)
            if isinstance(missing, Missing):
                reading.fault(missing.kind, file, missing.found, missing.remedy, sample_id)
        names, found = _object_names(file)
        if found:
            reading.fault("annotation", file, found, "write the annotation anew", sample_id)
        spaced = [name for name in names if name != name.strip()]
        if spaced:
            reading.note(
                "tag_blanks",
                file,
                f"spaces around the name {spaced[0]!r}",
                "nothing has to be done: they are left out",
            )
        tags = tuple(dict.fromkeys(name.strip() for name in names))
        reading.entries += [
            Entry(id=sample_id, image=image, names=tags, file=file, usable=not found)
            for image in images
        ]
    borne = {name for entry in reading.entries for name in entry.names}
    if borne <= set(VOC_CLASSES) and find_folder(reading.folder, MASK_FOLDERS[0]):
        reading.names, reading.declared, reading.shipped = VOC_CLASSES, True, True


def _object_names(file: Path) -> tuple[list[str], str]:
    """Names of the objects and tags in an annotation; what is wrong with it (empty: nothing)."""
    try:
        tree = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return [], f"not XML that can be read ({error})"
    except OSError as error:
        return [], f"cannot be read ({error.strerror or error})"
    # Only an object's own name: its parts (head, hand …) have names too.
    names = [item.findtext("name") or "" for item in tree.findall("object")]
    names += [item.text or "" for item in tree.findall("tag")]  # of weakseg's own export
    if not all(name.strip() for name in names):
        return [], "an object without a name"
    return names, ""


def _from_masks(reading: Reading, only: frozenset[str] | None) -> None:
    declared = read_classes(reading.folder)
    classes = declared.names if declared else VOC_CLASSES
    reading.names, reading.declared, reading.shipped = classes, True, declared is None
    masks = find_masks(reading.folder, reading.listing.images, declared)
    if declared is None:
        reading.fault(
            "tags_file",
            reading.folder,
            "masks without a list of classes: their indices are taken for VOC's twenty classes, "
            "as 1 for aeroplane",
            f"name the classes in the order of their indices, one a line, in {CLASSES_FILE}",
        )
    read_tags_of_masks(reading, masks, classes, only)


def _is_devkit(folder: Path) -> bool:
    return find_folder(folder, _IMAGES) is not None and any(
        find_folder(folder, name) for name in (_ANNOTATIONS, *MASK_FOLDERS)
    )
