"""Mask files beside images: which folder holds them, and which mask is of which image."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from weakseg.data.decode import opened
from weakseg.data.palette import voc_colours
from weakseg.data.truth import MappedMask
from weakseg.faults import Fault, FileError
from weakseg.sources.class_names import Declared
from weakseg.sources.image_index import MASK_FOLDERS, Listing, find_folder, scan

Meanings = Mapping[int | tuple[int, int, int], str | None]
"""What each index or colour of masks stands for: a class, "" for background, None: ignored."""

_ENDINGS = re.compile(
    r"([_.-](mask|masks|seg|segmentation|label|labels|labelids|labeltrainids|gt|annotation)"
    r"|\.(jpg|jpeg|png|tif|tiff|bmp))$",
    re.IGNORECASE,
)
"""What programs put behind an image's name to name its mask."""


@dataclass
class MaskFiles:
    """The masks of a source.

    Attributes:
        listing: The first folder that has any, or None.
        plain: Mask files whose index k is the k-th class, per image id.
        mapped: Mask files whose values a list of classes explains, per image id.
        renamed: Image ids whose mask bears another ending, and the mask's id.
        strangers: Ids of masks that bear the name of no image, sorted.
    """

    listing: Listing | None = None
    plain: dict[str, Path] = field(default_factory=dict)
    mapped: dict[str, MappedMask] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)


def find_masks(
    folder: Path,
    images: Collection[str],
    declared: Declared | None = None,
    names: tuple[str, ...] = MASK_FOLDERS,
) -> MaskFiles:
    """Finds the masks of a source's images.

    Args:
        folder: The source's folder.
        images: The ids of its images.
        declared: Its list of classes; with colours, masks are read by them.
        names: Folders that masks are looked for in, in this order.

    Returns:
        The masks; strangers to all images are among `plain`, by their own names.
    """
    found = MaskFiles()
    paths: dict[str, Path] = {}
    for name in names:
        root = find_folder(folder, name)
        if root is None:
            continue
        listing = scan(root, folder)
        if found.listing is None or (listing.images and not found.listing.images):
            found.listing = listing
        for mask_id, files in listing.images.items():
            png = [path for path in files if path.suffix.lower() == ".png"]
            paths.setdefault(mask_id, (png or files)[0])
    taken = {mask_id: mask_id for mask_id in paths if mask_id in images}
    strangers: dict[str, list[str]] = {}
    for mask_id in paths:
        if mask_id not in taken:
            strangers.setdefault(_ENDINGS.sub("", mask_id), []).append(mask_id)
    for image_id, mask_ids in strangers.items():
        if image_id in images and image_id not in taken and len(mask_ids) == 1:
            taken[image_id] = mask_ids[0]
            found.renamed[image_id] = mask_ids[0]
    used = set(taken.values())
    found.strangers = sorted(mask_id for mask_id in paths if mask_id not in used)
    taken.update({mask_id: mask_id for mask_id in found.strangers})
    for image_id, mask_id in taken.items():
        path = paths[mask_id]
        if declared is not None and declared.colours and not _is_plain(path, declared.colours):
            found.mapped[image_id] = MappedMask(path, declared.colours)
        else:
            found.plain[image_id] = path
    return found


def renamed_note(masks: MaskFiles) -> list[Fault]:
    """A note, once for all, of masks that bear another ending than their image."""
    if not masks.renamed or masks.listing is None:
        return []
    image, mask = next(iter(masks.renamed.items()))
    return [
        Fault(
            kind="mask_unused",
            file=str(masks.listing.root),
            found=f"{len(masks.renamed)} masks are named with another ending than their image: "
            f"{mask!r} is taken for the mask of {image!r}",
            remedy="nothing has to be done if that is right",
            severity="note",
        )
    ]


def _is_plain(path: Path, meanings: Meanings) -> bool:
    """Whether a mask's indices are those of the classes: by the list, its palette, or as gray."""
    if not all(isinstance(value, tuple) for value in meanings):
        return list(meanings) == list(range(len(meanings))) and None not in meanings.values()
    try:
        with opened(path) as image:
            return image.mode in ("L", "I;16", "1") or _palette_fits(image, meanings)
    except FileError:
        return True  # it is reported where masks are looked at


def _palette_fits(image: Image.Image, colours: Meanings) -> bool:
    if image.mode != "P":
        return False
    palette = image.getpalette() or []
    own = [tuple(palette[3 * k : 3 * k + 3]) for k in range(len(colours))]
    listed = [tuple(colour) for colour in voc_colours()[: len(colours)].tolist()]
    return own == listed == list(colours) and next(iter(colours.values())) == ""
