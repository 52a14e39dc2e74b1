"""Networks that are a chain of parts, cut into a stem and four stages, and dilated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from weakseg.types import ConfigError

_CHAINS = ("blocks", "stages", "features")
_BEHIND = ("global_pool", "head", "head_drop", "pre_logits", "avgpool", "classifier", "fc")
"""What stands behind the last features, by the names of timm and torchvision."""


def _atoms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of `forward_features` in their order, chains such as `blocks` opened."""
    for name, child in model.named_children():
        if name in _BEHIND:
            return
        if name in _CHAINS and isinstance(child, nn.Sequential | nn.ModuleList):
            for inner, part in child.named_children():
                yield f"{name}.{inner}", part
        else:
            yield name, child


@torch.no_grad()
def cut_chain(model: Any, name: str, channels: int = 3) -> tuple[nn.Module, list[nn.Module]]:
    """The stem and the four stages of a network whose `forward_features` is a chain of its parts.

    Args:
        model: A network of timm.
        name: Its name, for the error.
        channels: Of its images.

    Raises:
        ConfigError: It is no such chain.
    """
    atoms = list(_atoms(model))
    names = [atom for atom, _ in atoms]
    ends = [info["module"] for info in getattr(model, "feature_info", [])][-4:]
    ends = [end if end in names else end.split(".")[0] for end in ends]
    cannot = ConfigError(
        f"backbone.name: {name} cannot be cut into four stages; choose a network with stages, "
        "such as resnet50, convnext_tiny, regnety_008, mobilenetv2_100 or tf_efficientnet_lite0"
    )
    if len(ends) < 4 or any(end not in names for end in ends):
        raise cannot
    if len(set(ends)) < 4 or [names.index(end) for end in ends] != sorted(map(names.index, ends)):
        raise cannot
    # The first stage begins where the stem's feature ends; with no such feature, at its own part.
    first = names.index(ends[0])
    before = [info["module"] for info in model.feature_info][:-4]
    stem_end = names.index(before[-1]) + 1 if before and before[-1] in names else first
    bounds = [stem_end, *(names.index(end) + 1 for end in ends[:3]), len(atoms)]
    parts = [part for _, part in atoms]
    stem = nn.Sequential(*parts[: bounds[0]])
    stages: list[nn.Module] = [nn.Sequential(*parts[start:end]) for start, end in pairwise(bounds)]
    training = model.training
    model.eval()
    x = example_images(channels, 64)
    try:
        whole, y = model.forward_features(x), x
        for part in (stem, *stages):
            y = part(y)
    except (TypeError, RuntimeError, AttributeError, AssertionError) as error:
        raise cannot from error
    if whole.shape != y.shape or not torch.allclose(whole, y, rtol=1e-3, atol=1e-4):
        raise cannot
    model.train(training)
    return stem, stages


@torch.no_grad()
def cut_by_strides(model: Any, name: str, channels: int = 3) -> tuple[nn.Module, list[nn.Module]]:
    """The stem and the four stages of a network of another library, cut where its grid coarsens.

    Args:
        model: A network that is a chain of its parts, as torchvision's ResNet or MobileNet.
        name: Its name, for the error.
        channels: Of its images.

    Raises:
        ConfigError: It is no such chain, or its grid is not halved five times.
    """
    groups: dict[int, list[nn.Module]] = {}
    training = model.training
    model.eval()
    x = example_images(channels, 64)
    try:
        for _, part in _atoms(model):
            x = part(x)
            groups.setdefault(64 // x.shape[-1], []).append(part)
    except (TypeError, RuntimeError, AttributeError, IndexError, NotImplementedError):
        groups = {}
    model.train(training)
    if not {4, 8, 16, 32} <= groups.keys() or list(groups) != sorted(groups):
        raise ConfigError(
            f"backbone: {name} is no chain of parts that halve the image five times; give a "
            "network such as torchvision's resnet50, or one of timm"
        )
    before = [part for stride, parts in groups.items() if stride < 4 for part in parts]
    stages: list[nn.Module] = [nn.Sequential(*groups[stride]) for stride in (4, 8, 16, 32)]
    return nn.Sequential(*before), stages


def dilate(stage: nn.Module, entry: int, after: int) -> None:
    """Undo the stride of a stage and spread its kernels, so that they see as far as before.

    Args:
        stage: The stage; exactly one 2-fold reduction happens in it.
        entry: Dilation of the layer that had the stride.
        after: Dilation of what follows it.
    """
    dilation = entry
    for part in stage.modules():
        if isinstance(part, nn.AvgPool2d | nn.MaxPool2d) and part.stride in (2, (2, 2)):
            part.stride = 1
            if part.kernel_size in (2, (2, 2)):
                # Without stride an even window would shift the grid, so it goes.
                part.kernel_size, part.padding = 1, 0
        if not isinstance(part, nn.Conv2d):
            continue
        strided = max(part.stride) > 1
        if max(part.kernel_size) == 1:
            part.stride = (1, 1)
            continue
        spread = entry if strided else dilation
        if strided:
            part.stride = (1, 1)
            dilation = after
        if strided or part.padding not in (0, (0, 0)):
            # Even kernels (the patches of ConvNeXt) have no symmetric padding: "same" is for them.
            even = any(size % 2 == 0 for size in part.kernel_size)
            around = tuple(spread * (size - 1) // 2 for size in part.kernel_size)
            part.padding = "same" if even else around
            if isinstance(part, Conv2dSame):
                part.__class__ = nn.Conv2d  # without stride, TensorFlow's padding is even, too
        part.dilation = (spread, spread)


def example_images(channels: int, side: int) -> Tensor:
    """An image [1,channels,side,side] of many values in −1..1, to try a network on."""
    return torch.linspace(-1, 1, channels * side * side).reshape(1, channels, side, side)
