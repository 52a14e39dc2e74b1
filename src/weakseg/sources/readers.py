"""The table of source formats: how each is recognised, and who reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from weakseg.sources.formats.coco import annotation_files, read_coco
from weakseg.sources.formats.image_folder import (
    image_folder_parts,
    is_image_folder,
    read_image_folder,
)
from weakseg.sources.formats.index_masks import mask_pair, read_index_masks
from weakseg.sources.formats.tags_file import read_tagged, tags_file
from weakseg.sources.formats.voc import devkit_root, read_voc
from weakseg.sources.reading import Reading, Request


class Reader(NamedTuple):
    """How a format of sources is recognised and read.

    Attributes:
        fits: Whether a file or folder is of this format; looks, but reads no image.
        read: Reads what is asked for.
        parts: The splits that the format itself has, by name: a file or folder each.
    """

    fits: Callable[[Path], bool]
    read: Callable[[Request], Reading]
    parts: Callable[[Path], dict[str, Path]] = lambda _: {}


READERS: dict[str, Reader] = {
    "tags": Reader(lambda path: tags_file(path) is not None, read_tagged),
    "voc": Reader(lambda path: devkit_root(path) is not None, read_voc),
    "coco": Reader(lambda path: bool(annotation_files(path)), read_coco, annotation_files),
    "masks": Reader(lambda path: mask_pair(path) is not None, read_index_masks),
    "imagefolder": Reader(is_image_folder, read_image_folder, image_folder_parts),
}
"""The formats by the name of `--kind`, in the order in which they are looked for."""
