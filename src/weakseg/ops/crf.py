"""Fully connected conditional random field over an image's pixels, by mean field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from weakseg.ops.arguments import RGBImage, as_tensor, rgb_image
from weakseg.ops.permutohedral import PermutohedralLattice
from weakseg.types import IGNORE

_SMALLEST_PROBABILITY = 1e-5


class CRFSettings(BaseModel):
    """What the dense CRF computes; the defaults are those that refine seeds (IRN)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(default=10, ge=0, le=1000, description="Mean-field iterations.")
    gaussian_sxy: float = Field(
        default=3.0, ge=0.5, description="Standard deviation of the smoothing kernel, in pixels."
    )
    gaussian_weight: float = Field(
        default=3.0, ge=0, description="Weight of the smoothing kernel; 0 leaves it out."
    )
    bilateral_sxy: float = Field(
        default=50.0,
        ge=0.5,
        description="Standard deviation in space of the bilateral kernel, in pixels.",
    )
    bilateral_srgb: float = Field(
        default=5.0,
        ge=0.5,
        description="Standard deviation of the bilateral kernel in gray levels 0..255.",
    )
    bilateral_weight: float = Field(
        default=10.0, ge=0, description="Weight of the bilateral kernel; 0 leaves it out."
    )
    label_confidence: float = Field(
        default=0.7, gt=0, lt=1, description="Probability that a pixel's given label is right."
    )
    tile: int = Field(
        default=1024,
        ge=256,
        le=8192,
        description="Larger images are solved in tiles of this side, in pixels.",
    )


_DEFAULTS = CRFSettings()


class DenseCRF:
    """The dense CRF of one image, its lattices built once for all label maps and classes.

    The energy of a labelling x is Σ_i ψ(x_i) + Σ_{i<j} [x_i ≠ x_j]·k(i,j) with

        k(i,j) = w_g·exp(−|p_i − p_j|² / 2s_g²)
               + w_b·exp(−|p_i − p_j|² / 2s_b² − |c_i − c_j|² / 2s_c²)

    for positions p and colours c, each kernel matrix K divided on both sides by the square root of
    its row sums (Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian
    Edge Potentials, NIPS 2011). Mean field iterates Q_i(l) ∝ exp(−ψ_i(l) + Σ_j k(i,j)·Q_j(l)) from
    Q ∝ exp(−ψ); both filters run on permutohedral lattices, in time linear in the pixels. As in
    the authors' program, the sum includes j = i.

    An image longer than `settings.tile` on a side is solved in equal tiles that overlap by two
    standard deviations `bilateral_sxy` on each side (at most a quarter of a tile), of which the
    inner parts are kept. The tiles' lattices are built when they are used, once for all maps of a
    call, so that memory beside input and result does not grow with the image.

    Args:
        image: RGB image: a tensor uint8 [3, H, W] on the device to compute on, an array uint8
            [H, W, 3], or a Pillow image.
        settings: Kernels and iterations.

    Raises:
        ValueError: The image has another shape or type, or a kernel is too narrow for it.

    Example:
        >>> image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
        >>> crf = DenseCRF(image)
        >>> crf.from_labels(torch.zeros(2, 32, 32, dtype=torch.uint8), 3).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, image: RGBImage, settings: CRFSettings = _DEFAULTS) -> None:
        image = rgb_image(image)
        self._image = image
        self._settings = settings
        self._height, self._width = image.shape[1:]
        margin = min(math.ceil(2 * settings.bilateral_sxy), settings.tile // 4)
        self._tiles = [
            (rows, columns)
            for rows in _spans(self._height, settings.tile, margin)
            for columns in _spans(self._width, settings.tile, margin)
        ]
        self._whole = _Field(image, settings) if len(self._tiles) == 1 else None

    def from_labels(self, labels: Tensor | npt.NDArray[Any], n_labels: int) -> Tensor:
        """Marginals from label maps that are right with probability `label_confidence`.

        Args:
            labels: Label maps [..., H, W], integer, 0..n_labels-1; 255 is unknown and makes every
                label equally likely.
            n_labels: Number of labels, 1..255.

        Returns:
            Probabilities [..., n_labels, H, W], float32.

        Raises:
            ValueError: A map has another size, or holds a label that does not exist.
        """
        known = as_tensor(labels, "label maps")
        return self._marginals(*self._odds_of_labels(known, n_labels))

    def from_probabilities(self, probabilities: Tensor | npt.NDArray[Any]) -> Tensor:
        """Marginals from each pixel's probabilities, such as a network's softmax.

        Args:
            probabilities: Probabilities [..., L, H, W], float, L of 1..255; taken to be at least
                1e-5, and up to a factor per pixel.

        Returns:
            Probabilities [..., L, H, W], float32.

        Raises:
            ValueError: The maps have another size, or hold values that are negative or not finite.
        """
        known = as_tensor(probabilities, "probabilities")
        return self._marginals(*self._odds_of_probabilities(known))

    def label(self, unary: Tensor | npt.NDArray[Any], n_labels: int | None = None) -> Tensor:
        """The most likely labels; needs less memory than the marginals.

        Args:
            unary: Label maps [..., H, W], integer, as in `from_labels`; or probabilities
                [..., L, H, W], float, as in `from_probabilities`.
            n_labels: Number of labels; by default one more than the largest of the label maps.

        Returns:
            Label maps [..., H, W], uint8.

        Raises:
            ValueError: As `from_labels` and `from_probabilities`; `n_labels` is given with
                probabilities and differs from their L.
        """
        unary = as_tensor(unary, "label maps or probabilities")
        if unary.is_floating_point():
            batch, n, odds_of = self._odds_of_probabilities(unary)
            if n_labels not in (None, n):
                raise ValueError(f"expected {n_labels} labels, got probabilities of {n}")
        else:
            if n_labels is None:
                known = unary[unary != IGNORE]
                n_labels = max(1, int(known.max()) + 1) if len(known) else 1
            batch, n, odds_of = self._odds_of_labels(unary, n_labels)
        shape = (math.prod(batch), self._height, self._width)
        best = torch.empty(shape, dtype=torch.uint8, device=self._image.device)
        for rows, columns, marginals in self._solve(n, odds_of):
            best[:, rows, columns] = _most_likely(marginals)
        return best.view(*batch, *shape[1:])

    def _marginals(self, batch: tuple[int, ...], n_labels: int, odds_of: _Odds) -> Tensor:
        shape = (math.prod(batch), n_labels, self._height, self._width)
        result = torch.empty(shape, device=self._image.device)
        for rows, columns, marginals in self._solve(n_labels, odds_of):
            result[:, :, rows, columns] = marginals.transpose(0, 1)
        return result.view(*batch, *shape[1:])

    @torch.no_grad()
    def _solve(self, n_labels: int, odds_of: _Odds) -> Iterator[tuple[slice, slice, Tensor]]:
        """Each tile's kept rows and columns, and the marginals [L, S, h, w] there."""
        for rows, columns in self._tiles:
            odds = odds_of(rows.read, columns.read)
            if n_labels == 1:
                solved = odds.new_ones(1, *odds.shape[1:])
            else:
                field = self._whole
                if field is None:
                    image = self._image[:, rows.read, columns.read]
                    field = _Field(image, self._settings)
                solved = field.solve(odds.flatten(2), self._settings.iterations)
                solved = solved.view(n_labels, *odds.shape[1:])
            yield rows.kept, columns.kept, solved[:, :, rows.inner, columns.inner]

    def _odds_of_labels(self, labels: Tensor, n_labels: int) -> tuple[tuple[int, ...], int, _Odds]:
        if not 1 <= n_labels <= IGNORE:
            raise ValueError(f"expected 1 to {IGNORE} labels, got {n_labels}")
        self._check_size(labels, "label maps [..., H, W]", labels.ndim >= 2)
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"expected label maps of integers, got {labels.dtype}")
        labels = labels.to(self._image.device)
        wrong = (labels < 0) | ((labels >= n_labels) & (labels != IGNORE))
        if wrong.any():
            found = sorted(set(labels[wrong].tolist()))
            raise ValueError(
                f"expected labels 0..{n_labels - 1} or {IGNORE} (unknown), got {found[:5]}"
            )
        flat = labels.reshape(-1, self._height, self._width)
        sure = self._settings.label_confidence
        gap = math.log(sure) - math.log((1 - sure) / max(n_labels - 1, 1))

        def odds_of(rows: slice, columns: slice) -> Tensor:
            piece = flat[:, rows, columns]
            odds = torch.empty(n_labels - 1, *piece.shape, device=piece.device)
            for label in range(1, n_labels):
                odds[label - 1] = piece == label
            return odds.sub_((piece == 0).float()).mul_(gap)

        return tuple(labels.shape[:-2]), n_labels, odds_of

    def _odds_of_probabilities(self, probabilities: Tensor) -> tuple[tuple[int, ...], int, _Odds]:
        self._check_size(probabilities, "probabilities [..., L, H, W]", probabilities.ndim >= 3)
        n_labels = probabilities.shape[-3]
        if not (probabilities.is_floating_point() and 1 <= n_labels <= IGNORE):
            raise ValueError(
                f"expected probabilities [..., L, H, W], float, 1 ≤ L ≤ {IGNORE}, got "
                f"{tuple(probabilities.shape)} of {probabilities.dtype}"
            )
        probabilities = probabilities.detach().to(self._image.device)
        if not bool((probabilities.isfinite() & (probabilities >= 0)).all()):
            raise ValueError(
                "expected probabilities, got values that are negative or not finite; "
                "pass logits through torch.softmax first"
            )
        flat = probabilities.reshape(-1, n_labels, self._height, self._width).transpose(0, 1)

        def odds_of(rows: slice, columns: slice) -> Tensor:
            piece = flat[:, :, rows, columns].float().clamp(min=_SMALLEST_PROBABILITY).log()
            return piece[1:] - piece[0]

        return tuple(probabilities.shape[:-3]), n_labels, odds_of

    def _check_size(self, values: Tensor, name: str, has_axes: bool) -> None:
        if not has_axes or values.shape[-2:] != (self._height, self._width):
            raise ValueError(
                f"expected {name} of the image's size {(self._height, self._width)}, got "
                f"{tuple(values.shape)}; resize them to the image first"
            )


def dense_crf(
    image: RGBImage,
    unary: Tensor | npt.NDArray[Any],
    settings: CRFSettings = _DEFAULTS,
    *,
    n_labels: int | None = None,
) -> Tensor:
    """Labels of a fully connected CRF over one image's pixels: masks that follow its edges.

    The one-call form of `DenseCRF`, which describes the equation and how large images are treated.
    Label maps that share an image are best given together: they are solved in one pass.

    Args:
        image: RGB image: a tensor uint8 [3, H, W] on the device to compute on, an array uint8
            [H, W, 3], or a Pillow image.
        unary: Label maps [..., H, W], integer, 255 for unknown; or probabilities [..., L, H, W],
            float; tensor or array.
        settings: Kernels and iterations.
        n_labels: Number of labels; by default one more than the largest of the label maps. It
            matters: the more labels, the less the doubt in a given label favours each other one.

    Returns:
        The most likely labels [..., H, W], uint8.

    Raises:
        ValueError: The image, the maps or their sizes are not as said.

    Example:
        >>> image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
        >>> seeds = torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
        >>> dense_crf(image, seeds, n_labels=3).shape
        torch.Size([2, 32, 32])
    """
    return DenseCRF(image, settings).label(unary, n_labels)


_Odds = Callable[[slice, slice], Tensor]
"""Log odds [L-1, S, h, w] of each label but the first against the first, at rows and columns."""


def _most_likely(marginals: Tensor) -> Tensor:
    """The first label of maximum probability, uint8 [...] from [L, ...].

    A pass per label takes a tenth of the time of argmax over the first axis on a CPU.
    """
    top = marginals[0].clone()
    best = torch.zeros_like(top, dtype=torch.uint8)
    for label in range(1, len(marginals)):
        best.masked_fill_(marginals[label] > top, label)
        torch.maximum(top, marginals[label], out=top)
    return best


@dataclass(frozen=True)
class _Span:
    """One tile's extent along one side: what it reads, what it keeps, and where that lies in it."""

    read: slice
    kept: slice
    inner: slice


def _spans(length: int, tile: int, margin: int) -> list[_Span]:
    """Covers 0..length-1 by equal kept parts, each read with a margin, none longer than a tile."""
    count = 1 if length <= tile else math.ceil(length / (tile - 2 * margin))
    cuts = [length * i // count for i in range(count + 1)]
    spans = []
    for start, end in pairwise(cuts):
        low = max(0, start - margin)
        read = slice(low, min(length, end + margin))
        spans.append(_Span(read, slice(start, end), slice(start - low, end - low)))
    return spans


class _Field:
    """The kernels of one image, or one tile, and mean field with them."""

    def __init__(self, image: Tensor, settings: CRFSettings) -> None:
        height, width = image.shape[1:]
        rows = torch.arange(height, device=image.device, dtype=torch.float32)
        columns = torch.arange(width, device=image.device, dtype=torch.float32)
        position = torch.stack(
            [columns.expand(height, width), rows[:, None].expand(height, width)]
        ).flatten(1)
        colour = image.flatten(1).float()
        kernels = (
            (settings.gaussian_weight, [position / settings.gaussian_sxy]),
            (
                settings.bilateral_weight,
                [position / settings.bilateral_sxy, colour / settings.bilateral_srgb],
            ),
        )
        ones = torch.ones(height * width, 1, device=image.device)
        self._lattices = []
        for weight, features in kernels:
            if weight > 0:
                lattice = PermutohedralLattice(torch.cat(features))
                norm = lattice.filter(ones).view(-1).pow(-0.5)
                lattice.scale(norm, norm * weight)
                self._lattices.append(lattice)

    def solve(self, odds: Tensor, iterations: int) -> Tensor:
        """Marginals [L, S, N] from the log odds [L-1, S, N] of the labels against the first.

        The kernels are linear and only log odds count, so that what is filtered is each other
        label's lead over the first: one channel less, a single one for two labels, and where no
        label leads, none ever does.
        """
        others, maps, points = odds.shape
        logits = odds.new_zeros(others + 1, maps, points)
        logits[1:] = odds
        marginals = torch.softmax(logits, 0)
        for _ in range(iterations if self._lattices else 0):
            lead = (marginals[1:] - marginals[0]).view(others * maps, points).t().contiguous()
            message = self._lattices[0].filter(lead)
            for lattice in self._lattices[1:]:
                message += lattice.filter(lead)
            torch.add(odds, message.t().view(others, maps, points), out=logits[1:])
            marginals = torch.softmax(logits, 0)
        return marginals
