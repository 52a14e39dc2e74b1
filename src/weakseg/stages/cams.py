"""Stage `cams`: the spotlight's class activation maps of every image, kept at stride 4."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from weakseg.activation_maps import network_maps, present_classes
from weakseg.data.images import image_size
from weakseg.models.amr import AMR, Branch
from weakseg.models.cpu.inference import for_inference, mean_inputs
from weakseg.ops.cam_methods import FORWARD_ONLY
from weakseg.ops.cams import (
    FAINT,
    UNLIKELY,
    CamSettings,
    careful_cams,
    normalized,
)
from weakseg.runs.context import StageContext
from weakseg.runs.image_batches import image_batches
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.processes import by_first, own_share
from weakseg.runs.sample_rows import rows_of_samples, samples_of_rows
from weakseg.stages.classify import load_network
from weakseg.training.device import Inference
from weakseg.training.memory import kept_memory
from weakseg.types import Sample

_MAX_PIXELS = 2_000_000
"""Maximum pixels of a batch at scale 1, which bounds memory."""

_EXAMPLES = 16
"""Images that the correction of bf16 is taken from."""


@kept_memory()
def cams(context: StageContext) -> Mapping[str, object]:
    """Compute the maps of every image that has none yet; writes `<id>.npz` (see `ImageMaps`)."""
    config = context.config
    settings = config.cams
    own = own_share(context.catalog.samples)
    pending = [s for s in own if not context.dir.image_file(s.id, ".npz").is_file()]
    inference = Inference(config.device, config.precision)
    network = MapNetwork(
        load_network(context).to(inference.device),
        inference,
        (images for _, images in map_batches(context, examples(context))),
        method=settings.method,
    )
    with context.track("cams", len(own), done=len(own) - len(pending)) as advance:
        for samples, images in map_batches(context, pending):
            maps = network.maps(images, [sample.tags for sample in samples], settings)
            for place, sample in enumerate(samples):
                classes = sorted(sample.tags)
                found = ImageMaps(
                    torch.tensor(classes, dtype=torch.int64),
                    image_size(sample.image),
                    {"spotlight": normalized(maps[0][place, classes])},
                )
                found.save(context.dir, sample.id)
            advance(len(samples))
    return {
        "images": len(context.catalog),
        "maps": sum(len(sample.tags) for sample in context.catalog),
    }


class MapNetwork:
    """A trained network as maps are taken from it: it no longer learns.

    Where the device has bf16, the branches are computed in it, corrected by what they see in some
    images, wherever that changes maps by less than a hundredth of their maximum (`careful_cams`;
    measured by `benchmarks/cams.py`). What both branches share stays in float32: there lies most of
    bf16's error and little of its gain.

    Args:
        network: On the device.
        inference: Where and in which precision to compute.
        images: Some of the images, uint8 [B,C,H,W]; used if bf16 is.
        names: Of which branches.
        method: A row of `CAM_METHODS`; only `cam` is computed in bf16.
    """

    def __init__(
        self,
        network: AMR,
        inference: Inference,
        images: Iterable[Tensor],
        names: Sequence[str] = ("spotlight",),
        method: str = "cam",
    ) -> None:
        self.inference, self.method = inference, method
        network = network.eval().to(memory_format=torch.channels_last)
        branches = nn.ModuleList(getattr(network, name) for name in names)
        self.faint = [UNLIKELY if branch.probabilities else FAINT for branch in branches]
        self.network, self.exact = network, branches
        if method in FORWARD_ONLY:  # others take gradients
            self.network, self.exact = for_inference(network), for_inference(branches)
        self.quick: nn.ModuleList | None = None
        if inference.bf16 and method == "cam":
            means = mean_inputs(branches, lambda: [network(self._placed(some)) for some in images])
            self.quick = for_inference(branches, torch.bfloat16, means)

    @torch.no_grad()
    def maps(
        self, images: Tensor, tags: Sequence[Collection[int]], settings: CamSettings
    ) -> list[Tensor]:
        """The summed maps of each branch, see `multi_scale_cams`.

        Args:
            images: Images of one size, uint8 [B,3,H,W].
            tags: The classes in each of them, counted from 0.
            settings: Scales and mirror.

        Returns:
            Of each branch float32 [B,K,⌈H/4⌉,⌈W/4⌉], not normalized.
        """
        # Once for all scales: to resize and to standardize may change places.
        pixels = self.network.standardized(self._placed(images))
        present = present_classes(tags, self.network.classes).to(self.inference.device)
        branches = list(cast("Iterable[Branch]", self.exact))
        if self.quick is None:
            return network_maps(self.network, branches, pixels, present, settings)

        def exactly(views: Tensor) -> list[Tensor]:
            shared = self.network.encode_standardized(views)
            return [branch(shared).cams for branch in branches]

        return careful_cams(exactly, self._quickly, pixels, present, settings, faint=self.faint)

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self.inference.device, memory_format=torch.channels_last)

    def _quickly(self, images: Tensor) -> list[Tensor]:
        assert self.quick is not None
        shared = self.network.encode_standardized(images)
        with self.inference.autocast():
            return [branch(shared).cams for branch in self.quick]


def examples(context: StageContext) -> list[Sample]:
    """A few samples spread over all: the same ones in every process, whatever is done already."""

    def rows() -> list[list[Any]]:
        samples = context.catalog.samples
        step = max(1, len(samples) // _EXAMPLES)
        return rows_of_samples(samples[::step][:_EXAMPLES])

    return samples_of_rows(by_first(rows))


def map_batches(
    context: StageContext, samples: Sequence[Sample], pixels: int = _MAX_PIXELS
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Samples of one size and their images uint8 [B,3,H,W], resized as for all maps.

    Args:
        context: The run.
        samples: The images.
        pixels: Maximum pixels of a batch.
    """
    settings = context.config.cams
    return image_batches(
        samples,
        context.config.fit,
        context.config.backbone,
        long_side=settings.long_side,
        most=settings.batch_size,
        pixels=pixels,
    )
