"""Tags of images that have masks and nothing else: the classes that are in the mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weakseg.data.decode import mask_indices
from weakseg.faults import FileError
from weakseg.sources.class_names import CLASSES_FILE
from weakseg.sources.mask_files import MaskFiles
from weakseg.sources.reading import Entry, Reading
from weakseg.types import BACKGROUND, IGNORE


def read_tags_of_masks(
    reading: Reading,
    masks: MaskFiles,
    classes: Sequence[str],
    only: frozenset[str] | None = None,
) -> None:
    """Adds an entry for each image that has a mask.

    Args:
        reading: Where to add them; its listing has the images.
        masks: Its mask files.
        classes: Names of classes 1..K.
        only: Ids that are wanted: of others no mask is read. None: all.
    """
    reading.partial = only is not None
    for sample_id in sorted({*masks.plain, *masks.mapped}):
        images = reading.listing.images.get(sample_id, [])
        if not images or (only is not None and sample_id not in only):
            continue
        names: tuple[str, ...] = ()
        usable = True
        plain, mapped = masks.plain.get(sample_id), masks.mapped.get(sample_id)
        file: Path = plain if plain is not None else masks.mapped[sample_id].file
        try:
            indices = mapped.read(classes) if mapped is not None else mask_indices(file)
            values = np.flatnonzero(np.bincount(indices.ravel(), minlength=256)).tolist()
            present = [index for index in values if index not in (BACKGROUND, IGNORE)]
        except FileError as error:
            usable, present = False, []
            reading.faults.append(error.fault(sample_id))
        if usable and present and present[-1] > len(classes):
            usable = False
            reading.fault(
                "mask_indices",
                file,
                f"index {present[-1]} stands for none of the {len(classes)} classes",
                f"name the classes in the order of their indices in {CLASSES_FILE}",
                sample_id,
            )
        elif usable:
            names = tuple(classes[index - 1] for index in present)
        reading.entries += [
            Entry(sample_id, image, names, file, usable=usable, truth=mapped, mask=plain)
            for image in images
        ]
