"""Losses on tags, between the two branches, and on masks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from weakseg.shared_batch import shared_total
from weakseg.types import IGNORE

Maps = Literal["raw", "normalized"]


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Multi-label soft-margin loss: the mean binary cross entropy of each class's sigmoid.

    Args:
        logits: Class scores [B,K].
        tags: What is in each image [B,K], 0 or 1.

    Returns:
        The loss, a scalar.
    """
    return nn.functional.multilabel_soft_margin_loss(logits, tags.to(logits.dtype))


def cross_pseudo_supervision(
    spotlight: Tensor,
    compensation: Tensor,
    tags: Tensor,
    *,
    maps: Maps = "normalized",
    mutual: bool = True,
) -> Tensor:
    """Mean distance of the branches' maps, by which each corrects the other.

    L_cps = mean |M_S − M_C|. Activation Modulation and Recalibration (AAAI 2022), equation 8.

    Args:
        spotlight: Maps of the spotlight branch [B,K,h,w], not negative.
        compensation: Maps of the compensation branch [B,K,h,w], not negative.
        tags: What is in each image [B,K], 0 or 1; used by `normalized` maps only.
        maps: `raw`: the maps as they are, over all classes (the paper). Raw maps can approach each
            other by shrinking alone. `normalized`: each map divided by its maximum, over the tags
            of the image only, since a map of an absent class is noise.
        mutual: True: both branches move; False: the spotlight's maps are a fixed target.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: The maps differ in shape.
    """
    if spotlight.shape != compensation.shape:
        raise ValueError(
            f"expected maps of one shape, got {tuple(spotlight.shape)} "
            f"and {tuple(compensation.shape)}"
        )
    if not mutual:
        spotlight = spotlight.detach()
    if maps == "raw":
        return (spotlight - compensation).abs().mean()
    distance = (_normalized(spotlight) - _normalized(compensation)).abs().mean(dim=(2, 3))
    tags = tags.to(distance.dtype)
    return (distance * tags).sum() / shared_total(tags.sum(), least=1)


def refined_labels(maps: Tensor, classes: Tensor, *, sure: float, unsure: float) -> Tensor:
    """What refined maps are sure of, as labels to learn from.

    Args:
        maps: Refined maps [n,h,w] in 0..1 of the classes in an image.
        classes: Their classes, counted from 0, int64 [n].
        sure: A position is of the class whose map is highest there, if it is above this.
        unsure: It is background if all maps are below this; between the two it is not known.

    Returns:
        Labels uint8 [h,w]: 0 background, k + 1 class k, 255 not known. Of an image without classes
        all is background.
    """
    if not len(maps):
        return maps.new_zeros(maps.shape[1:], dtype=torch.uint8)
    best, place = maps.max(dim=0)
    labels = (classes[place] + 1).to(torch.uint8)
    labels[best <= sure] = IGNORE
    labels[best < unsure] = 0
    return labels


def recalibration_loss(scores: Tensor, labels: Tensor, tags: Tensor) -> Tensor:
    """How far a branch's scores are from the labels that the other branch's refined map gives.

    The mean binary cross entropy of each class's sigmoid over three kinds of positions, each
    averaged by itself, since they differ a hundredfold in number: of the class; known not to be of
    it, in images that show it; any, in images that do not show it. This is the crossed supervision
    of Activation Modulation and Recalibration (AAAI 2022) with a target that knows background and
    what is not known.

    Args:
        scores: Scores W·F of the branch that learns [B,K,h,w].
        labels: uint8 [B,h,w] on the same grid: 0 background, k + 1 class k, 255 not known.
        tags: What is in each image [B,K], 0 or 1.

    Returns:
        The loss, a scalar; a kind that does not occur counts as 0.
    """
    kinds = torch.arange(1, scores.shape[1] + 1, device=labels.device)[:, None, None]
    shown = (tags > 0)[:, :, None, None]
    own = (labels[:, None] == kinds) & shown
    other = (labels != IGNORE)[:, None] & ~own & shown
    loss = nn.functional.binary_cross_entropy_with_logits(scores, own.float(), reduction="none")
    parts = [own, other, (~shown).expand_as(own)]
    terms = [
        (loss * part).sum() / shared_total(part.sum().to(loss.dtype), least=1) for part in parts
    ]
    return torch.stack(terms).mean()


def _normalized(maps: Tensor) -> Tensor:
    peak = maps.detach().amax(dim=(2, 3), keepdim=True)
    return maps / peak.clamp_min(torch.finfo(maps.dtype).eps)


def mask_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    blur: int = 0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Collision cross entropy of labels that may be soft; cross entropy where they are not.

    −ln Σ_c y_c p_c is the probability that two draws, from label and prediction, agree. Unlike
    −Σ_c y_c ln p_c it does not teach the network to be as unsure as its label: where y is even, any
    p is as good. Collision cross entropy for soft class labels (2023), equation 1. With
    `label_smoothing` it is bounded, so that a label that contradicts all others stops pulling.

    Args:
        logits: [B,C,H,W].
        labels: Indices [B,H,W] in 0..C−1, or 255: no loss.
        weights: Of the labels [C]; all 1 if None.
        blur: Labels are averaged over the pixels this far around, since masks err along contours.
        label_smoothing: Share of every label that is spread evenly over all of them, 0..1.

    Returns:
        The weighted mean over the labelled pixels, a scalar; 0 if there are none.
    """
    known = labels != IGNORE
    index = labels.long().masked_fill(~known, 0)
    weights = logits.new_ones(logits.shape[1]) if weights is None else weights.to(logits)
    if not blur and not label_smoothing:
        each = nn.functional.cross_entropy(logits, index, reduction="none")
        weight = weights[index] * known
        return (each * weight).sum() / shared_total(weight.sum(), least=1e-6)
    soft = soft_labels(labels, logits.shape[1], blur=blur, label_smoothing=label_smoothing)
    each = -torch.logsumexp(logits.log_softmax(dim=1) + soft.log(), dim=1)
    weight = torch.einsum("bchw,c->bhw", soft, weights) * known
    return (each * weight).sum() / shared_total(weight.sum(), least=1e-6)


def soft_labels(labels: Tensor, count: int, *, blur: int, label_smoothing: float) -> Tensor:
    """Label maps as distributions: averaged over a window, then mixed with the even distribution.

    Args:
        labels: Indices [B,H,W] in 0..C−1, or 255: not averaged, and even itself.
        count: C, number of labels.
        blur: How far the window reaches, in pixels.
        label_smoothing: Share of the even distribution, 0..1.

    Returns:
        float32 [B,C,H,W], their sum over C is 1.
    """
    known = labels != IGNORE
    soft = nn.functional.one_hot(labels.long().masked_fill(~known, 0), count)
    soft = soft.permute(0, 3, 1, 2).float() * known[:, None]
    if blur:
        side = 2 * blur + 1
        soft = nn.functional.avg_pool2d(soft, side, 1, blur)
        soft = soft / soft.sum(dim=1, keepdim=True).clamp_min(1e-6)
    soft = torch.where(known[:, None], soft, 1 / count)
    return (1 - label_smoothing) * soft + label_smoothing / count


def balancing_weights(counts: Tensor, least: float) -> Tensor:
    """Weights with which no label has less than some share of the loss, 1 on average over pixels.

    Labels that have more pixels than that are weighted alike. So where no label is rare nothing
    changes, while a label of a thousandth of the pixels counts enough to be learnt.

    Args:
        counts: Pixels of each label [C].
        least: The least share, in even shares (1 over the number of labels that occur). 0: every
            pixel counts as much; 1: every label.

    Returns:
        float32 [C]; 1 for labels that never occur.
    """
    share = counts.double() / counts.sum().clamp_min(1)
    occurs = counts > 0
    floor = least / max(1, int(occurs.sum()))
    raised = torch.zeros_like(occurs)
    factor = share.new_ones(())
    # Raising some leaves less for the others, which may raise further ones.
    for _ in range(len(counts)):
        free = occurs & ~raised
        factor = (1 - floor * raised.sum()) / share[free].sum().clamp_min(1e-12)
        below = free & (share * factor < floor)
        if not bool(below.any()):
            break
        raised |= below
    wanted = torch.where(raised, floor, share * factor)
    return torch.where(occurs, wanted / share.clamp_min(1e-12), 1.0).float()
