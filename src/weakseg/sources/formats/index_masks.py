"""Images beside index masks (mmsegmentation, nnU-Net, `images/` and `masks/`): tags from masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from weakseg.data.decode import mask_indices
from weakseg.data.truth import IGNORED
from weakseg.faults import Fault, FileError, listed
from weakseg.sources.class_names import CLASS_LISTS, CLASSES_FILE, Declared, read_classes
from weakseg.sources.image_index import PARTS, Listing, find_folder, scan
from weakseg.sources.mask_files import MaskFiles, find_masks, renamed_note
from weakseg.sources.mask_tags import read_tags_of_masks
from weakseg.sources.reading import Reading, Request
from weakseg.types import BACKGROUND, IGNORE, DataError

PAIRS = (
    ("img_dir", "ann_dir"),
    ("imagesTr", "labelsTr"),
    ("images", "masks"),
    ("images", "labels"),
    ("images", "annotations"),
    ("image", "mask"),
    ("img", "mask"),
    ("leftImg8bit", "gtFine"),
)
"""Folders of images and of their masks, in the order in which they are looked for."""

_NNUNET = "dataset.json"
_LOSSLESS = (".png", ".tif", ".tiff", ".bmp")
_PEEKED = 20  # masks


def mask_pair(source: Path) -> tuple[Path, Path] | None:
    """The folders of images and masks of a source, or None.

    Args:
        source: A folder.

    Returns:
        Both, if the second holds lossless images that bear the names of some in the first.
    """
    if not source.is_dir():
        return None
    for image_name, mask_name in PAIRS:
        images, masks = find_folder(source, image_name), find_folder(source, mask_name)
        if images is None or masks is None:
            continue
        files = [p for p in masks.rglob("*") if p.suffix.lower() in _LOSSLESS]
        if files and _found(images, masks).plain.keys() & scan(images, source).images.keys():
            return images, masks
    return None


def read_index_masks(request: Request) -> Reading:
    """Reads images beside index masks.

    Index k of a mask is the k-th name of `classes.txt`, `class_names.txt`, `labelmap.txt` or
    nnU-Net's `dataset.json`; 0 is background, 255 ignored. Sub-folders `train`, `val` … are splits.

    Args:
        request: What is wanted.

    Returns:
        One entry per image with a mask.

    Raises:
        DataError: There are no such folders.
    """
    pair = mask_pair(request.path)
    if pair is None:
        known = ", ".join(f"{images}/ and {masks}/" for images, masks in PAIRS)
        raise DataError(f"{request.path}: needs a folder of images and one of masks: {known}")
    images, folder = pair
    listing = scan(images, request.path)
    reading = Reading(request.path, _channels_merged(listing) if _is_nnunet(pair) else listing)
    declared = _declared(request.path)
    found = find_masks(request.path, reading.listing.images, declared, (folder.name,))
    if declared is None:
        reading.fatal.append(_no_names(folder, found))
        return reading
    if declared.fatal:
        reading.fatal += declared.fatal
        return reading
    reading.names, reading.declared = declared.names, True
    if _only_0_and_255(found):
        reading.fault(
            "mask_indices",
            folder,
            f"the masks hold only 0 and {IGNORE}, which is 'ignored'",
            "give the pixels of the k-th class index k, those of the first 1",
        )
        reading.fatal.append(reading.faults.pop())
        return reading
    read_tags_of_masks(reading, found, declared.names, request.only)
    if found.strangers:
        reading.note(
            "mask_unused",
            folder,
            f"{len(found.strangers)} masks bear the name of no image: {listed(found.strangers)}",
            "name each mask like its image",
        )
    reading.faults += renamed_note(found)
    splits: dict[str, set[str]] = {}
    for entry in reading.entries:
        part = entry.id.split("/")[0]
        if "/" in entry.id and part.casefold() in PARTS:
            splits.setdefault(part, set()).add(entry.id)
    reading.splits = {name: frozenset(ids) for name, ids in splits.items()}
    reading.add_link_faults()
    if request.only is None:
        reading.note_unnamed(folder)
    return reading


def _found(images: Path, masks: Path) -> MaskFiles:
    listing = scan(images, images.parent)
    if _is_nnunet((images, masks)):
        listing = _channels_merged(listing)
    found = find_masks(images.parent, listing.images, None, (masks.name,))
    if _is_nnunet((images, masks)):
        found.plain = {f"{key}_0000": path for key, path in found.plain.items()}
    return found


def _is_nnunet(pair: tuple[Path, Path]) -> bool:
    return pair[0].name.casefold() == "imagestr"


def _channels_merged(listing: Listing) -> Listing:
    """nnU-Net's images by the names of their cases: `case_0000.png` is the first channel."""
    images = {
        sample_id.removesuffix("_0000"): paths
        for sample_id, paths in listing.images.items()
        if sample_id.endswith("_0000") or not sample_id[-5:].startswith("_0")
    }
    return Listing(listing.root, images, listing.faults)


def _declared(folder: Path) -> Declared | None:
    """The list of classes beside the folders."""
    declared = read_classes(folder)
    path = folder / _NNUNET
    if declared is not None or not path.is_file():
        return declared
    try:
        labels = json.loads(path.read_bytes())["labels"]
        names = {int(value): str(name) for name, value in labels.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    meanings: dict[int | tuple[int, int, int], str | None] = {
        value: IGNORED if name == "ignore" else name for value, name in sorted(names.items())
    }
    meanings[BACKGROUND] = ""
    kept = tuple(name for name in meanings.values() if name)
    return Declared(path, kept, meanings)


def _no_names(folder: Path, found: MaskFiles) -> Fault:
    values: set[int] = set()
    for path in list(found.plain.values())[:_PEEKED]:
        try:
            values.update(np.unique(mask_indices(path)).tolist())
        except FileError:
            continue
    shown = ", ".join(map(str, sorted(values)[:12])) + (", …" if len(values) > 12 else "")
    return Fault(
        kind="tags_file",
        file=str(folder),
        found=f"masks without a list of classes (indices {shown})",
        remedy="name the classes in the order of their indices from 1, one a line, in "
        f"{CLASSES_FILE} (or {', '.join(CLASS_LISTS[1:])}); if 0 is a class, raise all indices by "
        "one",
    )


def _only_0_and_255(found: MaskFiles) -> bool:
    values: set[int] = set()
    for path in found.plain.values():
        try:
            values.update(np.unique(mask_indices(path)).tolist())
        except FileError:
            continue
        if not values <= {BACKGROUND, IGNORE}:
            return False
    return IGNORE in values
