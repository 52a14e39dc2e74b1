"""What tags alone tell: images held out told apart, and surfaces that speak for a tag."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

FOLDS = 5
"""Parts of the images; each is judged by what the others teach."""

_PENALTY = 1e-3
"""On the squared weights, against the mean loss of an image."""

_ROUNDS = 60
"""Maximum iterations of L-BFGS."""


SIGNIFICANT = 0.05
"""Probability below which a finding is not laid to chance."""

_LOWEST, _HIGHEST = -6.0, 12.0
BINS = 360
"""Bins of evidence between these log odds."""


class EvidenceSettings(BaseModel):
    """How maps are weighed by what occurs in images without the tag, too.

    Attributes:
        images: Maximum images that this is learnt from; 0: maps stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(
        1000, ge=0, description="maximum images to learn from what speaks against a tag; 0: off"
    )


@dataclass(frozen=True)
class HeldOut:
    """What a linear classifier of tags says of images that it has not learnt from.

    Attributes:
        weights: Float32 [F,D,K], of each fold's classifier.
        scores: Float32 [N,K], each image's by the classifier that has not seen it.
        fold: int64 [N], of each image.
        precision: Average precision of `scores`, float32 [K]; NaN where a class is in too few
            images, or missing in too few, to be held out.
        chance: Share of the images with each tag, float32 [K]: the average precision of guessing.
    """

    weights: Tensor
    scores: Tensor
    fold: Tensor
    precision: Tensor
    chance: Tensor


def held_out(features: Tensor, tags: Tensor) -> HeldOut:
    """Judges every image's tags by a logistic regression on the other images.

    Args:
        features: [N,D].
        tags: What each image shows, bool [N,K].

    Returns:
        Scores of images held out, and their average precision. Image i is in fold i mod 5.

    Raises:
        ValueError: The numbers of images differ.
    """
    if features.ndim != 2 or tags.shape[:1] != features.shape[:1]:
        raise ValueError(
            f"expected features [N,D] and tags [N,K], got {tuple(features.shape)} and "
            f"{tuple(tags.shape)}"
        )
    fold = torch.arange(len(features)) % FOLDS
    scores = torch.zeros(len(tags), tags.shape[1])
    weights = []
    for part in range(FOLDS):
        own = fold == part
        slope, bias = _logistic(features[~own].double(), tags[~own].double())
        scores[own] = (features[own].double() @ slope + bias).float()
        weights.append(slope.float())
    enough = (tags.sum(dim=0) >= FOLDS) & ((~tags.bool()).sum(dim=0) >= FOLDS)
    precision = average_precision(scores, tags).masked_fill(~enough, torch.nan)
    return HeldOut(torch.stack(weights), scores, fold, precision, tags.float().mean(dim=0))


def _logistic(features: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [D,K] and bias [K] of a logistic regression for each class."""
    slope = features.new_zeros(features.shape[1], tags.shape[1]).requires_grad_()
    bias = torch.logit(tags.mean(dim=0), eps=1e-2).requires_grad_()
    engine = torch.optim.LBFGS([slope, bias], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        engine.zero_grad()
        each = functional.binary_cross_entropy_with_logits(features @ slope + bias, tags)
        total: Tensor = each + _PENALTY * slope.square().sum() / max(1, tags.shape[1])
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        engine.step(loss)  # type: ignore[no-untyped-call]
    return slope.detach(), bias.detach()


def average_precision(scores: Tensor, tags: Tensor) -> Tensor:
    """Mean precision at the rank of every image that has the tag, float32 [K].

    Equal scores share their rank's precision, so that their order does not matter.

    Args:
        scores: [N,K], higher is likelier.
        tags: bool [N,K].

    Returns:
        NaN for a class that no image has.
    """
    found = []
    for own, there in zip(scores.T, tags.T.bool(), strict=True):
        if not bool(there.any()):
            found.append(torch.nan)
            continue
        # Of all images with at least a tagged image's score, how many have the tag.
        above = own[None, :] >= own[there][:, None]
        found.append(float(((above & there).sum(dim=1) / above.sum(dim=1)).mean()))
    return torch.tensor(found)


def word_histograms(words: list[Tensor], count: int) -> Tensor:
    """The square root of the share of each visual word in each image, float32 [N,W].

    Args:
        words: Of each image its words, int64 of any shape.
        count: W.
    """
    shares = [
        torch.bincount(own.flatten().long(), minlength=count).float() / own.numel() for own in words
    ]
    return torch.stack(shares).sqrt()


def histograms_of(words: Sequence[Sequence[Tensor]], count: int = 256) -> Tensor:
    """`word_histograms` of several kinds of words side by side, float32 [N,S·W].

    Args:
        words: Of each image its words of each kind.
        count: W, of each kind.
    """
    kinds = range(len(words[0])) if words else range(0)
    return torch.cat([word_histograms([own[i] for own in words], count) for i in kinds], dim=1)


def standardized(features: Tensor) -> Tensor:
    """Features [N,D] less their mean, over their deviation and √D: of length 1 on the average."""
    deviation = features.std(dim=0, correction=0).clamp_min(1e-4)
    return (features - features.mean(dim=0)) / deviation / math.sqrt(features.shape[1])


def nearest_words(features: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of every position of features [C,h,w], int64 [h,w]."""
    flat = features.flatten(1).float()  # [C,hw]
    distance = centres.square().sum(dim=1)[:, None] - 2 * centres @ flat
    return distance.argmin(dim=0).view(features.shape[1:])


def evidence_map(weights: Tensor, words: Sequence[Tensor]) -> Tensor:
    """What the surface at each position says of each tag, in log odds, [K,h,w] on the finest grid.

    Args:
        weights: Of each visual word, float32 [S·W,K], of a `HeldOut` classifier of word histograms.
        words: The nearest word by stage, integers [h_s,w_s], the finest grid first.
    """
    size = words[0].shape
    parts = torch.split(weights, len(weights) // len(words))
    said = weights.new_zeros(weights.shape[1], *size)
    for part, own in zip(parts, words, strict=True):
        found = part[own.long()].movedim(-1, 0)
        said += functional.interpolate(found[None], size=size, mode="nearest-exact")[0]
    return said


def evidence_histogram(evidence: Tensor) -> Tensor:
    """Shares of an image's positions by bin of evidence [K,h,w], float32 [K,360]."""
    inside = evidence.flatten(1).clamp(_LOWEST, _HIGHEST - 1e-3)
    counts = torch.stack([torch.histc(own, BINS, _LOWEST, _HIGHEST) for own in inside])
    return counts / inside.shape[1]


def excess_threshold(tagged: Tensor, untagged: Tensor) -> float:
    """Where to part evidence, from what is more frequent in images with the tag than without.

    In images without the tag all that lies above a threshold t is wrong: a share b(t) of them. If
    images with the tag have as much of that, then of their share a(t) above it a(t) − b(t) is
    right, and the most that is right at any threshold, A, is all there is of the class. The
    intersection over union that follows, (a(t) − b(t)) / (A + b(t)), is greatest at the answer.

    Args:
        tagged: `evidence_histogram` of the class, mean over images with the tag [360].
        untagged: The same over images without it.

    Returns:
        The evidence from which on positions are rather the class's, in log odds.
    """
    above, wrong = (each.flip(0).cumsum(0).flip(0) for each in (tagged, untagged))
    right = above - wrong
    overlap = right / (right.max() + wrong).clamp_min(1e-9)
    return _LOWEST + (_HIGHEST - _LOWEST) / BINS * int(overlap.argmax())


def certainty(precision: Tensor, chance: Tensor, best: Tensor | float = 1.0) -> Tensor:
    """How far average precision has come from guessing to the best that is known, 0..1.

    NaN, a class that could not be judged, is 0.
    """
    return (
        ((precision - chance) / (torch.as_tensor(best) - chance).clamp_min(1e-6))
        .nan_to_num(0)
        .clamp(0, 1)
    )


def by_chance(successes: int, trials: int) -> float:
    """The probability of at least so many heads in so many throws of a coin (sign test)."""
    if not trials:
        return 1.0
    tail = sum(math.comb(trials, heads) for heads in range(successes, trials + 1))
    return float(tail / 2**trials)


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    """The probability that a positive has the higher score than a negative (ROC), ties by half.

    Args:
        scores: [N].
        positive: bool [N].

    Returns:
        0..1; one half where there are no positives, or no negatives.
    """
    own, other = scores[positive], scores[~positive].sort().values
    if not len(own) or not len(other):
        return 0.5
    below = torch.searchsorted(other, own)
    through = torch.searchsorted(other, own, right=True)
    return float((below + through).double().mean() / 2 / len(other))


def told_apart(inside: Sequence[Tensor], outside: Sequence[Tensor], count: int) -> float:
    """How well visual words tell two parts of images apart, as the area under the ROC curve.

    Log ratios of each word's share in the two parts are learnt from every other image and tried on
    those between, and the other way round.

    Args:
        inside: Of each image the words of one part, integers [n].
        outside: Of each image those of the other part.
        count: How many words there are.

    Returns:
        0..1; one half: they are not told apart.
    """
    found = []
    for half in (0, 1):
        ratio = torch.zeros(count)
        for sign, part in ((1, inside), (-1, outside)):
            learnt = [own for place, own in enumerate(part) if place % 2 != half and len(own)]
            share = torch.ones(count) / count
            for own in learnt:
                share = share + torch.bincount(own.long(), minlength=count) / len(own)
            ratio += sign * (share / share.sum()).log()
        tried = [
            [ratio[own.long()] for place, own in enumerate(part) if place % 2 == half]
            for part in (inside, outside)
        ]
        own, other = (torch.cat(each) if each else torch.zeros(0) for each in tried)
        truth = torch.arange(len(own) + len(other)) < len(own)
        found.append(area_under_curve(torch.cat([own, other]), truth))
    return sum(found) / 2
