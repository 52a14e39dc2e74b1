"""In place of `classify` and `cams` where another program made the maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from weakseg.data.images import image_size, require_channels
from weakseg.data.map_files import read_maps
from weakseg.models.amr import AMR, AMRSettings
from weakseg.ops.cams import normalized
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.learning import STATE
from weakseg.runs.processes import first_process, own_share


def pretrained(context: StageContext) -> Mapping[str, object]:
    """The pretrained backbone, untrained: the features that boundaries are learnt from."""
    config, catalog = context.config, context.catalog
    if not first_process():
        return {}
    require_channels(catalog, config.backbone.in_chans)
    torch.manual_seed(config.seed)
    model = AMR(len(catalog.classes), config.backbone, AMRSettings(compensation=False))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    context.dir.write_bytes(STATE, save(state))
    return {"images": len(catalog)}


def import_maps(context: StageContext, folder: Path) -> Mapping[str, object]:
    """Read every image's maps, each divided by its maximum; writes `<id>.npz` (see `ImageMaps`).

    Args:
        context: The run.
        folder: Where the other program wrote them, see `weakseg.data.map_files`.
    """
    catalog = context.catalog
    own = own_share(catalog.samples)
    pending = [s for s in own if not context.dir.image_file(s.id, ".npz").is_file()]
    with context.track("maps", len(own), done=len(own) - len(pending)) as advance:
        for sample in pending:
            maps = read_maps(folder, sample, catalog.classes)
            classes = torch.tensor(sorted(sample.tags), dtype=torch.int64)
            size = image_size(sample.image)
            kept = ImageMaps(classes, size, {"spotlight": normalized(maps) if len(maps) else maps})
            kept.save(context.dir, sample.id)
            advance()
    return {"images": len(catalog), "maps": sum(len(sample.tags) for sample in catalog)}
