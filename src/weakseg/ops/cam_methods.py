"""Ways to make class activation maps of a network and its classifier.

A class's score is the mean over all positions of its weights times the last features, so that its
gradient there is W_k / (h·w) at every position: `cam`, `grad_cam_plus_plus` and `layer_cam` need no
backward pass. The others look at more than the last features: at all stages' gradients
(`region_cam`), at the image's (`climbing`), at a transformer's attention (`rollout`, `attention`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.ops.propagation import feature_affinity

CLIMBING_STEPS = 27
"""Steps of adversarial climbing (AdvCAM, CVPR 2021)."""

CLIMBING_STEP = 0.08
"""Of each, the largest change of a standardized pixel."""

CLIMBING_PENALTY = 7.0
"""Of climbing, what a change of the first map costs where it is sure."""

CLIMBING_SURE = 0.5
"""Share of a map's maximum above which it is sure."""


@dataclass
class View:
    """Images on their way through a branch: what a CAM method may look at.

    Attributes:
        images: [B,C,H,W], standardized.
        shared: What comes before the branch's own stages: features [B,C,h,w], or tokens with
            such a `map`.
        before: From images to `shared`.
        stages: From `shared` to the features after each of the branch's own stages.
        weights: Of its classifier [K,C].
        present: bool [K]: classes whose maps are asked for; those of others may be zero.
        attention: From images to the attention of each block, mean of its heads: [B,n,n] of n
            tokens, the patches last. It raises where a network has no attention over the whole
            image.
    """

    images: Tensor
    shared: Any
    before: Callable[[Tensor], Any]
    stages: Callable[[Any], list[Any]]
    weights: Tensor
    present: Tensor
    attention: Callable[[Tensor], Sequence[Tensor]]

    def features(self) -> Tensor:
        """The last features, float32 [B,C,h,w]."""
        return _map(self.stages(self.shared)[-1]).float()

    def scores(self, features: Tensor) -> Tensor:
        """W·F, [B,K,h,w], of features [B,C,h,w]."""
        return torch.einsum("kc,bchw->bkhw", self.weights, features.float())

    def classes(self) -> list[int]:
        """The classes that are present."""
        present: list[int] = self.present.nonzero()[:, 0].tolist()
        return present


CamMethod = Callable[[View], Tensor]
"""From what a branch makes of images to maps [B,K,h,w], not negative."""


def of_features(method: Callable[[Tensor, Tensor], Tensor]) -> CamMethod:
    """A method that needs the last features [B,C,h,w] and the weights [K,C] alone."""

    def maps(view: View) -> Tensor:
        return method(view.features(), view.weights)

    return maps


def _map(x: Any) -> Tensor:
    """Features [B,C,h,w], of tokens those of the patches."""
    found: Tensor = x if isinstance(x, Tensor) else x.map
    return found


def cam(features: Tensor, weights: Tensor) -> Tensor:
    """M = relu(W·F): Zhou and others, Learning deep features for localization (CVPR 2016).

    Behind a mean over the positions Grad-CAM (ICCV 2017), HiResCAM (2020) and XGrad-CAM (2020) are
    the same map but for its scale.

    Args:
        features: [B,C,h,w].
        weights: [K,C].

    Returns:
        [B,K,h,w], not negative.
    """
    return torch.einsum("kc,bchw->bkhw", weights, features).relu()


def grad_cam_plus_plus(features: Tensor, weights: Tensor) -> Tensor:
    """M = relu(Σ_c w_c F_c), w_c = Σ_hw α_c relu(g_c), α_c = g_c² / (2g_c² + g_c³ Σ_hw F_c).

    g = W / (h·w) is the gradient of a class's score. Chattopadhay and others, Grad-CAM++ (WACV
    2018), equations 10 and 19. Channels that speak against the class count nothing.

    Args:
        features: [B,C,h,w].
        weights: [K,C].

    Returns:
        [B,K,h,w], not negative.
    """
    positions = features.shape[-2] * features.shape[-1]
    gradient = weights / positions  # [K,C]
    total = features.sum(dim=(2, 3))[:, None]  # [B,1,C]
    share = 2 + gradient * total
    share = torch.where(share == 0, torch.ones_like(share), share)
    weight = positions * gradient.relu() / share
    return torch.einsum("bkc,bchw->bkhw", weight, features).relu()


def layer_cam(features: Tensor, weights: Tensor) -> Tensor:
    """M = relu(Σ_c relu(g_c) F_c): Jiang and others, LayerCAM (TIP 2021), equations 4 to 6.

    Args:
        features: [B,C,h,w].
        weights: [K,C].

    Returns:
        [B,K,h,w], not negative.
    """
    gradient = weights / (features.shape[-2] * features.shape[-1])
    return torch.einsum("kc,bchw->bkhw", gradient.relu(), features).relu()


@torch.enable_grad()
def region_cam(view: View) -> Tensor:
    """What each stage says of a class, merged and carried along likeness of the stages' features.

    Of each stage, S = relu(Σ_c relu(g_c) F_c), divided by its maximum; the mean of all on the last
    grid is carried by the affinity of all stages' features there. After Region-CAM (Cai and
    Abhayaratne, 2025: "semantic information maps" and their propagation).

    Args:
        view: One backward pass a class that is present.

    Returns:
        [B,K,h,w], not negative.
    """
    leaf = _with_gradient(view.shared)
    reached = [leaf, *view.stages(leaf)]
    values = [x if isinstance(x, Tensor) else x.values for x in reached]
    features = [_map(x).detach().float() for x in reached]
    size = features[-1].shape[-2:]
    totals = view.scores(_map(reached[-1])).mean(dim=(2, 3)).sum(dim=0)
    maps = view.weights.new_zeros(len(view.images), len(view.present), *size)
    for k in view.classes():
        gradients = torch.autograd.grad(totals[k], values, retain_graph=True)
        for x, own, gradient in zip(reached, features, gradients, strict=True):
            slope = gradient if isinstance(x, Tensor) else x._replace(values=gradient).map
            said = (slope.float().relu() * own).sum(dim=1, keepdim=True).relu()
            said = said / said.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
            maps[:, k] += _on_grid(said, size)[:, 0] / len(reached)
    with torch.no_grad():
        unit = [functional.normalize(_on_grid(x, size), dim=1) for x in features]
        carried = [
            (own.flatten(1) @ feature_affinity(alike).T).view_as(own)
            for own, alike in zip(maps, torch.cat(unit, dim=1), strict=True)
        ]
    return torch.stack(carried)


@torch.enable_grad()
def climbing(view: View) -> Tensor:
    """Maps of an image that is moved towards the class, summed over all steps.

    The image climbs the gradient of 2·y_k − Σ_j y_j, less a penalty on change where the first map
    is above one half of its maximum; each step is the gradient divided by its largest entry. Lee
    and others, Anti-Adversarially Manipulated Attributions (AdvCAM, CVPR 2021), section 3.2.

    Args:
        view: 27 passes forth and back for every class that is present.

    Returns:
        [B,K,h,w], not negative.
    """
    size = view.features().shape[-2:]
    maps = view.weights.new_zeros(len(view.images), len(view.present), *size)
    low, high = (f(view.images, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    for k in view.classes():
        images = view.images.detach()
        first: Tensor | None = None
        for _ in range(CLIMBING_STEPS):
            images = images.requires_grad_()
            scores = view.scores(_map(view.stages(view.before(images))[-1]))
            own = scores[:, k].relu()
            maps[:, k] += own.detach()
            if first is None:
                first = own.detach()
                sure = first > CLIMBING_SURE * first.amax(dim=(1, 2), keepdim=True)
            logits = scores.mean(dim=(2, 3))
            moved = ((own - first).abs() * sure).mean(dim=(1, 2)).sum()
            goal = (2 * logits[:, k] - logits.sum(dim=1)).sum() - CLIMBING_PENALTY * moved
            (gradient,) = torch.autograd.grad(goal, images)
            most = gradient.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
            step = CLIMBING_STEP * gradient / most
            images = torch.minimum(torch.maximum(images.detach() + step, low), high)
    return maps


def rollout(view: View) -> Tensor:
    """CAM carried by the attention rollout, R = Π_l (A_l + I) / 2, of a transformer.

    Abnar and Zuidema, Quantifying attention flow in transformers (ACL 2020), section 3: how much of
    each patch of the image every patch of the last block is made of. relu(W·F) of a patch counts
    where it comes from.

    Args:
        view: Of a ViT.

    Returns:
        [B,K,h,w], not negative.
    """
    whole: Tensor | None = None
    for block in view.attention(view.images):
        flow = (block + torch.eye(block.shape[-1], device=block.device)) / 2
        whole = flow if whole is None else flow @ whole
    assert whole is not None
    # Row i tells what token i is made of; its score goes there.
    return _carried(view, whole.mT)


def attention(view: View) -> Tensor:
    """CAM carried by the mean attention between patches of all blocks, A·M.

    Xu and others, Multi-class token transformer (MCTformer, CVPR 2022), section 3.4: patch-level
    affinity from attention.

    Args:
        view: Of a ViT.

    Returns:
        [B,K,h,w], not negative.
    """
    return _carried(view, torch.stack(list(view.attention(view.images))).mean(dim=0))


def _carried(view: View, affinity: Tensor) -> Tensor:
    """The part of an affinity [B,n,n] that is between patches, times relu(W·F)."""
    maps = view.scores(view.features()).relu()
    flat = maps.flatten(2)  # [B,K,hw]
    patches = affinity[:, -flat.shape[-1] :, -flat.shape[-1] :]
    return torch.einsum("bij,bkj->bki", patches.float(), flat).view_as(maps)


def _with_gradient(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.detach().requires_grad_()
    return x._replace(values=x.values.detach().requires_grad_())


def _on_grid(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(
        x, size=tuple(size), mode="bilinear", align_corners=False, antialias=True
    )


CAM_METHODS: Mapping[str, CamMethod] = {
    "cam": of_features(cam),
    "grad-cam": of_features(cam),
    "grad-cam++": of_features(grad_cam_plus_plus),
    "layer-cam": of_features(layer_cam),
    "region-cam": region_cam,
    "climbing": climbing,
    "rollout": rollout,
    "attention": attention,
}
"""By their names in settings; a new method is a new row. Local prototypes (LPCAM, CVPR 2023), which
need the whole data set, are the stage `spread`."""

OF_ATTENTION = frozenset({"rollout", "attention"})
"""Methods for a ViT alone."""

FORWARD_ONLY = frozenset({"cam", "grad-cam", "grad-cam++", "layer-cam"})
"""Methods that take no gradient: the network may be one that only looks."""
