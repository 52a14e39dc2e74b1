"""Stage `spread`: better maps without training: local prototypes, likeness of features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from weakseg.models.amr import AMR
from weakseg.ops.cams import grid_size, normalized, resized_images, upsampled
from weakseg.ops.propagation import spread_over_scales
from weakseg.ops.prototypes import (
    Prototypes,
    gathered,
    kmeans,
    prototype_map,
    select_prototypes,
)
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import BRANCHES, ImageMaps
from weakseg.runs.processes import first_process, own_share, wait_for_all
from weakseg.stages.cams import map_batches
from weakseg.stages.classify import load_network
from weakseg.training.device import Inference
from weakseg.types import Catalog, RunError

_MAX_PIXELS = 500_000
"""Maximum pixels of a batch: features are taken at larger scales, too."""

_GATHERED_BYTES = 256 * 2**20
"""Maximum memory for gathered features, all classes and branches together."""


def spread(context: StageContext) -> Mapping[str, object]:
    """Improve the maps of every image that has no result; writes `<id>.npz` (see `ImageMaps`)."""
    config, catalog = context.config, context.catalog
    settings = config.spread
    inference = Inference(config.device, config.precision)
    network = load_network(context).to(inference.device)
    network = network.to(memory_format=torch.channels_last)
    prototypes: dict[str, dict[int, Prototypes]] = {}
    if settings.prototypes:
        prototypes = _prototypes(context, network, inference)
    own = own_share(catalog.samples)
    pending = [s for s in own if not context.dir.image_file(s.id, ".npz").is_file()]
    with context.track("spread", len(own), done=len(own) - len(pending)) as advance:
        for samples, images in map_batches(context, pending, _MAX_PIXELS):
            pixels = images.to(inference.device, memory_format=torch.channels_last).float() / 255
            with torch.no_grad():
                last = _last_features(network, pixels, inference) if settings.prototypes else {}
                details = [
                    network.details(resized_images(pixels, scale)) for scale in settings.scales
                ]
            size = grid_size(pixels.shape[-2], pixels.shape[-1])
            for place, sample in enumerate(samples):
                kept = ImageMaps.load(context.run.path, "cams", sample.id)
                maps = {}
                for branch in BRANCHES:
                    if branch not in kept.maps:
                        continue
                    found = kept.maps[branch].to(inference.device)
                    classes = kept.classes.tolist()
                    if settings.prototypes and classes:
                        known = prototypes[branch]
                        local = torch.stack(
                            [prototype_map(last[branch][place], known[k]) for k in classes]
                        )
                        found = normalized((found + upsampled(normalized(local), size)) / 2)
                    if settings.spreading and classes:
                        features = [each[place] for each in details]
                        found = spread_over_scales(found, features, size, settings.power)
                    maps[branch] = found.clamp(0, 1)
                ImageMaps(kept.classes, kept.size, maps).save(context.dir, sample.id)
            advance(len(samples))
    return {
        "images": len(catalog),
        "prototypes": {
            branch: {
                catalog.classes[k]: {"own": len(each.own), "context": len(each.context)}
                for k, each in known.items()
            }
            for branch, known in prototypes.items()
        },
    }


def _last_features(network: AMR, pixels: Tensor, inference: Inference) -> dict[str, Tensor]:
    """The last features [B,C,h,w] of each branch."""
    shared = network.encode(pixels)
    with inference.autocast():
        found = {"spotlight": network.spotlight.features(shared)}
        if network.compensation is not None:
            found["compensation"] = network.compensation.features(shared)
    return found


def _prototypes(
    context: StageContext, network: AMR, inference: Inference
) -> dict[str, dict[int, Prototypes]]:
    """The prototypes of each branch and class, from the folder if they are there already."""
    settings = context.config.prototypes
    heads = {"spotlight": network.spotlight.head}
    if network.compensation is not None:
        heads["compensation"] = network.compensation.head
    path = context.dir.file(_CENTRES)
    if first_process() and not path.is_file():
        centres = _centres(context, network, inference, list(heads))
        context.dir.write_bytes(_CENTRES, save(centres))
    wait_for_all()
    device = heads["spotlight"].weight.device
    found: dict[str, dict[int, Prototypes]] = {branch: {} for branch in heads}
    try:
        for key, kept in load_file(path, device=str(device)).items():
            branch, index = key.split(".")
            weight = heads[branch].weight.detach().flatten(1)
            found[branch][int(index)] = select_prototypes(kept, weight, int(index), settings)
    except Exception as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); remove it and give the same command "
            "again"
        ) from error
    return found


_CENTRES = "centres.safetensors"


def _chosen(catalog: Catalog, most: int) -> dict[str, list[int]]:
    """The images to gather from, evenly chosen, and the classes that each is to show."""
    bearers: dict[int, list[str]] = {index: [] for index in range(len(catalog.classes))}
    for sample in catalog:
        for index in sample.tags:
            bearers[index].append(sample.id)
    chosen: dict[str, list[int]] = {}
    for index, ids in bearers.items():
        for sample_id in ids[:: max(1, -(-len(ids) // most))]:
            chosen.setdefault(sample_id, []).append(index)
    return chosen


def _centres(
    context: StageContext, network: AMR, inference: Inference, branches: list[str]
) -> dict[str, Tensor]:
    """Centres of the features of each class, `branch.class`, from a bounded choice of images."""
    catalog, settings = context.catalog, context.config.prototypes
    chosen = _chosen(catalog, settings.images)
    images_of = Counter(index for classes in chosen.values() for index in classes)
    samples = [s for s in catalog if s.id in chosen]
    width = network.widths[-1]
    budget = _GATHERED_BYTES // (4 * width * len(branches) * max(1, len(catalog.classes)))
    most = max(16, min(settings.vectors, budget))
    gathered_of: dict[str, list[Tensor]] = {}
    with context.track("prototypes", len(samples)) as advance:
        for batch, images in map_batches(context, samples, _MAX_PIXELS):
            pixels = images.to(network.mean.device, memory_format=torch.channels_last)
            with torch.no_grad():
                last = _last_features(network, pixels.float() / 255, inference)
            for place, sample in enumerate(batch):
                kept = ImageMaps.load(context.run.path, "cams", sample.id)
                for position, index in enumerate(kept.classes.tolist()):
                    if index not in chosen[sample.id]:
                        continue
                    for branch in branches:
                        vectors = gathered(
                            last[branch][place],
                            kept.maps[branch][position].to(last[branch].device),
                            settings.foreground,
                            max(1, most // images_of[index]),
                        )
                        gathered_of.setdefault(f"{branch}.{index}", []).append(vectors.cpu())
            advance(len(batch))
    centres = {}
    for branch in branches:
        for index in range(len(catalog.classes)):
            parts = [part for part in gathered_of.get(f"{branch}.{index}", []) if len(part)]
            if parts:
                found = kmeans(torch.cat(parts), settings.clusters, seed=context.config.seed)
            else:  # no map reaches the threshold: the classifier's own direction stands in
                head = getattr(network, branch).head
                found = head.weight.detach().flatten(1)[index : index + 1].cpu().float()
            centres[f"{branch}.{index}"] = found.contiguous()
    return centres
