"""The table of source formats: how each is recognised, and who reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from weakseg.sources.formats.coco import annotation_files, read_coco
from weakseg.sources.formats.cvat import cvat_files, read_cvat
from weakseg.sources.formats.image_folder import (
    image_folder_parts,
    is_image_folder,
    read_image_folder,
)
from weakseg.sources.formats.index_masks import mask_pair, read_index_masks
from weakseg.sources.formats.label_studio import label_studio_files, read_label_studio
from weakseg.sources.formats.labelme import is_labelme, read_labelme
from weakseg.sources.formats.pascal_xml import is_pascal_xml, read_pascal_xml
from weakseg.sources.formats.tags_file import read_tagged, tags_file
from weakseg.sources.formats.via import read_via, via_files
from weakseg.sources.formats.voc import devkit_root, read_voc
from weakseg.sources.formats.yolo import is_yolo, read_yolo
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


def _is_tags(path: Path) -> bool:
    file = tags_file(path)
    return file is not None and not label_studio_files(file) and not via_files(file)


def _is_coco(path: Path) -> bool:
    """Any JSON may be COCO's by its name, so others are asked first."""
    if label_studio_files(path) or via_files(path) or (path.is_file() and is_labelme(path)):
        return False
    return bool(annotation_files(path))


READERS: dict[str, Reader] = {
    "tags": Reader(_is_tags, read_tagged),
    "voc": Reader(lambda path: devkit_root(path) is not None, read_voc),
    "coco": Reader(_is_coco, read_coco, annotation_files),
    "label-studio": Reader(lambda path: bool(label_studio_files(path)), read_label_studio),
    "cvat": Reader(lambda path: bool(cvat_files(path)), read_cvat),
    "via": Reader(lambda path: bool(via_files(path)), read_via),
    "labelme": Reader(is_labelme, read_labelme),
    "pascal-xml": Reader(is_pascal_xml, read_pascal_xml),
    "yolo": Reader(is_yolo, read_yolo),
    "masks": Reader(lambda path: mask_pair(path) is not None, read_index_masks),
    "imagefolder": Reader(is_image_folder, read_image_folder, image_folder_parts),
}
"""The formats by the name of `--kind`, in the order in which they are looked for."""
