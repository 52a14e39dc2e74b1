"""What a run will need of its disk, estimated before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg.files import size_of_files
from weakseg.models.backbones import parameter_count
from weakseg.ops.cams import STRIDE
from weakseg.types import Catalog, RunError

if TYPE_CHECKING:
    from weakseg.config.run_config import RunConfig

_FLOAT, _HALF, _BLOCK = 4, 2, 4096
_MASK = 8_000
"""Bytes of a mask, as a PNG of a photograph of usual size has."""

_ASPECT = 0.7
"""Share of a square that an image of usual aspect covers."""

_MAPS = {"cams": 1, "spread": 1, "weigh": 4, "evidence": 1, "walk": 1}
"""Maps that a stage keeps of each tag of an image."""

_MASKS = ("recalibrate", "seeds", "masks")
"""Stages that keep a mask of each image."""

_NETWORKS = {"classify": 1, "recalibrate": 2, "segment": 1.5}
"""Networks that a stage keeps, in weights of the backbone."""

_CHECKPOINTS = 4
"""Sizes of a network in its training: weights and momentum, in the old checkpoint and the new."""


def disk_need(config: RunConfig, catalog: Catalog, stages: Collection[str]) -> Mapping[str, int]:
    """About how many bytes stages will have written, at least, while the last is at work.

    Args:
        config: All settings.
        catalog: The samples.
        stages: The stages, by name.

    Returns:
        Bytes of `maps and masks`, of `networks` and of `checkpoints`.
    """
    images, tags = len(catalog), sum(len(sample.tags) for sample in catalog)
    grid = int((config.cams.long_side / STRIDE) ** 2 * _ASPECT) * _HALF
    weights = parameter_count(config.backbone.name) * _FLOAT
    kept = sum(
        tags * grid * count + images * (_BLOCK // 4)
        for stage, count in _MAPS.items()
        if stage in stages
    )
    kept += images * grid if "walk" in stages else 0  # boundaries
    kept += sum(images * _MASK for stage in _MASKS if stage in stages)
    trained = [count for stage, count in _NETWORKS.items() if stage in stages]
    return {
        "maps and masks": kept,
        "networks": int(sum(trained) * weights),
        "checkpoints": int(max(trained, default=0) * _CHECKPOINTS * weights),
    }


def require_disk(
    config: RunConfig, catalog: Catalog, stages: Collection[str], folder: Path
) -> None:
    """Refuses a run that cannot fit on its disk.

    Args:
        config: All settings.
        catalog: The samples.
        stages: The stages that are not finished, by name.
        folder: The run's folder; need not be there yet.

    Raises:
        RunError: More is needed than is free and than these stages have written already.
    """
    if not stages:
        return
    need = disk_need(config, catalog, stages)
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free + sum(size_of_files(folder / stage) for stage in stages)
    if sum(need.values()) > free:
        parts = ", ".join(f"{_told(size)} of {what}" for what, size in need.items() if size)
        raise RunError(
            f"{folder}: the run needs about {_told(sum(need.values()))} ({parts}) and "
            f"{_told(free)} are free; remove something, or choose another --out"
        )


def _told(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
