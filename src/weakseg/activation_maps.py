"""Class activation maps of images by a trained network, as a function."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from weakseg.models.amr import AMR, Branch
from weakseg.models.transformers import Features
from weakseg.ops.arguments import as_tensor
from weakseg.ops.cam_methods import CAM_METHODS
from weakseg.ops.cams import CamSettings, multi_scale_cams, normalized, weighted_cam

_DEFAULTS = CamSettings()


@torch.no_grad()
def class_activation_maps(
    model: AMR,
    images: Tensor,
    tags: Sequence[Collection[int]] | None = None,
    settings: CamSettings = _DEFAULTS,
) -> dict[str, Tensor]:
    """The class activation maps of images of one size, over scales and mirror images.

    M = relu(W·F), or as `settings.method` says, summed over the views and divided by each map's own
    maximum; with two branches the weighted map M_W = ξ·M_S + (1−ξ)·M_C besides (Activation
    Modulation and Recalibration, AAAI 2022, equation 10).

    Args:
        model: The network; its mode is put back afterwards.
        images: RGB [B,3,H,W], uint8 or in 0..1, on the network's device.
        tags: For each image the classes that it shows, counted from 0: maps of others are zero.
            None: all classes have maps.
        settings: Method, scales, mirror, ξ.

    Returns:
        `spotlight` and, with two branches, `compensation` and `weighted`: float32 [B,K,h,w] in 0..1
        at stride 4.

    Raises:
        ValueError: The images are no [B,3,H,W], or there are not as many tags as images.

    Example:
        >>> from weakseg import AMR, BackboneSettings
        >>> model = AMR(2, BackboneSettings(name="resnet18", weights="none"))
        >>> maps = class_activation_maps(model, torch.rand(1, 3, 64, 64))
        >>> maps["weighted"].shape
        torch.Size([1, 2, 16, 16])
    """
    images = as_tensor(images, "images")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images [B,3,H,W], got {tuple(images.shape)}")
    if tags is not None and len(tags) != len(images):
        raise ValueError(f"expected tags for {len(images)} images, got {len(tags)}")
    training = model.training
    model.eval()
    try:
        pixels = model.standardized(images)

        def forward(views: Tensor) -> list[Tensor]:
            shared = model.encode_standardized(views)
            branches = (model.spotlight, model.compensation)
            return [
                branch_maps(branch, shared, settings.method)
                for branch in branches
                if branch is not None
            ]

        summed = multi_scale_cams(forward, pixels, settings)
    finally:
        model.train(training)
    maps = dict(zip(("spotlight", "compensation"), map(normalized, summed), strict=False))
    if "compensation" in maps:
        maps["weighted"] = weighted_cam(maps["spotlight"], maps["compensation"], settings.xi)
    if tags is not None:
        present = torch.zeros(len(images), model.classes, device=images.device)
        for place, classes in enumerate(tags):
            present[place, list(classes)] = 1
        maps = {name: value * present[:, :, None, None] for name, value in maps.items()}
    return maps


def branch_maps(branch: Branch, shared: Features, method: str) -> Tensor:
    """A branch's maps [B,K,h,w], not negative, from the shared features.

    Args:
        branch: Of an AMR.
        shared: What its `encode` gives.
        method: A row of `CAM_METHODS`; maps that are probabilities are as they are learnt.
    """
    if method == "cam" or branch.probabilities:
        cams: Tensor = branch(shared).cams
        return cams
    weights = branch.head.weight.detach().flatten(1).float()
    return CAM_METHODS[method](branch.features(shared).float(), weights)
