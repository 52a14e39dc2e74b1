"""From maps to masks that follow the image's edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from weakseg.ops.arguments import one_of
from weakseg.ops.cams import label_map, upsampled
from weakseg.ops.crf import CRFSettings, DenseCRF
from weakseg.ops.pamr import PAMRSettings, pamr
from weakseg.ops.seeds import scaled_crf


@dataclass(frozen=True)
class Refinement:
    """A way from maps to masks: a row of `REFINEMENTS`.

    Attributes:
        walks: Whether a relation network is trained and the maps walk on its boundaries first.
        shares: From an image uint8 [3,H,W], maps [n,h,w] in 0..1, the background's score and the
            settings to probabilities [n+1,H,W], background first; None: the maps are parted as they
            are, and the image is not read.
    """

    walks: bool = False
    shares: Callable[[Tensor, Tensor, float, RefineSettings], Tensor] | None = None


def crf_shares(image: Tensor, maps: Tensor, threshold: float, settings: RefineSettings) -> Tensor:
    """Probabilities after the dense CRF, which starts from the parted maps."""
    height, width = image.shape[-2:]
    labels = label_map(maps, torch.arange(len(maps)), threshold, (height, width))
    crf = scaled_crf(settings.crf, max(height, width))
    return DenseCRF(image, crf).from_labels(labels, len(maps) + 1)


def pamr_shares(image: Tensor, maps: Tensor, threshold: float, settings: RefineSettings) -> Tensor:
    """Probabilities after the pixel-adaptive refinement of the maps' shares."""
    height, width = image.shape[-2:]
    shares = class_shares(upsampled(maps, (height, width)), threshold)
    return pamr(image[None].float(), shares[None], settings.pamr)[0]


REFINEMENTS: Mapping[str, Refinement] = {
    "none": Refinement(),
    "crf": Refinement(shares=crf_shares),
    "pamr": Refinement(shares=pamr_shares),
    "irn": Refinement(walks=True),
    "irn+crf": Refinement(walks=True, shares=crf_shares),
}
"""By their names in settings; a new refinement is a new row."""


class RefineSettings(BaseModel):
    """How maps become masks.

    Attributes:
        kind: A row of `REFINEMENTS`: `none`, `crf` (dense CRF), `pamr` (pixel-adaptive refinement),
            `irn` (random walk on learnt boundaries), `irn+crf`.
        maps: Which maps: `weighted` (of the spotlight alone where there is one branch),
            `spotlight` or `compensation`.
        threshold: Score of the background; None: chosen from the maps, without truth.
        long_side: Images larger than this long side are shrunk to it for CRF and PAMR, in pixels;
            the result is enlarged smoothly.
        crf: The CRF, its deviations in pixels of an image of long side 500.
        pamr: The pixel-adaptive refinement.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, one_of(REFINEMENTS)] = Field(
        "irn+crf", description=f"one of {', '.join(REFINEMENTS)}"
    )
    maps: Literal["weighted", "spotlight", "compensation"] = Field(
        "weighted", description="weighted, spotlight or compensation"
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="score of the background; null: chosen without truth"
    )
    long_side: int = Field(500, ge=32, description="largest long side for CRF and PAMR (pixels)")
    crf: CRFSettings = Field(default_factory=CRFSettings, description="the CRF")
    pamr: PAMRSettings = Field(default_factory=PAMRSettings, description="the PAMR")

    @property
    def row(self) -> Refinement:
        """The refinement of this kind."""
        return REFINEMENTS[self.kind]

    @property
    def walks(self) -> bool:
        """Whether a relation network is trained and maps walk."""
        return self.row.walks


def class_shares(maps: Tensor, threshold: float) -> Tensor:
    """Scores of background and classes as shares of one.

    Args:
        maps: Maps [n,h,w] in 0..1.
        threshold: Score of the background, 0..1.

    Returns:
        Probabilities float32 [n+1,h,w], background first: equal where a map is at the threshold.
    """
    scores = torch.cat([maps.new_full((1, *maps.shape[1:]), threshold), maps]).clamp_min(1e-4)
    return scores / scores.sum(dim=0)


def refined_shares(
    image: Tensor, maps: Tensor, threshold: float, settings: RefineSettings
) -> Tensor:
    """Probabilities of background and classes after the refinement that the settings name.

    Args:
        image: RGB image uint8 [3,H,W].
        maps: Maps [n,h,w] in 0..1 of any grid; where the refinement walks, walked ones.
        threshold: Score of the background, 0..1.
        settings: Which refinement; with `none` or `irn` the maps are only enlarged.

    Returns:
        Probabilities float32 [n+1,H,W], background first.

    Raises:
        ValueError: The image is no RGB image of uint8.
    """
    if settings.row.shares is not None:
        return settings.row.shares(image, maps, threshold, settings)
    return class_shares(upsampled(maps, (image.shape[-2], image.shape[-1])), threshold)
