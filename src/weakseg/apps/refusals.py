"""What a run refuses before hours of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from weakseg.apps.cluster import check_ray
from weakseg.config.run_config import RunConfig
from weakseg.models.backbones import has_whole_attention
from weakseg.ops.cam_methods import OF_ATTENTION
from weakseg.pipeline import Stage
from weakseg.runs.disk_need import require_disk
from weakseg.runs.processes import process_count
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.types import Catalog, ConfigError, DataError


def require_engine(engine: Literal["here", "ray"]) -> None:
    """Refuse Ray where it cannot be."""
    if engine == "here":
        return
    if process_count() > 1:
        raise ConfigError(
            "--engine ray brings its own processes: give the command without torchrun or "
            "accelerate launch"
        )
    check_ray()


def require_room(
    settings: RunConfig, catalog: Catalog, stages: Sequence[Stage], folder: RunDir, *, force: bool
) -> None:
    """Refuse a run that cannot fit on its disk."""
    wanted = [stage.name for stage in stages if stage.when(settings)]
    left = [name for name in wanted if force or not StageDir(folder.path / name).done]
    require_disk(settings, catalog, left, folder.path)


def refuse_common(catalog: Catalog, second: Catalog, split: str | None, val: str) -> None:
    """Refuse a second split of other classes, or with images that are learnt from."""
    if second.classes != catalog.classes:
        raise DataError(
            f"split {val!r} has the classes {', '.join(second.classes)}, not those of "
            f"{split or 'the source'} ({', '.join(catalog.classes)}); list them in classes.txt"
        )
    common = sorted({sample.id for sample in catalog} & {sample.id for sample in second})
    if common:
        raise DataError(
            f"{len(common)} images of split {val!r} ({common[0]}, …) would be learnt from, too; "
            "give --split with a split that has none of them"
        )


def require_cam_method(settings: RunConfig) -> None:
    """Refuse a CAM method that the network does not have, before hours of training."""
    method, name = settings.cams.method, settings.backbone.name
    if method in OF_ATTENTION and not has_whole_attention(name):
        raise ConfigError(
            f"cams.method: {method} needs attention over the whole image, which {name} has not; "
            "choose a ViT (backbone.name=vit_small_patch16_224), or another method"
        )


def require_no_classifier(settings: RunConfig) -> None:
    """Refuse what reads the classifier that maps came from, where another program made them."""
    branch = settings.amr
    wanted = {
        "spread.prototypes=true": settings.spread.prototypes,
        "amr.supervision=maps": branch.compensation and branch.supervision == "maps",
    }
    for setting in (setting for setting, asked in wanted.items() if asked):
        raise ConfigError(
            f"{setting} needs the classifier that the maps came from, which another program has; "
            "leave the setting out"
        )
