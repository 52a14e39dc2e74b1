"""True masks of other tools' annotations as mask files of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from weakseg.data.masks import write_mask
from weakseg.files import read_json, write_json
from weakseg.runs.image_files import (
    has_shard_folders,
    make_shard_folders,
    needs_shard_folders,
    relative_file,
)
from weakseg.types import Catalog, Sample

TRUTH = "truth"
"""The folder of a run that holds the masks drawn."""

_DRAWN = "drawn.json"


def with_mask_files(
    catalog: Catalog, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Catalog:
    """Draws the true masks that annotations tell, so that stages find mask files only.

    A mask that was drawn of the same annotation before is kept as it is, with its time.

    Args:
        catalog: Samples, some with an `annotation`.
        folder: Where the masks go, as `<id>.png`, with shard folders where they are very many.
        progress: Called as `progress(done, total)` after each image.

    Returns:
        The catalog with `mask` in place of every `annotation`.

    Raises:
        FileError: An annotation cannot be drawn.
        RunError: A mask cannot be written.
    """
    if not any(sample.annotation for sample in catalog):
        return catalog
    mark = folder / _DRAWN
    drawn: dict[str, str] = read_json(mark) if mark.is_file() else {}
    annotated = (sample.id for sample in catalog if sample.annotation is not None)
    if not mark.is_file() and needs_shard_folders(annotated):
        make_shard_folders(folder)
    shards = has_shard_folders(folder)
    classes = hashlib.sha256("\n".join(catalog.classes).encode()).hexdigest()[:8]

    def with_file(sample: Sample) -> Sample:
        if sample.annotation is None:
            return sample
        path = folder / relative_file(sample.id, ".png", shards=shards)
        digest = f"{classes}-{sample.annotation.digest()}"
        if drawn.get(sample.id) != digest or not path.is_file():
            mask = sample.annotation.read(catalog.classes)
            write_mask(path, torch.from_numpy(mask), catalog.classes)
            drawn[sample.id] = digest
        return replace(sample, mask=path, annotation=None)

    samples = []
    for sample in catalog:
        samples.append(with_file(sample))
        if progress is not None:
            progress(len(samples), len(catalog))
    write_json(mark, drawn)
    return Catalog(catalog.classes, tuple(samples))
