"""Frozen batch norms folded into the convolutions before them: the same network, less work."""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import conv2d, pad

from weakseg.models.cpu.depthwise import DepthwiseConv2d, depthwise_conv2d, is_depthwise


class NormedConv2d(nn.Module):
    """A convolution and the frozen batch norm behind it, computed as one convolution.

    γ(W∗x + b − μ)/σ + β = (γ/σ·W)∗x + β + γ/σ·(b − μ). W, b, γ and β still learn; the statistics
    μ and σ do not. Against the two modules one after the other, a training step saves two passes
    over the activations and does not keep the convolution's output for the backward pass.

    A ReLU6 behind the norm is taken over, too: without gradient, on a CPU, the convolution clamps
    its output while it is in the cache.

    Args:
        convolution: Taken over as it is; of any subclass of `nn.Conv2d`.
        norm: Taken over as it is, but never called.
        clamped: Whether a ReLU6 follows.
    """

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, clamped: bool = False
    ) -> None:
        super().__init__()
        self.convolution, self.norm, self.clamped = convolution, norm, clamped

    def forward(self, x: Tensor) -> Tensor:
        """Normed features [B,C,h,w], in 0..6 if clamped."""
        weight, bias = self.folded_weights()
        own = self.convolution
        geometry = conv2d_geometry(own, weight, x) if _looking(x) else None
        if geometry is not None:
            weight, padding = geometry
            return clamped_conv2d(x, weight, bias, own, padding, clamped=self.clamped)
        if is_depthwise(own):
            around = cast("tuple[int, int]", own.padding)
            y = depthwise_conv2d(x, weight, bias, around, own.dilation[0])
        else:
            y = functional_call(own, {"weight": weight, "bias": bias}, (x,))
        return clamped_in_place(y) if self.clamped else y

    def folded_weights(self) -> tuple[Tensor, Tensor]:
        """Kernel [C',C/groups,kh,kw] and bias [C'] of the convolution that does both."""
        norm = self.norm
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        offset = -norm.running_mean
        if self.convolution.bias is not None:
            offset = offset + self.convolution.bias
        weight = self.convolution.weight * scale[:, None, None, None]
        return weight, norm.bias + scale * offset


class EvenConv2d(nn.Conv2d):
    """TensorFlow's "same" padding where each side is a multiple of the stride: a fixed padding."""

    def forward(self, x: Tensor) -> Tensor:
        """Features [B,C',⌈h/stride⌉,⌈w/stride⌉]."""
        around = []
        for axis in (1, 0):
            total = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1 - self.stride[axis]
            around += [max(0, total) // 2, max(0, total) - max(0, total) // 2]
        x = pad(x, around)
        return conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def conv2d_geometry(
    convolution: nn.Conv2d, weight: Tensor, x: Tensor
) -> tuple[Tensor, tuple[int, int]] | None:
    """Kernel and padding, alike on both sides, with which torch's own convolution does the same.

    TensorFlow's padding (`Conv2dSame`) may be one wider at the end than at the start. timm copies
    the features into a wider tensor, which takes longer than the convolution; padding both sides
    by the wider end and a kernel that begins with a zero give the same.

    Returns:
        None where there is none: another subclass, a dilated kernel, another padding mode.
    """
    own = convolution
    if type(own) in (nn.Conv2d, DepthwiseConv2d) and own.padding_mode == "zeros":
        return None if isinstance(own.padding, str) else (weight, (own.padding[0], own.padding[1]))
    if type(own) not in (Conv2dSame, EvenConv2d) or own.dilation != (1, 1):
        return None
    padding, zeros = [], []
    for length, kernel, step in zip(x.shape[2:], weight.shape[2:], own.stride, strict=True):
        last = length - step if type(own) is EvenConv2d else (-(-length // step) - 1) * step
        missing = max(0, last + kernel - length)
        padding.append(-(-missing // 2))
        zeros.append(missing % 2)
    return pad(weight, (zeros[1], 0, zeros[0], 0)), (padding[0], padding[1])


def clamped_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    own: nn.Conv2d,
    padding: tuple[int, int],
    *,
    clamped: bool,
) -> Tensor:
    """A convolution without gradient, and the ReLU6 behind it while its output is in the cache.

    In bf16, CPUs add the bias in float32, which torch's own convolution would round.

    Args:
        x: Features [B,C,h,w].
        weight: Kernel [C',C/groups,kh,kw].
        bias: float32 [C'].
        own: Its stride, dilation and groups count.
        padding: On both sides.
        clamped: Whether a ReLU6 follows.

    Returns:
        Features [B,C',h',w'] of the type of x, or of autocast's.
    """
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if not _looking(x) or not _fusible(kind):
        y = conv2d(x, weight, bias.to(x.dtype), own.stride, padding, own.dilation, own.groups)
        return y.clamp_(0, 6) if clamped else y
    activation = ("hardtanh", [0.0, 6.0], "") if clamped else ("none", [], "")
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        *(x.to(kind), weight.to(kind), bias.float(), padding, own.stride, own.dilation, own.groups),
        *activation,
    )
    return fused


def _fusible(kind: torch.dtype) -> bool:
    """Whether torch has a fused convolution for this CPU and type."""
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if kind == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return kind == torch.float32


class _ClampInPlace(torch.autograd.Function):
    """ReLU6 in place, whose backward pass needs only its output.

    torch's own in-place version copies its input for the backward pass; the output has to be kept
    for the next convolution anyway.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        y = x.clamp_(0, 6)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        # The gradient is 0 where x ≤ 0 or x ≥ 6, which is where y = 0 or y = 6.
        gradient: Tensor = torch.ops.aten.hardtanh_backward(grads[0], y, 0, 6)
        return gradient


def clamped_in_place(x: Tensor) -> Tensor:
    """min(max(x, 0), 6), written over x."""
    y: Tensor = _ClampInPlace.apply(x)
    return y


def _looking(x: Tensor) -> bool:
    """Whether these features are computed on a CPU, without gradient, here and now."""
    here = x.device.type == "cpu" and not torch.compiler.is_compiling()
    return here and not torch.is_grad_enabled()


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """The network with every batch norm that follows a convolution folded into it.

    Pairs are found by running the network once, so no family of networks needs code of its own.
    The result is compared with the network as it was; where they differ (a convolution whose raw
    output is used elsewhere, too), nothing is folded.

    Args:
        network: Any module with one input and one output; its own modules are changed, no
            parameter is copied.
        example: An input.

    Returns:
        The same network, folded or as it was.
    """
    network.eval()
    before = network(example)
    undone: list[tuple[Place, nn.Module]] = []
    for (convolution, at), (norm, behind) in _pairs(network, example):
        # timm's norms carry the activation that follows them.
        act = getattr(norm, "act", nn.Identity())
        clamped = isinstance(act, nn.ReLU6)
        undone += [(at, convolution), (behind, norm)]
        setattr(*at, NormedConv2d(convolution, norm, clamped=clamped))
        setattr(*behind, nn.Identity() if clamped else act)
    tolerance = 1e-3 * float(before.abs().max()) + 1e-6
    if not torch.allclose(before, network(example), rtol=1e-2, atol=tolerance):
        for place, module in undone:
            setattr(*place, module)
    return network


Place = tuple[nn.Module, str]


def _pairs(
    network: nn.Module, example: Tensor
) -> list[tuple[tuple[nn.Conv2d, Place], tuple[nn.BatchNorm2d, Place]]]:
    """Convolutions whose very output is a norm's input, each used once, and where both hang."""
    produced: dict[int, nn.Module] = {}
    found: list[tuple[nn.Module, nn.Module]] = []
    calls: dict[nn.Module, int] = {}
    alive: list[Tensor] = []  # an id names a tensor only while it lives

    def after_convolution(module: nn.Module, _: object, output: Tensor) -> None:
        alive.append(output)
        produced[id(output)] = module
        calls[module] = calls.get(module, 0) + 1

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        if id(inputs[0]) in produced:
            found.append((produced[id(inputs[0])], module))

    places: dict[nn.Module, Place] = {}
    hooks = []
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child.affine and child.track_running_stats:
                hooks.append(child.register_forward_pre_hook(before_norm))
            elif isinstance(child, nn.Conv2d):
                hooks.append(child.register_forward_hook(after_convolution))
            else:
                continue
            places[child] = (parent, name)
    network(example)
    for hook in hooks:
        hook.remove()
    return [
        ((convolution, places[convolution]), (norm, places[norm]))  # type: ignore[misc]
        for convolution, norm in found
        if calls[convolution] == calls[norm] == 1
    ]
