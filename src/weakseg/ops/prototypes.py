"""Local prototypes (LPCAM): a class by all of its parts, not by the most telling one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

_ROUNDS = 30
"""Maximum rounds of k-means; it ends earlier when no vector changes its cluster."""


class PrototypeSettings(BaseModel):
    """How local prototypes are found.

    Attributes:
        clusters: Clusters a class.
        foreground: Features are gathered where the class's map is above this.
        images: Maximum images per class that features are gathered from.
        vectors: Maximum features per class, gathered evenly from its images.
        sure: A centre is a prototype of its class where the classifier is at least this sure of
            it; a centre below `unsure` is one of its context, in between it is neither.
        unsure: See `sure`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clusters: int = Field(12, ge=1, description="clusters per class")
    foreground: float = Field(0.1, ge=0, lt=1, description="minimum map value where features count")
    images: int = Field(100, ge=1, description="maximum images per class to gather features from")
    vectors: int = Field(8192, ge=16, description="maximum features per class")
    sure: float = Field(0.9, gt=0, le=1, description="minimum probability of a class's prototypes")
    unsure: float = Field(0.5, ge=0, lt=1, description="maximum probability of its context")


class Prototypes(NamedTuple):
    """What a class looks like, and what stands around it.

    Attributes:
        own: Unit vectors [n,C] of the class's parts, at least one.
        context: Unit vectors [m,C] of what its maps cover beside; may be none.
    """

    own: Tensor
    context: Tensor


def gathered(features: Tensor, map_: Tensor, foreground: float, quota: int) -> Tensor:
    """Features of an image where a class's map is high, evenly thinned out.

    Args:
        features: Last features [C,h,w].
        map_: The class's map [h',w'] in 0..1.
        foreground: Only where the map, averaged over a feature's cell, is above this.
        quota: Maximum vectors.

    Returns:
        float32 [n,C], n ≤ quota.
    """
    cells = functional.interpolate(map_[None, None], size=features.shape[-2:], mode="area")[0, 0]
    vectors = features.float()[:, cells > foreground].T
    if len(vectors) > quota:
        vectors = vectors[torch.linspace(0, len(vectors) - 1, quota).long()]
    return vectors.contiguous()


def select_prototypes(
    centres: Tensor, classifier: Tensor, index: int, settings: PrototypeSettings
) -> Prototypes:
    """Centres parted into those of the class and those of its context by the classifier.

    Args:
        centres: [k,C], k ≥ 1.
        classifier: Weights W [K,C] of the CAM head.
        index: The class.
        settings: What is sure and what is not.

    Returns:
        The prototypes; where the classifier is sure of no centre, its surest is the only one.
    """
    probability = (centres @ classifier[index].float()).sigmoid()
    own = probability >= settings.sure
    if not bool(own.any()):
        own = probability == probability.max()
    context = (probability < settings.unsure) & ~own
    unit = functional.normalize(centres, dim=1)
    return Prototypes(unit[own], unit[context])


def prototype_map(features: Tensor, prototypes: Prototypes) -> Tensor:
    """Where an image looks like the class and not like its context.

    relu(mean cosine to the class's prototypes − mean cosine to the context's): Chen and Sun,
    Extracting Class Activation Maps from Non-Discriminative Features as well (CVPR 2023), eq. 4.

    Args:
        features: Last features [C,h,w].
        prototypes: Of the class.

    Returns:
        float32 [h,w], not negative.
    """
    unit = functional.normalize(features.float().flatten(1), dim=0)
    likeness = (prototypes.own @ unit).mean(dim=0)
    if len(prototypes.context):
        likeness = likeness - (prototypes.context @ unit).mean(dim=0)
    return likeness.relu().view(features.shape[-2:])


def kmeans(vectors: Tensor, clusters: int, *, seed: int = 0) -> Tensor:
    """Centres of clusters by Lloyd's rounds from k-means++ seeds; the same for the same input.

    Args:
        vectors: [N,C], N ≥ 1.
        clusters: How many centres; fewer come back where there are fewer distinct vectors.
        seed: Of the first centres.

    Returns:
        Centres float32 [k,C], k ≤ clusters.

    Raises:
        ValueError: There is no vector.
    """
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"expected vectors [N,C], N ≥ 1, got {tuple(vectors.shape)}")
    vectors = vectors.float()
    # Far from the origin squared distances would lose their digits.
    middle = vectors.mean(dim=0)
    vectors = vectors - middle
    centres = _first_centres(vectors, clusters, seed)
    before = None
    for _ in range(_ROUNDS):
        nearest = (centres.square().sum(dim=1) - 2 * vectors @ centres.T).argmin(dim=1)
        if before is not None and torch.equal(nearest, before):
            break
        before = nearest
        counts = torch.bincount(nearest, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        kept = counts > 0
        centres = sums[kept] / counts[kept, None]
        if not bool(kept.all()):
            before = None
    return centres + middle


def _first_centres(vectors: Tensor, clusters: int, seed: int) -> Tensor:
    """k-means++: each further centre is drawn in proportion to the squared distance so far."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(vectors), (1,), generator=generator))]
    distance = torch.full((len(vectors),), torch.inf, device=vectors.device)
    while len(chosen) < min(clusters, len(vectors)):
        distance = torch.minimum(distance, (vectors - vectors[chosen[-1]]).square().sum(dim=1))
        total = distance.double().cumsum(0)
        if float(total[-1]) <= 1e-12:
            break
        point = float(torch.rand(1, generator=generator)) * float(total[-1])
        found = int(torch.searchsorted(total, torch.tensor([point], device=total.device)))
        chosen.append(min(found, len(vectors) - 1))
    return vectors[chosen]
