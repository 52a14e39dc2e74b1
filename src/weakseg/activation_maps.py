"""Class activation maps of images by a trained network, as a function."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from weakseg.models.amr import AMR, Branch
from weakseg.models.transformers import Features, attention_maps
from weakseg.ops.arguments import as_tensor
from weakseg.ops.cam_methods import CAM_METHODS, FORWARD_ONLY, View
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
        present = torch.ones(len(images), model.classes, dtype=torch.bool, device=images.device)
        if tags is not None:
            present = present_classes(tags, model.classes).to(images.device)
        branches = [b for b in (model.spotlight, model.compensation) if b is not None]
        summed = network_maps(model, branches, model.standardized(images), present, settings)
    finally:
        model.train(training)
    maps = dict(zip(("spotlight", "compensation"), map(normalized, summed), strict=False))
    if "compensation" in maps:
        maps["weighted"] = weighted_cam(maps["spotlight"], maps["compensation"], settings.xi)
    return {name: value * present[:, :, None, None] for name, value in maps.items()}


def present_classes(tags: Sequence[Collection[int]], classes: int) -> Tensor:
    """Which of `classes` classes each image shows, bool [B,K], of their indices from 0."""
    present = torch.zeros(len(tags), classes, dtype=torch.bool)
    for place, own in enumerate(tags):
        present[place, list(own)] = True
    return present


def network_maps(
    model: AMR,
    branches: Sequence[Branch],
    images: Tensor,
    present: Tensor,
    settings: CamSettings,
) -> list[Tensor]:
    """The maps of branches, summed over scales and mirror images (see `multi_scale_cams`).

    Args:
        model: The network.
        branches: Of the network, or what stands in for them.
        images: Of one size [B,C,H,W], that went through `standardized`.
        present: bool [B,K]: classes whose maps are asked for; those of others may be zero.
        settings: Method, scales, mirror.

    Returns:
        Of each branch float32 [B,K,⌈H/4⌉,⌈W/4⌉], not negative, not normalized.
    """

    def maps_of(some: Tensor, asked: Tensor) -> list[Tensor]:
        look = partial(branch_maps, model, branches, method=settings.method, present=asked)
        return multi_scale_cams(look, some, settings)

    if settings.method in FORWARD_ONLY:
        return maps_of(images, torch.ones_like(present[0]))
    # Classes are asked for image by image: each costs backward passes.
    each = [maps_of(images[i : i + 1], present[i]) for i in range(len(images))]
    return [torch.cat(maps) for maps in zip(*each, strict=True)]


def branch_maps(
    model: AMR, branches: Sequence[Branch], images: Tensor, *, method: str, present: Tensor
) -> list[Tensor]:
    """The maps of branches by a method.

    Args:
        model: The network.
        branches: Of the network, or what stands in for them.
        images: [B,C,H,W] that went through `standardized`.
        method: A row of `CAM_METHODS`; maps that are probabilities are as they are learnt.
        present: bool [K]: classes whose maps are asked for; those of others may be zero.

    Returns:
        Of each branch [B,K,h,w], not negative.
    """
    shared = model.encode_standardized(images)

    def before(x: Tensor) -> Features:
        features: Features = model.shared(model.frozen(x))
        return features

    def maps(branch: Branch) -> Tensor:
        if method == "cam" or branch.probabilities:
            found: Tensor = branch(shared).cams
            return found
        look = partial(
            attention_maps,
            (model.frozen, model.shared, branch),
            lambda x: branch.stage_features(before(x)),
        )
        weights = branch.head.weight.detach().flatten(1).float()
        view = View(images, shared, before, branch.stage_features, weights, present, look)
        return CAM_METHODS[method](view)

    return [maps(branch) for branch in branches]
