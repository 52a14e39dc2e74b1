"""Depthwise convolutions whose gradients are cheap on a CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_COLUMNS = 3
"""oneDNN's weight gradient of depthwise kernels is fast up to this many columns."""

_FAR = 4
"""Beyond this dilation a grid falls into so many small ones that tap by tap is faster."""


def depthwise_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], dilation: int
) -> Tensor:
    """A convolution with groups = channels and stride 1 whose gradients are several times faster.

    On a CPU, torch's own gradients of depthwise convolutions fall back to slow code when the kernel
    is dilated or wider than three columns. Here the input's gradient is a convolution with the
    mirrored kernel, and the weight's gradient that of undilated kernels of at most three columns,
    on the grids which a dilation leaves apart, or tap by tap where it is large.

    Args:
        x: Features [B,C,h,w].
        weight: Kernels [C,1,kh,kw].
        bias: [C], or None.
        padding: Zeros above and below, left and right, in cells.
        dilation: Cells between the kernel's taps.

    Returns:
        Features [B,C,h',w'].
    """
    rest = [dilation * (k - 1) - p for k, p in zip(weight.shape[2:], padding, strict=True)]
    slow = dilation > 1 or weight.shape[3] > _COLUMNS
    handled = min(rest) >= 0 and not any(size % dilation for size in (*padding, *rest))
    if slow and handled and x.device.type == "cpu" and torch.is_grad_enabled():
        if torch.is_autocast_enabled("cpu"):  # it does not look into functions with own gradients
            kind = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        y: Tensor = _Depthwise.apply(x, weight, bias, padding, dilation)
        return y
    return functional.conv2d(x, weight, bias, 1, padding, dilation, x.shape[1])


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether `depthwise_conv2d` computes what this convolution does."""
    own = convolution
    return (
        type(own) in (nn.Conv2d, DepthwiseConv2d)
        and own.groups == own.in_channels == own.out_channels
        and own.stride == (1, 1)
        and own.dilation[0] == own.dilation[1]
        and own.padding_mode == "zeros"
        and not isinstance(own.padding, str)
    )


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution computed by `depthwise_conv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """Features [B,C,h',w']."""
        padding, (dilation, _) = cast("tuple[int, int]", self.padding), self.dilation
        return depthwise_conv2d(x, self.weight, self.bias, padding, dilation)


def use_fast_gradients(network: nn.Module) -> None:
    """Have `depthwise_conv2d` compute every convolution of a network that it can."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and is_depthwise(part):
            part.__class__ = DepthwiseConv2d


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes no names
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
        dilation: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = padding, dilation
        return functional.conv2d(x, weight, bias, 1, padding, dilation, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        x, weight = ctx.saved_tensors
        padding, dilation = ctx.geometry
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        rest = [dilation * (k - 1) - p for k, p in zip(weight.shape[2:], padding, strict=True)]
        return (
            functional.conv2d(g, weight.flip(2, 3), None, 1, rest, dilation, g.shape[1])
            if for_x
            else None,
            _weight_gradient(g, x, weight.shape, padding, dilation) if for_weight else None,
            g.sum(dim=(0, 2, 3)) if for_bias else None,
            None,
            None,
        )


def _weight_gradient(
    g: Tensor, x: Tensor, shape: torch.Size, padding: tuple[int, int], dilation: int
) -> Tensor:
    channels, _, rows, columns = shape
    if dilation > _FAR:
        return _tap_by_tap(g, x, shape, padding, dilation)
    if dilation > 1:
        g, x = _apart(g, dilation), _apart(x, dilation)
    above, left = (size // dilation for size in padding)
    height, width = g.shape[2:]
    parts = []
    for start in range(0, columns, _COLUMNS):
        taps = g.new_empty(channels, 1, rows, min(_COLUMNS, columns - start))
        end = start - left + width + taps.shape[3] - 1
        if start - left >= x.shape[3] or end <= 0:
            parts.append(taps.zero_())  # these taps see nothing but padding
            continue
        below = height + rows - 1 - above - x.shape[2]
        rim = min(above, below)
        window = functional.pad(x, (left - start, end - x.shape[3], above - rim, below - rim))
        parts.append(
            torch.ops.aten.convolution_backward(
                *(g, window, taps, None, [1, 1], [rim, 0], [1, 1], False, [0, 0], channels),
                [False, True, False],
            )[1]
        )
    return torch.cat(parts, dim=3)


def _tap_by_tap(
    g: Tensor, x: Tensor, shape: torch.Size, padding: tuple[int, int], dilation: int
) -> Tensor:
    gradient = g.new_zeros(shape)
    for row in range(shape[2]):
        for column in range(shape[3]):
            (y, v), (z, w) = (
                _overlap(g.shape[axis], x.shape[axis], place * dilation - padding[axis - 2])
                for axis, place in ((2, row), (3, column))
            )
            gradient[:, 0, row, column] = (g[:, :, y, z] * x[:, :, v, w]).sum(dim=(0, 2, 3))
    return gradient


def _overlap(length: int, other: int, shift: int) -> tuple[slice, slice]:
    """Where two sides lie over each other, the second shifted by so many cells to the first."""
    start, end = max(0, -shift), min(length, other - shift)
    end = max(start, end)
    return slice(start, end), slice(start + shift, end + shift)


def _apart(x: Tensor, dilation: int) -> Tensor:
    """The dilation² grids of [B,C,h,w], as [dilation²·B,C,⌈h/dilation⌉,⌈w/dilation⌉]."""
    below, right = (-size % dilation for size in x.shape[2:])
    if below or right:
        x = functional.pad(x, (0, right, 0, below))
    count, channels, height, width = x.shape
    rows, columns = height // dilation, width // dilation
    apart = x.permute(0, 2, 3, 1).reshape(count, rows, dilation, columns, dilation, channels)
    return apart.permute(2, 4, 0, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)
