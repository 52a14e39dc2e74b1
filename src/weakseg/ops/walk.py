"""The random walk that spreads activation maps up to the boundaries, without any N×N matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from weakseg.ops.affinity import displacements, pair_affinity
from weakseg.ops.arguments import finite_maps

_TAIL = 1e-6
"""Sum of the Chebyshev coefficients left out: bounds the relative error of a walk (2-norm)."""

_BLOCK = 32_000
"""Numbers touched by one call on a CPU. They fit the second-level cache with what they meet, and
torch starts threads at 32,768 only: threads cost more than they save on pieces that small."""


class WalkSettings(BaseModel):
    """The random walk: what `random_walk` takes, where it starts, and how it is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: int = Field(5, ge=2, le=32, description="Reach of one step, in pixels of the grid.")
    beta: float = Field(
        10.0, gt=0, le=100, description="Exponent of the affinities; more stops at weaker edges."
    )
    power: float = Field(
        1.5, gt=0, le=16, description="Exponent of the maps that the walk starts from."
    )
    steps: int = Field(256, ge=0, le=65_536, description="Number of steps of the walk.")
    background: bool = Field(
        True, description="Let the background walk, too: classes compete with it; published: no."
    )


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers below 1e-38 count as zero in this thread, as they do on a GPU.

    Behind a firm boundary a walk makes such numbers everywhere; CPUs compute them some ten times
    slower than others.
    """
    already = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)


@lru_cache(maxsize=32)
def power_series(steps: int, tail: float = _TAIL) -> tuple[float, ...]:
    """Chebyshev coefficients of x^steps on [-1,1], cut off where the rest sums to at most `tail`.

    x^s = Σ_k c_k T_k(x) with c_k = 2^(1−s)·binomial(s, (s−k)/2) for k of the parity of s, halved at
    k = 0. The coefficients are positive, sum to 1 and fall like a Gaussian of deviation √s: about
    √(2s·ln(2/tail)) of them matter (Newman and Rivlin 1976), 78 for 256 steps at 1e-6.

    Args:
        steps: The exponent s, from 0.
        tail: Largest error on [-1,1].

    Returns:
        The coefficients c_0, c_1, …, of which every other one is zero.
    """

    def coefficient(k: int) -> float:
        if (steps - k) % 2:
            return 0.0
        below = (steps - k) // 2
        log_binomial = math.lgamma(steps + 1) - math.lgamma(below + 1) - math.lgamma(below + k + 1)
        return math.exp(log_binomial + (1 - steps) * math.log(2)) * (0.5 if k == 0 else 1.0)

    coefficients = [coefficient(k) for k in range(steps + 1)]
    rest = 0.0
    while len(coefficients) > 1 and rest + coefficients[-1] <= tail:
        rest += coefficients.pop()
    return tuple(coefficients)


class Stencil:
    """A symmetric sparse matrix over the pixels of a grid, as one plane a displacement.

    Pixels are numbered row by row, so a displacement (dy,dx) is the shift dy·w + dx of flat
    vectors, and the plane of a displacement serves it and its opposite. A pair that leaves the
    grid has weight zero in its plane, which is what makes plain flat shifts right at the borders.

    Args:
        diagonal: [N], N = h·w.
        planes: [P,N], weight of each pair at its source.
        shifts: The P flat shifts.
    """

    def __init__(self, diagonal: Tensor, planes: Tensor, shifts: tuple[int, ...]) -> None:
        self.diagonal = diagonal
        self.planes = planes
        self.shifts = shifts

    def row_sums(self) -> Tensor:
        """The sums of the rows, [N]; those of the columns are the same."""
        sums = self.diagonal.clone()
        n = len(sums)
        for plane, shift in zip(self.planes, self.shifts, strict=True):
            sums[: n - shift] += plane[: n - shift]
            sums[shift:] += plane[: n - shift]
        return sums

    def doubled_and_normalized(self, root: Tensor) -> Stencil:
        """The matrix 2 · D^-½ · self · D^-½; consumes this one's planes.

        D^½·1 is an eigenvector to the value 2. Rounding moves that value by some 1e-7, which the
        walk multiplies by its length squared; so the diagonal takes up what is missing.

        Args:
            root: D^½, the square roots of the row sums, [N].
        """
        n = len(root)
        inverse = root.reciprocal()
        for plane, shift in zip(self.planes, self.shifts, strict=True):
            plane[: n - shift].mul_(inverse[: n - shift]).mul_(inverse[shift:])
        doubled = Stencil(inverse.square() * self.diagonal * 2, self.planes.mul_(2), self.shifts)
        difference = root[None].clone()
        _recurrence(doubled, root[None], difference)()
        doubled.diagonal += 1 - difference[0] * inverse
        return doubled

    def gathered(self) -> tuple[Tensor, Tensor]:
        """The rows one by one.

        Returns:
            The pixels that each pixel is linked to, itself first, int64 [2P+1,N], and the weights;
            where a pixel has no such neighbour, some pixel with weight 0.
        """
        n = len(self.diagonal)
        steps = torch.tensor([0, *self.shifts, *(-shift for shift in self.shifts)])
        pixels = torch.arange(n, device=self.diagonal.device)
        neighbours = (pixels + steps.to(pixels.device)[:, None]).clamp_(0, n - 1)
        weights = torch.zeros(neighbours.shape, dtype=self.planes.dtype, device=pixels.device)
        weights[0] = self.diagonal
        ahead, behind = weights[1 : len(steps) // 2 + 1], weights[len(steps) // 2 + 1 :]
        for place, (plane, shift) in enumerate(zip(self.planes, self.shifts, strict=True)):
            ahead[place, : n - shift] = plane[: n - shift]
            behind[place, shift:] = plane[: n - shift]
        return neighbours, weights


_GATHERED = 2**26
"""Most numbers that one call gathers on a GPU: 256 MB."""


def _recurrence(stencil: Stencil, x: Tensor, out: Tensor) -> _Recurrence | _GatheredRecurrence:
    """The one that is fast where x lies."""
    return (_Recurrence if x.device.type == "cpu" else _GatheredRecurrence)(stencil, x, out)


class _GatheredRecurrence:
    """As `_Recurrence`, in a handful of calls whatever the radius.

    On a GPU to start a call takes longer than to add one plane: 69 gathered neighbours of every
    pixel are therefore weighed and summed at once (`benchmarks/results/gpu.md`).
    """

    def __init__(self, stencil: Stencil, x: Tensor, out: Tensor) -> None:
        self.x, self.out = x, out
        self.neighbours, self.weights = stencil.gathered()
        self.size = max(1, _GATHERED // max(1, len(x) * len(self.weights)))

    def __call__(self) -> None:
        self.out.neg_()
        for start in range(0, self.out.shape[1], self.size):
            part = slice(start, start + self.size)
            near = self.x[:, self.neighbours[:, part]]
            self.out[:, part] += near.mul_(self.weights[:, part]).sum(1)

    def add_to(self, total: Tensor, weight: float) -> None:
        """Adds weight · out to the total."""
        total.add_(self.out, alpha=weight)


class _Recurrence:
    """out ← stencil · x − out, called again and again with x and out [K,N] fixed in memory.

    It goes through the pixels block by block, so that a block's maps and weights are met in the
    cache, and makes every view once: making one costs as much as adding over a small one.
    """

    def __init__(self, stencil: Stencil, x: Tensor, out: Tensor) -> None:
        k, n = x.shape
        blocks = max(1, math.ceil(k * n / _BLOCK))
        self.size = max(1, math.ceil(n / blocks))
        self.out = torch.split(out, self.size, dim=1)
        self.terms: list[list[tuple[Tensor, Tensor, Tensor]]] = []
        for start in range(0, n, self.size):
            stop = min(start + self.size, n)
            terms = [(out[:, start:stop], stencil.diagonal[start:stop], x[:, start:stop])]
            for plane, shift in zip(stencil.planes, stencil.shifts, strict=True):
                last = min(stop, n - shift)
                if last > start:
                    neighbour = x[:, start + shift : last + shift]
                    terms.append((out[:, start:last], plane[start:last], neighbour))
                first = max(start, shift)
                if stop > first:
                    source = slice(first - shift, stop - shift)
                    terms.append((out[:, first:stop], plane[source], x[:, source]))
            self.terms.append(terms)

    def __call__(self) -> None:
        for out, terms in zip(self.out, self.terms, strict=True):
            out.neg_()
            for target, weights, x in terms:
                target.addcmul_(weights, x)

    def add_to(self, total: Tensor, weight: float) -> None:
        """Adds weight · out to the total."""
        for part, out in zip(torch.split(total, self.size, dim=1), self.out, strict=True):
            part.add_(out, alpha=weight)


def transition(boundary: Tensor, radius: int, beta: float) -> Stencil:
    """The matrix A of the walk: affinity^β of near pairs, 1 on the diagonal.

    Args:
        boundary: Probability of a boundary in 0..1, [h,w].
        radius: In grid pixels.
        beta: Exponent.

    Returns:
        A stencil over the N = h·w pixels; 34·N numbers at radius 5.
    """
    h, w = boundary.shape
    shifts = [dy * w + dx for dy, dx in displacements(radius)]
    # A shift below 1 or from N up belongs to a displacement that has no pair in a grid so small.
    useful = [index for index, shift in enumerate(shifts) if 0 < shift < h * w]
    planes = pair_affinity(boundary, radius).flatten(1)
    if len(useful) < len(shifts):
        planes = planes[useful]
    diagonal = planes.new_ones(h * w)
    return Stencil(diagonal, planes.pow_(beta), tuple(shifts[index] for index in useful))


def walked_scores(maps: Tensor, boundary: Tensor, settings: WalkSettings) -> Tensor:
    """Scores 0..1 of an image's classes after a random walk (`random_walk`), parted at one half.

    Published (IRN) are the walked maps r_k over the highest value of the image, r_k / max r. That
    makes much of little: where an image has weak maps alone, half of a small maximum covers all
    that the walk has reached. With `settings.background` the background b = 1 − max_k m_k walks,
    too, and the score is the geometric mean of that and of the class's share of all that has come
    to a place,

        √( r_k / max r · r_k / (Σ_j r_j + r_b) ).

    The maximum alone bleeds, shares alone miss what the walk thins out
    (`benchmarks/competition.py`).

    Args:
        maps: Maps m [K,h,w] in 0..1, parted at one half.
        boundary: Probability of a boundary in 0..1, [h,w].
        settings: Of the walk, which starts from the maps' power.

    Returns:
        Scores [K,h,w]; 0 where nothing came.

    Raises:
        ValueError: As `random_walk`.

    Example:
        >>> maps, wall = torch.zeros(1, 8, 8), torch.zeros(8, 8)
        >>> maps[0, :, :3], wall[:, 3] = 0.9, 1
        >>> scores = walked_scores(maps, wall, WalkSettings(steps=4))
        >>> bool((scores[0, :, :3] > 0.9).all()), bool((scores[0, :, 3:] == 0).all())
        (True, True)
    """
    start = maps
    if settings.background:
        start = torch.cat([maps, 1 - maps.amax(dim=0, keepdim=True)])
    walked = random_walk(
        start**settings.power,
        boundary,
        radius=settings.radius,
        beta=settings.beta,
        steps=settings.steps,
    )
    found = walked[: len(maps)]
    scores = (found / found.max().clamp_min(1e-5)).clamp(0, 1)
    if settings.background:
        scores = (scores * found / walked.sum(dim=0).clamp_min(1e-6)).sqrt()
    return scores


@torch.no_grad()
def random_walk(
    cams: Tensor | npt.NDArray[Any],
    boundary: Tensor | npt.NDArray[Any],
    *,
    radius: int = 5,
    beta: float = 10.0,
    steps: int = 256,
) -> Tensor:
    """Spreads activation maps by a random walk that boundaries stop.

    With a_ij the affinity of two pixels closer than the radius (`pair_affinity`), A_ij = a_ij^β,
    A_ii = 1 and T = A / column sums, the result is (cams·(1−boundary)) · T^steps (IRN, arXiv
    1904.05044). The published way squares the dense N×N matrix log2(steps) times.

    Here A is a stencil of 34 numbers a pixel (radius 5), applied to the maps; time and memory grow
    linearly with N. With D the column sums, T^s = D^½·S^s·D^-½ for the symmetric S = D^-½·A·D^-½,
    whose eigenvalues lie in [-1,1]; there x^s is a Chebyshev series of about √(29·s) terms
    (`power_series`): 78 products instead of 256, to a relative error of 1e-6.

    Args:
        cams: Activation maps, not negative, [K,h,w], any scale; tensor or array. AMR walks
            from their power 1.5.
        boundary: Probability of a boundary in 0..1, [h,w] or [1,h,w], on the same grid.
        radius: In grid pixels (IRN's grid has stride 4), at least 2.
        beta: Exponent of the affinities.
        steps: Number of steps, from 0.

    Returns:
        The walked maps [K,h,w], not negative, float32 (float64 if `cams` are). Their scale is that
        of `cams` times what averaging leaves: divide by the maximum before comparing to a
        threshold.

    Raises:
        ValueError: Shapes do not fit, a number is out of range, negative or not finite.

    Example:
        >>> cams = torch.zeros(1, 3, 9)
        >>> cams[0, 1, 1] = 1
        >>> wall = torch.zeros(3, 9)
        >>> wall[:, 4] = 1
        >>> walked = random_walk(cams, wall)[0]
        >>> bool((walked[:, :4] > 0.05).all()), bool((walked[:, 5:] == 0).all())
        (True, True)
    """
    cams, boundary = finite_maps(cams, "maps"), finite_maps(boundary, "a boundary map")
    if cams.ndim != 3:
        raise ValueError(f"expected maps [K,h,w], got {tuple(cams.shape)}; add a class axis")
    k, h, w = cams.shape
    if boundary.shape not in ((h, w), (1, h, w)):
        raise ValueError(
            f"expected a boundary map {(h, w)} on the grid of the maps, got "
            f"{tuple(boundary.shape)}; interpolate one of them"
        )
    if steps < 0 or beta <= 0:
        raise ValueError(f"expected steps ≥ 0 and beta > 0, got steps {steps}, beta {beta}")
    if cams.numel() and float(cams.min()) < 0:
        raise ValueError(f"expected maps ≥ 0, got {float(cams.min()):.3g}; rectify them (relu)")
    if boundary.numel():
        low, high = map(float, boundary.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"expected boundary probabilities in 0..1, got {low:.3g} to {high:.3g}; "
                "apply a sigmoid"
            )
    dtype = torch.float64 if cams.dtype == torch.float64 else torch.float32
    boundary = boundary.reshape(h, w).to(dtype)
    start = (cams.to(dtype) * (1 - boundary)).flatten(1)
    if steps == 0 or start.numel() == 0:
        return start.view(k, h, w)
    return Walker(boundary, radius=radius, beta=beta)(start, steps).view(k, h, w)


class Walker:
    """Random walks on one boundary map: what does not depend on the maps is computed once.

    Args:
        boundary: Probability of a boundary in 0..1, float [h,w].
        radius: In grid pixels.
        beta: Exponent of the affinities.
    """

    def __init__(self, boundary: Tensor, *, radius: int, beta: float) -> None:
        with _denormals_flushed():
            affinity = transition(boundary, radius, beta)
            self.root = affinity.row_sums().sqrt()
            self.double_step = affinity.doubled_and_normalized(self.root)

    def __call__(self, start: Tensor, steps: int) -> Tensor:
        """The maps start·T^steps [K,h·w] of `start` [K,h·w], which is overwritten."""
        with _denormals_flushed():
            walked = _chebyshev(self.double_step, start.mul_(self.root), steps)
            return walked.div_(self.root).clamp_(min=0)


def _chebyshev(double_step: Stencil, x: Tensor, steps: int) -> Tensor:
    """S^steps·x from the stencil of 2·S: T_{k+1}·x = 2·S·T_k·x − T_{k−1}·x, in two buffers."""
    first, second, *others = (*power_series(steps), 0.0)
    even, odd = x, torch.zeros_like(x)
    to_odd, to_even = _recurrence(double_step, even, odd), _recurrence(double_step, odd, even)
    to_odd()
    odd.mul_(0.5)
    result = (x * first).add_(odd, alpha=second)
    for index, weight in enumerate(others):
        advance = to_odd if index % 2 else to_even
        advance()
        if weight:
            advance.add_to(result, weight)
    return result
