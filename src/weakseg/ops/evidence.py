"""What tags alone tell: images held out told apart, and surfaces that speak for a tag."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FOLDS = 5
"""Parts of the images; each is judged by what the others teach."""

_PENALTY = 1e-3
"""On the squared weights, against the mean loss of an image."""

_ROUNDS = 60
"""Maximum iterations of L-BFGS."""


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
    shares = [torch.bincount(own.flatten(), minlength=count).float() / own.numel() for own in words]
    return torch.stack(shares).sqrt()


def nearest_words(features: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of every position of features [C,h,w], int64 [h,w]."""
    flat = features.flatten(1).float()  # [C,hw]
    distance = centres.square().sum(dim=1)[:, None] - 2 * centres @ flat
    return distance.argmin(dim=0).view(features.shape[1:])
