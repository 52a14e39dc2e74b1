"""Surfaces as visual words, for stages that ask what occurs with a tag and what without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.models.amr import AMR, AMRSettings
from weakseg.ops.evidence import nearest_words
from weakseg.ops.prototypes import kmeans
from weakseg.runs.context import StageContext
from weakseg.stages.cams import map_batches
from weakseg.training.device import Inference
from weakseg.types import Sample

WORDS = 256
"""Visual words of each of `STAGES`."""

STAGES = (1, 2, 3)
"""Whose features words are made of: cells of 4, 8 and 16 pixels. They see little of their
surroundings, so that they tell of a place what is there."""

_IMAGES = 128
_POSITIONS = 20_000
"""From how many images, and of how many positions, words are made."""


@dataclass(frozen=True)
class Surfaces:
    """What is kept of an image.

    Attributes:
        words: Its words by stage, int16 [h,w], the finest grid first.
        picture: The image on the finest grid, uint8 [3,h,w].
        features: Its mean last features, float32 [C].
    """

    words: list[Tensor]
    picture: Tensor
    features: Tensor


@dataclass(frozen=True)
class SurfaceWords:
    """The words of a data set: centres of the pretrained network's features, by stage.

    Attributes:
        network: Where the features come from; it has learnt nothing from this data set, so that
            images held out are held out.
        means: By stage [C], of the features.
        deviations: The same.
        centres: By stage [W,C], of features less the mean, over the deviation.
    """

    network: AMR
    means: tuple[Tensor, ...]
    deviations: tuple[Tensor, ...]
    centres: tuple[Tensor, ...]

    @classmethod
    def found(cls, context: StageContext, samples: Sequence[Sample]) -> SurfaceWords:
        """Finds the words of some of the images; the same images and seed give the same."""
        config = context.config
        network = _network(context)
        device = network.mean.device
        some = some_of(samples, _IMAGES)
        gathered: list[list[Tensor]] = [[] for _ in STAGES]
        with torch.no_grad():
            for _, images in map_batches(context, some):
                pyramid = network.pyramid(images.to(device))
                for found, stage in zip(gathered, STAGES, strict=True):
                    flat = pyramid[stage].float().flatten(2).movedim(1, 2)  # [B,hw,C]
                    step = max(1, len(some) * flat.shape[1] // _POSITIONS)
                    found.append(flat[:, ::step].flatten(0, 1).cpu())
        features = [torch.cat(each) for each in gathered]
        means = [each.mean(dim=0) for each in features]
        deviations = [each.std(dim=0, correction=0).clamp_min(1e-4) for each in features]
        centres = [
            kmeans((each - mean) / deviation, WORDS, seed=config.seed)
            for each, mean, deviation in zip(features, means, deviations, strict=True)
        ]
        return cls(
            network,
            *(tuple(each.to(device) for each in kind) for kind in (means, deviations, centres)),
        )

    @classmethod
    def kept(cls, context: StageContext, tensors: Mapping[str, Tensor]) -> SurfaceWords:
        """The words that `tensors` gave.

        Raises:
            KeyError: Some are missing.
        """
        network = _network(context)
        device = network.mean.device
        return cls(
            network,
            *(
                tuple(tensors[f"{kind}.{stage}"].to(device) for stage in STAGES)
                for kind in ("means", "deviations", "centres")
            ),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that was found, by names, to be kept."""
        kinds = {"means": self.means, "deviations": self.deviations, "centres": self.centres}
        return {
            f"{kind}.{stage}": each.cpu().contiguous()
            for kind, found in kinds.items()
            for stage, each in zip(STAGES, found, strict=True)
        }

    @torch.no_grad()
    def of(
        self, context: StageContext, samples: Sequence[Sample]
    ) -> Iterator[tuple[Sample, Surfaces]]:
        """The surfaces of each image, in any order."""
        for batch, images in map_batches(context, samples):
            pyramid = self.network.pyramid(images.to(self.network.mean.device))
            for place, sample in enumerate(batch):
                words = [
                    nearest_words(
                        (pyramid[stage][place].float() - mean[:, None, None])
                        / deviation[:, None, None],
                        centres,
                    )
                    .to(torch.int16)
                    .cpu()
                    for stage, mean, deviation, centres in zip(
                        STAGES, self.means, self.deviations, self.centres, strict=True
                    )
                ]
                picture = functional.interpolate(
                    images[place : place + 1].float(), size=words[0].shape, mode="area"
                )
                yield (
                    sample,
                    Surfaces(
                        words,
                        picture[0].round().to(torch.uint8),
                        pyramid[-1][place].float().mean(dim=(1, 2)).cpu(),
                    ),
                )

    def gathered(
        self, context: StageContext, samples: Sequence[Sample], name: str
    ) -> list[Surfaces]:
        """`of` of all these images, in their order."""
        found: dict[str, Surfaces] = {}
        with context.track(name, len(samples)) as advance:
            for sample, surfaces in self.of(context, samples):
                found[sample.id] = surfaces
                advance()
        return [found[sample.id] for sample in samples]


def _network(context: StageContext) -> AMR:
    """The pretrained network, which has learnt nothing from this data set."""
    config = context.config
    inference = Inference(config.device, config.precision)
    torch.manual_seed(config.seed)
    network = AMR(len(context.catalog.classes), config.backbone, AMRSettings(compensation=False))
    return network.eval().to(inference.device).to(memory_format=torch.channels_last)


def some_of(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many samples, in their order; the same ones each time."""
    if len(samples) <= most:
        return list(samples)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    return [samples[place] for place in sorted(order[:most].tolist())]
