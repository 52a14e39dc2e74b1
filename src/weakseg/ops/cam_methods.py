"""Ways to make class activation maps of a network's last features and its classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

CamMethod = Callable[[Tensor, Tensor], Tensor]
"""From features [B,C,h,w] and a classifier's weights [K,C] to maps [B,K,h,w], not negative.

A class's score is the mean over all positions of its weights times the features, so that its
gradient is W_k / (h·w) at every position: methods that need gradients need no backward pass.
"""


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


CAM_METHODS: Mapping[str, CamMethod] = {
    "cam": cam,
    "grad-cam++": grad_cam_plus_plus,
    "layer-cam": layer_cam,
}
"""By their names in settings; a new method is a new row."""
