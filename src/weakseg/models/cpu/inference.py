"""Networks that no longer learn: norms folded once, and bf16 weights whose rounding evens out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from weakseg.models.cpu.batch_norm import NormedConv2d, clamped_conv2d, conv2d_geometry

Network = TypeVar("Network", bound=nn.Module)


class InferenceConv2d(nn.Module):
    """A `NormedConv2d` that no longer learns: its norm is folded once, in the type it is used in.

    Rounding weights to bf16 shifts a channel's output by Σ (W − W_bf16)·x, and the inputs, behind a
    ReLU, are not zero on average: errors of one sign that no mean over pixels or views takes away.
    The bias, which stays in float32, takes up the shift of the mean input. Data-free quantization
    through weight equalization and bias correction (ICCV 2019), section 4.2.

    Args:
        normed: What it replaces.
        kind: Type of weights and outputs.
        mean: Mean of its input's channels [C]; None: the bias stays as it is.
    """

    def __init__(self, normed: NormedConv2d, kind: torch.dtype, mean: Tensor | None) -> None:
        super().__init__()
        weight, bias = normed.folded_weights()
        rounded = weight.to(kind)
        if mean is not None:
            shift = (weight - rounded.float()).sum(dim=(2, 3))
            groups = normed.convolution.groups
            inputs = mean.view(groups, -1).repeat_interleave(len(shift) // groups, dim=0)
            bias = bias + (shift * inputs).sum(dim=1)
        self.own, self.clamped, self.kind = normed.convolution, normed.clamped, kind
        self.register_buffer("weight", rounded, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normed features [B,C,h,w] of its type, in 0..6 if clamped."""
        x, own = x.to(self.kind), self.own
        geometry = conv2d_geometry(own, self.weight, x)
        if geometry is None:
            state = {"weight": self.weight, "bias": self.bias.to(self.kind)}
            y: Tensor = functional_call(own, state, (x,))
            return y.clamp_(0, 6) if self.clamped else y
        weight, padding = geometry
        return clamped_conv2d(x, weight, self.bias, own, padding, clamped=self.clamped)


@torch.no_grad()
def for_inference(
    network: Network, kind: torch.dtype = torch.float32, means: Mapping[str, Tensor] | None = None
) -> Network:
    """A network whose every `NormedConv2d` is a `InferenceConv2d`, for looking only.

    Args:
        network: Left as it is; the copy shares what is not replaced.
        kind: Type of the weights.
        means: The mean inputs that `mean_inputs` found, by name; None: no correction.
    """
    twin = copy.copy(network)
    twin._modules = {
        name: child if child is None else _fixed(child, kind, means or {}, name)
        for name, child in network._modules.items()
    }
    return twin


def _fixed(
    module: nn.Module, kind: torch.dtype, means: Mapping[str, Tensor], name: str
) -> nn.Module:
    if isinstance(module, NormedConv2d):
        return InferenceConv2d(module, kind, means.get(name))
    inside = f"{name}."
    own = {key.removeprefix(inside): mean for key, mean in means.items() if key.startswith(inside)}
    return for_inference(module, kind, own)


@torch.no_grad()
def mean_inputs(network: nn.Module, look: Callable[[], object]) -> dict[str, Tensor]:
    """The mean of every `NormedConv2d`'s input channels over what a network is given.

    Args:
        network: Its names are the keys.
        look: Lets it look at some images.

    Returns:
        float32 [C] of each, by the module's name.
    """
    seen: dict[str, list[Tensor]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(name, []).append(inputs[0].float().mean(dim=(0, 2, 3)))

        return hook

    hooks = [
        part.register_forward_pre_hook(note(name))
        for name, part in network.named_modules()
        if isinstance(part, NormedConv2d)
    ]
    try:
        look()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.stack(means).mean(dim=0) for name, means in seen.items()}
