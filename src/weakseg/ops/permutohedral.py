"""Gaussian filtering of scattered high-dimensional features on the permutohedral lattice."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_BAG_DEVICES = frozenset({"cpu", "cuda"})
"""Devices on which every supported torch release has `embedding_bag`."""

_KEY_MARGIN = 2
"""Steps a key's digits may leave the pixels' own range: one for the simplex, one for the blur."""


class PermutohedralLattice:
    r"""Filters values by a Gaussian of their features' distances, in time linear in the points.

    Approximates $y_i = \sum_j \exp(-\frac{1}{2}\lVert f_i - f_j\rVert^2)\, x_j$ up to a constant
    factor, the term $j = i$ included, by splatting onto the vertices of the lattice $A_d^*$,
    blurring along its $d + 1$ axes by (½, 1, ½), and slicing with the same barycentric weights
    (Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice,
    Eurographics 2010). A vertex is a class of integer vectors $y \in \mathbb{Z}^{d+1}$ that differ
    by a multiple of $(1, …, 1)$; it is kept as one integer, a linear function of the differences
    $y_i - y_{i+1}$, so that the neighbours along axis $j$ are found by adding a constant.

    Args:
        features: Points [d, N], float, already divided by the kernel's standard deviations; d ≥ 1
            and N ≥ 1.

    Raises:
        ValueError: The features have another shape, or span more standard deviations than 64-bit
            keys can tell apart.

    Example:
        >>> lattice = PermutohedralLattice(torch.rand(2, 100))
        >>> lattice.filter(torch.ones(100, 1)).shape
        torch.Size([100, 1])
    """

    def __init__(self, features: Tensor) -> None:
        if features.ndim != 2 or 0 in features.shape:
            raise ValueError(f"expected features [d, N], d ≥ 1, N ≥ 1, got {tuple(features.shape)}")
        steps, keys, weights = _enclosing_simplices(features.float())
        dim = len(steps)
        # The sort is the dearest step: narrow keys halve it, and its order serves the splat too.
        sorted_keys, order = torch.sort(keys.view(-1))
        del keys
        starts = torch.ones_like(sorted_keys, dtype=torch.bool)
        torch.ne(sorted_keys[1:], sorted_keys[:-1], out=starts[1:])
        vertex_of = torch.cumsum(starts, 0, dtype=torch.int32).sub_(1)
        vertices = sorted_keys[starts]
        first = torch.nonzero(starts).view(-1)

        self.points = features.shape[1]
        self.vertices = len(vertices)
        self._slice_index = torch.empty_like(vertex_of).index_copy_(0, order, vertex_of)
        self._slice_index = self._slice_index.view(self.points, dim)
        self._slice_weight = weights
        self._splat_weight = weights.view(-1).index_select(0, order)
        self._splat_index = torch.div(order.int(), dim, rounding_mode="floor")
        self._splat_ends = functional.pad(first, (0, 1), value=len(order)).int()
        self._blur = [self._neighbours(vertices, step) for step in steps]

    @staticmethod
    def _neighbours(vertices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Each vertex with its two neighbours along one axis [M, 3], and their weights."""
        count = len(vertices)
        itself = torch.arange(count, device=vertices.device, dtype=torch.int32)
        wanted = vertices + step
        found = torch.searchsorted(vertices, wanted, out_int32=True).clamp_(max=count - 1)
        hit = vertices.index_select(0, found) == wanted
        here = torch.nonzero(hit).view(-1)
        there = found.index_select(0, here).long()
        # A neighbour that is not there is the vertex itself, with weight 0.
        back = itself.clone().index_copy_(0, there, here.int())
        index = torch.stack([itself, torch.where(hit, found, itself), back], 1)
        half = hit.float().mul_(0.5)
        half_back = torch.zeros_like(half).index_fill_(0, there, 0.5)
        weight = torch.stack([torch.ones_like(half), half, half_back], 1)
        return index, weight

    def scale(self, before: Tensor, after: Tensor) -> None:
        """Multiplies each point's values by a factor before and after the filter, at no later cost.

        Args:
            before: Factors [N] of the values that go in.
            after: Factors [N] of the values that come out.
        """
        self._splat_weight = self._splat_weight * before.index_select(0, self._splat_index)
        self._slice_weight = self._slice_weight * after[:, None]

    def filter(self, values: Tensor) -> Tensor:
        """The filtered values.

        Args:
            values: Values [N, C], float32.

        Returns:
            Filtered values [N, C], float32.
        """
        lattice = self._splat(values)
        for index, weight in self._blur:
            lattice = _weighted_rows(lattice, index, weight)
        return _weighted_rows(lattice, self._slice_index, self._slice_weight)

    def _splat(self, values: Tensor) -> Tensor:
        if values.device.type in _BAG_DEVICES:
            return functional.embedding_bag(
                self._splat_index,
                values,
                self._splat_ends,
                mode="sum",
                per_sample_weights=self._splat_weight,
                include_last_offset=True,
            )
        lengths = self._splat_ends.diff()
        vertex = torch.repeat_interleave(torch.arange(self.vertices, device=values.device), lengths)
        spread = values[self._splat_index] * self._splat_weight[:, None]
        return values.new_zeros(self.vertices, values.shape[1]).index_add_(0, vertex, spread)


def _weighted_rows(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum over k of `weight[:, k] · values[index[:, k]]`, [R, C] from [M, C], [R, k], [R, k]."""
    if values.device.type in _BAG_DEVICES:
        return functional.embedding_bag(index, values, mode="sum", per_sample_weights=weight)
    return (values[index] * weight[:, :, None]).sum(1)


def _enclosing_simplices(features: Tensor) -> tuple[list[int], Tensor, Tensor]:
    """Each point's simplex: the d + 1 keys of its vertices and its barycentric weights.

    Returns:
        What one step along each of the d + 1 axes adds to a key; the keys [N, d+1], int32 where
        they fit, else int64, all ≥ 0; the weights [N, d+1], which sum to 1.
    """
    dim, points = features.shape
    device = features.device
    # In units of d + 1, so that vertices are integer vectors; y and y + (1, …, 1) are the same.
    elevated = _elevation(dim).to(device) @ features
    corner = torch.floor(elevated)
    fraction, axis = torch.sort(elevated - corner, dim=0, descending=True)
    weights = torch.empty(dim + 1, points, device=device)
    torch.sub(fraction[:-1], fraction[1:], out=weights[1:])
    torch.sub(fraction[-1], fraction[0], out=weights[0]).add_(1)

    digits = corner[:-1] - corner[1:]
    low = digits.amin(1).long().cpu() - _KEY_MARGIN
    sizes = (digits.amax(1).long().cpu() - low + 1 + _KEY_MARGIN).tolist()
    if math.prod(sizes) >= 2**62:
        raise ValueError(
            f"the kernel is too narrow for its features: {sizes} lattice steps along the axes "
            "cannot be told apart by 64-bit keys; use larger standard deviations"
        )
    kind = torch.int32 if math.prod(sizes) < 2**30 else torch.int64
    strides = [math.prod(sizes[i + 1 :]) for i in range(dim)]
    # A step along axis i raises digit i and lowers digit i - 1.
    steps = [
        (strides[i] if i < dim else 0) - (strides[i - 1] if i > 0 else 0) for i in range(dim + 1)
    ]
    keys = torch.empty(dim + 1, points, dtype=kind, device=device)
    first = keys[0].zero_()
    for digit, start, stride in zip(digits, low.tolist(), strides, strict=True):
        first.add_((digit - start).to(kind), alpha=stride)
    climb = torch.tensor(steps, dtype=kind, device=device).index_select(0, axis.view(-1))
    climb = climb.view(dim + 1, points)
    for k in range(dim):
        torch.add(keys[k], climb[k], out=keys[k + 1])
    return steps, keys.t().contiguous(), weights.t().contiguous()


def _elevation(dim: int) -> Tensor:
    """The map [d+1, d] of features onto the plane of zero sum, in units of d + 1.

    Its scale gives splat, blur and slice together a standard deviation of 1.
    """
    matrix = torch.zeros(dim + 1, dim, dtype=torch.float64)
    for i in range(dim):
        matrix[: i + 1, i] = 1
        matrix[i + 1, i] = -(i + 1)
        matrix[:, i] /= math.sqrt((i + 1) * (i + 2))
    return (matrix * math.sqrt(2 / 3)).float()
