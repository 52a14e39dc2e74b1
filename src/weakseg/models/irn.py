"""The inter-pixel relation network: boundary and displacement heads on any backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

GRID_STRIDE = 4
"""Image pixels to a pixel of the grid on which relations live."""


class RelationMaps(NamedTuple):
    """What a relation network says about every pixel of the stride-4 grid."""

    boundary_logits: Tensor
    """[B,1,h,w]; its sigmoid is the probability of a boundary."""
    displacement: Tensor | None
    """[B,2,h,w]: rows and columns, in grid pixels, from each pixel to its object's centre; None
    from a network without displacement head."""


def grid_size(features: Sequence[Tensor], strides: Sequence[int]) -> tuple[int, int]:
    """Height and width of the stride-4 grid, judged by the feature map whose stride is nearest.

    Args:
        features: Maps [B,C,h,w].
        strides: Image pixels to a pixel of each map.

    Returns:
        The size of a stride-4 map if there is one, else the nearest map's size scaled, rounded up.
    """
    nearest = min(range(len(strides)), key=lambda i: abs(math.log2(strides[i] / GRID_STRIDE)))
    h, w = features[nearest].shape[-2:]
    stride = strides[nearest]
    return math.ceil(h * stride / GRID_STRIDE), math.ceil(w * stride / GRID_STRIDE)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, blurred first where it shrinks; the map itself where it fits."""
    if x.shape[-2:] == size:
        return x
    shrinks = x.shape[-2] > size[0] or x.shape[-1] > size[1]
    kind = x.dtype
    if shrinks:  # on a CPU torch blurs no bf16
        x = x.float()
    return interpolate(x, size, mode="bilinear", align_corners=False, antialias=shrinks).to(kind)


class Projection(nn.Sequential):
    """1×1 convolution without bias, group normalization, ReLU.

    Args:
        inputs: Channels in.
        outputs: Channels out, a multiple of `groups`.
        groups: Groups of the normalization.
    """

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.ReLU(inplace=True),
        )


def _check_levels(widths: Sequence[int], strides: Sequence[int]) -> None:
    if not widths or len(widths) != len(strides):
        raise ValueError(
            f"expected as many widths as strides, at least one, got {len(widths)} and "
            f"{len(strides)}"
        )
    if any(number < 1 for number in (*widths, *strides)):
        raise ValueError(f"expected positive widths and strides, got {widths} and {strides}")


def _check_features(features: Sequence[Tensor], widths: Sequence[int]) -> None:
    shapes = [tuple(feature.shape) for feature in features]
    if [shape[1:2] for shape in shapes] != [(width,) for width in widths]:
        raise ValueError(f"expected features [B,C,h,w] of widths {tuple(widths)}, got {shapes}")


class BoundaryHead(nn.Module):
    """Where objects end: each feature map to 32 channels, brought to one grid, merged to one map.

    IRN (arXiv 1904.05044): 1×1 convolution, GroupNorm(4), upsampling to stride 4 and ReLU for every
    level; their concatenation goes through a 1×1 convolution.

    Args:
        widths: Channels of each feature map, fine to coarse.
        strides: Image pixels to a pixel of each.

    Raises:
        ValueError: Widths and strides do not fit each other.

    Example:
        >>> head = BoundaryHead([16, 32], [4, 8])
        >>> head([torch.rand(1, 16, 20, 24), torch.rand(1, 32, 10, 12)]).shape
        torch.Size([1, 1, 20, 24])
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        _check_levels(widths, strides)
        self.widths, self.strides = tuple(widths), tuple(strides)
        self.levels = nn.ModuleList(Projection(width, 32, groups=4) for width in widths)
        self.merge = nn.Conv2d(32 * len(widths), 1, 1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """The boundary's logits.

        Args:
            features: Maps [B,C_i,h_i,w_i] of the widths and strides given at construction.
            size: Height and width of the answer; `grid_size` by default.

        Returns:
            [B,1,h,w].

        Raises:
            ValueError: The features are not of the widths given at construction.
        """
        _check_features(features, self.widths)
        size = size or grid_size(features, self.strides)
        levels = [_resized(level(x), size) for level, x in zip(self.levels, features, strict=True)]
        logits: Tensor = self.merge(torch.cat(levels, dim=1))
        return logits


class DisplacementHead(nn.Module):
    """Where an object's centre lies, seen from each pixel: features merged from coarse to fine.

    IRN (arXiv 1904.05044): 1×1 convolution and group normalization to 64, 128, 256, 256, 256
    channels (the last four of these numbers for four maps). The maps coarser than stride 4 meet at
    the finest of their strides and become 256 channels; upsampled, they meet the others, become 256
    again, then the two maps of rows and columns.

    Args:
        widths: Channels of each feature map, fine to coarse; at most five.
        strides: Image pixels to a pixel of each.

    Raises:
        ValueError: Widths and strides do not fit each other.

    Example:
        >>> head = DisplacementHead([16, 32], [4, 8])
        >>> head([torch.rand(1, 16, 20, 24), torch.rand(1, 32, 10, 12)]).shape
        torch.Size([1, 2, 20, 24])
    """

    _CHANNELS = (64, 128, 256, 256, 256)
    _MERGED = 256

    def __init__(self, widths: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        _check_levels(widths, strides)
        if len(widths) > len(self._CHANNELS):
            raise ValueError(
                f"expected at most {len(self._CHANNELS)} feature maps, got {len(widths)}"
            )
        self.widths, self.strides = tuple(widths), tuple(strides)
        channels = self._CHANNELS[-len(widths) :]
        self.levels = nn.ModuleList(
            Projection(width, outputs, groups=min(16, outputs // 8))
            for width, outputs in zip(widths, channels, strict=True)
        )
        self.fine = [i for i, stride in enumerate(strides) if stride <= GRID_STRIDE]
        self.coarse = [i for i, stride in enumerate(strides) if stride > GRID_STRIDE]
        fine_channels = sum(channels[i] for i in self.fine)
        self.merge_coarse: nn.Module | None = None
        if self.coarse:
            coarse_channels = sum(channels[i] for i in self.coarse)
            self.merge_coarse = Projection(coarse_channels, self._MERGED, groups=16)
            fine_channels += self._MERGED
        self.merge_fine = Projection(fine_channels, self._MERGED, groups=16)
        self.offsets = nn.Conv2d(self._MERGED, 2, 1, bias=False)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """The displacement field.

        Args:
            features: Maps [B,C_i,h_i,w_i] of the widths and strides given at construction.
            size: Height and width of the answer; `grid_size` by default.

        Returns:
            [B,2,h,w]: rows and columns, in pixels of the answer's grid.

        Raises:
            ValueError: The features are not of the widths given at construction.
        """
        _check_features(features, self.widths)
        size = size or grid_size(features, self.strides)
        levels = [level(x) for level, x in zip(self.levels, features, strict=True)]
        met = [_resized(levels[i], size) for i in self.fine]
        if self.merge_coarse is not None:
            finest = min(self.coarse, key=lambda i: self.strides[i])
            meeting = features[finest].shape[-2], features[finest].shape[-1]
            merged = self.merge_coarse(
                torch.cat([_resized(levels[i], meeting) for i in self.coarse], dim=1)
            )
            met.append(_resized(merged, size))
        offsets: Tensor = self.offsets(self.merge_fine(torch.cat(met, dim=1)))
        return offsets


class RelationNet(nn.Module):
    """Both heads over the features of a backbone that it neither holds nor trains.

    Training mode gives the displacement head's raw output; evaluation mode subtracts
    `displacement_mean`, which is measured over the training set once training is over.

    Args:
        widths: Channels of each feature map, fine to coarse: stem and four stages, or four stages.
        strides: Image pixels to a pixel of each.
        displacement: Whether there is a displacement head. Semantic masks need only boundaries;
            displacements tell instances apart.

    Attributes:
        boundary_head: The `BoundaryHead`.
        displacement_head: The `DisplacementHead`, which IRN trains at ten times the rate, or None.
        displacement_mean: Buffer [2], zero at first.

    Example:
        >>> net = RelationNet([16, 24, 40], [4, 8, 16]).eval()
        >>> sizes = [(16, 32), (24, 16), (40, 8)]
        >>> maps = net([torch.rand(2, width, side, side) for width, side in sizes])
        >>> maps.boundary_logits.shape, maps.displacement.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 2, 32, 32]))
    """

    displacement_mean: Tensor

    def __init__(
        self, widths: Sequence[int], strides: Sequence[int], *, displacement: bool = True
    ) -> None:
        super().__init__()
        self.boundary_head = BoundaryHead(widths, strides)
        self.displacement_head = DisplacementHead(widths, strides) if displacement else None
        self.register_buffer("displacement_mean", torch.zeros(2))

    if TYPE_CHECKING:

        def __call__(  # noqa: D102
            self, features: Sequence[Tensor], size: tuple[int, int] | None = None
        ) -> RelationMaps: ...

    def forward(
        self, features: Sequence[Tensor], size: tuple[int, int] | None = None
    ) -> RelationMaps:
        """Boundary logits and displacements on the stride-4 grid.

        Args:
            features: Maps [B,C_i,h_i,w_i] of the widths and strides given at construction.
            size: Height and width of the grid; `grid_size` by default.

        Returns:
            The two maps.

        Raises:
            ValueError: The features are not of the widths given at construction.
        """
        boundary = self.boundary_head(features, size)
        if self.displacement_head is None:
            return RelationMaps(boundary, None)
        displacement = self.displacement_head(features, size)
        if not self.training:
            displacement = displacement - self.displacement_mean.view(2, 1, 1)
        return RelationMaps(boundary, displacement)

    def set_displacement_mean(self, mean: Tensor) -> None:
        """Stores the mean displacement over the training set.

        Args:
            mean: (rows, columns) of the raw output, in grid pixels, [2].

        Raises:
            ValueError: It is not two finite numbers.
        """
        if mean.shape != (2,) or not bool(mean.isfinite().all()):
            raise ValueError(f"expected two finite numbers, got {mean.tolist()}")
        self.displacement_mean.copy_(mean)
