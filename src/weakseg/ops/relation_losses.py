"""Losses that teach boundaries and displacements from seeds, summed over all near pairs.

Radius 10 has 152 pairs a pixel: kept for a batch in automatic differentiation they would be
gigabytes. Each loss is therefore one `autograd.Function` that goes through the pairs once, adds up
value and gradient together, and keeps a gradient of the map's own size only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from weakseg.ops.affinity import (
    Relation,
    displacements,
    pair_labels,
    path_winners,
)
from weakseg.shared_batch import shared_total

_EPSILON = 1e-5
"""Added inside the logarithms, as published."""

_CHUNK = 1 << 22
"""On a CPU, pairs whose maxima and their places are held at once: 32 MiB."""

_CPU_PIXELS = 1 << 15
"""On a CPU, pixels looked at together: the arrays of one displacement stay in the cache."""

_GPU_CHUNK = 1 << 25
"""On a GPU, pairs looked at together: 256 MB for their places alone. To start a call
takes longer than to compute it for few."""


class AffinityTerms(NamedTuple):
    """The affinity loss and what it is made of."""

    loss: Tensor
    """½·background + ½·foreground + negative; carries the gradient."""
    background: Tensor
    """Mean of −log a over background pairs, detached."""
    foreground: Tensor
    """Mean of −log a over pairs of one class, detached."""
    negative: Tensor
    """Mean of −log(1−a) over pairs of different labels, detached."""


class DisplacementTerms(NamedTuple):
    """The displacement loss and what it is made of."""

    loss: Tensor
    """foreground + background; carries the gradient."""
    foreground: Tensor
    """Mean of |difference − offset| over pairs of one class, grid pixels, detached."""
    background: Tensor
    """Mean of |difference| over background pairs, grid pixels, detached."""


class RelationTerms(NamedTuple):
    """The whole loss and its parts."""

    loss: Tensor
    """½·affinity.loss + ½·displacement.loss; carries the gradient."""
    affinity: AffinityTerms
    displacement: DisplacementTerms


_KINDS = (Relation.BACKGROUND, Relation.FOREGROUND, Relation.NEGATIVE)


def _members(code: Tensor) -> Tensor:
    """1 where a pair [M] is of a kind, else 0, as floats [3,M]."""
    kinds = torch.tensor(_KINDS, dtype=torch.float32, device=code.device)
    members = kinds.new_empty(len(_KINDS), len(code))
    # Floats compare into floats at a fraction of the time that bytes and truth values take.
    return torch.eq(code.float(), kinds[:, None], out=members)


def _counts(codes: Tensor) -> Tensor:
    """How many pairs bear each of `_KINDS`, at least 1, as floats [3]; see `shared_total`."""
    total = torch.zeros(len(_KINDS), device=codes.device)
    for part in _chunks(codes):
        for code in _lines(codes[:, part]):
            total += _members(code).sum(1)
    return shared_total(total, least=1)


def _chunks(codes: Tensor) -> list[slice]:
    """Slices of the batch, as few as memory (and on a CPU the cache) allows."""
    pairs, batch, h, w = codes.shape
    on_cpu = codes.device.type == "cpu"
    pixels = min(_CHUNK // pairs, _CPU_PIXELS) if on_cpu else _GPU_CHUNK // pairs
    images = max(1, pixels // max(1, h * w))
    return [slice(first, first + images) for first in range(0, batch, images)]


def _lines(planes: Tensor) -> Tensor:
    """Planes [P,B,h,w] as rows to look at one after the other: each plane, on a GPU all at once."""
    return planes.flatten(1) if planes.device.type == "cpu" else planes.reshape(1, -1)


class _AffinityLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, boundary: Tensor, codes: Tensor, count: Tensor, radius: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shares = boundary.new_tensor([0.5, 0.5, 1.0])
        slopes = shares / count * shares.new_tensor([1, 1, -1])
        sums = torch.zeros_like(shares)
        gradient = torch.zeros_like(boundary)
        for part in _chunks(codes):
            maxima, winners = path_winners(boundary[part], radius)
            flat = gradient[part].view(-1)
            for maximum, winner, code in zip(
                _lines(maxima), _lines(winners), _lines(codes[:, part]), strict=True
            ):
                members = _members(code)
                # The probability of what the label says: of a boundary between, or of none.
                likelihood = (1 + _EPSILON - maximum).addcmul_(members[2], 2 * maximum - 1)
                sums -= members @ likelihood.log()
                flat.index_add_(0, winner, (slopes @ members).div_(likelihood))
        means = sums / count
        background, foreground, negative = means.unbind()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(background, foreground, negative)
        return shares @ means, background, foreground, negative

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None, None


class _DisplacementLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, displacement: Tensor, codes: Tensor, count: Tensor, radius: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        w = displacement.shape[-1]
        # Both coordinates count, hence twice as many numbers as pairs.
        shares = displacement.new_tensor([0.5, 0.5, 0.0]) / count
        sums = torch.zeros_like(shares)
        gradient = torch.zeros_like(displacement)
        for part in _chunks(codes):
            field = displacement[part].transpose(0, 1).flatten(1)
            slope = torch.zeros_like(field)
            m = field.shape[1]
            for plane, (dy, dx) in zip(
                codes[:, part].flatten(1), displacements(radius), strict=True
            ):
                # Flat shifts wrap at the borders of rows and images; such pairs are unknown.
                shift = dy * w + dx
                if not 0 < shift < m:
                    continue
                members = _members(plane[: m - shift])
                error = field[:, : m - shift] - field[:, shift:]
                offset = field.new_tensor([[dy], [dx]])
                error.addcmul_(offset, members[_KINDS.index(Relation.FOREGROUND)], value=-1)
                sums += members @ error.abs().sum(0)
                error.sign_().mul_(shares @ members)
                slope[:, : m - shift] += error
                slope[:, shift:] -= error
            shape = gradient[part].transpose(0, 1).shape
            gradient[part] = slope.view(shape).transpose(0, 1)
        background, foreground, _ = (sums * shares).unbind()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(foreground, background)
        return foreground + background, foreground, background

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None, None


def _affinity(boundary: Tensor, codes: Tensor, count: Tensor, radius: int) -> AffinityTerms:
    return AffinityTerms(*_AffinityLoss.apply(boundary.float()[:, 0], codes, count, radius))


def _displacement(
    displacement: Tensor, codes: Tensor, count: Tensor, radius: int
) -> DisplacementTerms:
    return DisplacementTerms(*_DisplacementLoss.apply(displacement.float(), codes, count, radius))


def affinity_loss(boundary: Tensor, codes: Tensor, radius: int = 10) -> AffinityTerms:
    """Boundaries should part different labels and nothing else.

    With a = 1 − max of the boundary along a pair's path: −log a on pairs of equal label, background
    and classes averaged apart; −log(1−a) on pairs of different labels (IRN, arXiv 1904.05044,
    equations 6 and 7). A pair's gradient reaches the one pixel of its path where the maximum is.

    Args:
        boundary: Probability of a boundary in 0..1, [B,1,h,w].
        codes: `pair_labels` of the seeds, [P,B,h,w].
        radius: The radius of the codes, in grid pixels.

    Returns:
        The loss and its three terms; a term without any pair is 0.

    Raises:
        ValueError: Shapes do not fit.

    Example:
        >>> seeds = torch.tensor([[[0, 0, 1, 1]]])
        >>> boundary = torch.tensor([[[[0.1, 0.2, 0.6, 0.1]]]], requires_grad=True)
        >>> affinity_loss(boundary, pair_labels(seeds, 2), 2).loss.backward()
        >>> boundary.grad[0, 0, 0].sign()  # background wants less at 1; at 2, both are wanted
        tensor([ 0.,  1., -1.,  0.])
    """
    _check(boundary, 1, codes, radius)
    return _affinity(boundary, codes, _counts(codes), radius)


def displacement_loss(displacement: Tensor, codes: Tensor, radius: int = 10) -> DisplacementTerms:
    """Displacements of one object should point at one place, those of background nowhere.

    Where D points from each pixel to its object's centre, D(source) − D(partner) is the offset from
    the source to its partner. The loss is the mean of |D(source) − D(partner) − offset| over pairs
    of one class and of |D(source) − D(partner)| over background pairs (IRN, equations 3 and 4).

    Args:
        displacement: (rows, columns) in grid pixels, [B,2,h,w].
        codes: `pair_labels` of the seeds, [P,B,h,w].
        radius: The radius of the codes, in grid pixels.

    Returns:
        The loss and its two terms; a term without any pair is 0.

    Raises:
        ValueError: Shapes do not fit.

    Example:
        >>> rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
        >>> to_corner = -torch.stack([rows, columns])[None]
        >>> codes = pair_labels(torch.ones(1, 4, 5, dtype=torch.long), 3)
        >>> float(displacement_loss(to_corner, codes, 3).loss)
        0.0
    """
    _check(displacement, 2, codes, radius)
    return _displacement(displacement, codes, _counts(codes), radius)


def relation_loss(
    boundary: Tensor, displacement: Tensor, seeds: Tensor, radius: int = 10
) -> RelationTerms:
    """The loss of an inter-pixel relation network: ½·affinity + ½·displacement.

    Args:
        boundary: Probability of a boundary in 0..1 (after the sigmoid), [B,1,h,w].
        displacement: In grid pixels, [B,2,h,w].
        seeds: Confident labels on the same grid (nearest neighbour, never blended), [B,h,w]:
            0 background, 255 unknown, others classes.
        radius: Pairs closer than this many grid pixels are looked at.

    Returns:
        The loss, and every term for the log.

    Raises:
        ValueError: Shapes do not fit.

    Example:
        >>> seeds = torch.randint(3, (2, 24, 24))
        >>> boundary = torch.rand(2, 1, 24, 24, requires_grad=True)
        >>> displacement = torch.zeros(2, 2, 24, 24, requires_grad=True)
        >>> relation_loss(boundary, displacement, seeds, radius=5).loss.backward()
    """
    if seeds.ndim != 3:
        raise ValueError(f"expected seeds [B,h,w], got {tuple(seeds.shape)}")
    codes = pair_labels(seeds, radius)
    _check(boundary, 1, codes, radius)
    _check(displacement, 2, codes, radius)
    count = _counts(codes)
    affinity = _affinity(boundary, codes, count, radius)
    offsets = _displacement(displacement, codes, count, radius)
    return RelationTerms(0.5 * affinity.loss + 0.5 * offsets.loss, affinity, offsets)


def _check(maps: Tensor, channels: int, codes: Tensor, radius: int) -> None:
    if maps.ndim != 4 or maps.shape[1] != channels:
        raise ValueError(f"expected maps [B,{channels},h,w], got {tuple(maps.shape)}")
    expected = (len(displacements(radius)), len(maps), *maps.shape[-2:])
    if codes.shape != expected:
        raise ValueError(
            f"expected codes {expected} for these maps at radius {radius}, got "
            f"{tuple(codes.shape)}; use pair_labels on seeds of the maps' grid"
        )
