"""Stage `evidence`: maps weighed by what occurs in images without the tag, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor

from weakseg.ops.evidence import (
    BINS,
    FOLDS,
    SIGNIFICANT,
    HeldOut,
    average_precision,
    by_chance,
    certainty,
    evidence_histogram,
    evidence_map,
    excess_threshold,
    held_out,
    histograms_of,
    standardized,
    told_apart,
)
from weakseg.processors import one_thread
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.processes import first_process, own_share, wait_for_all
from weakseg.stages.evidence_parts import MapsBefore, compared_parts
from weakseg.stages.learnt_evidence import LEARNT, LearntEvidence
from weakseg.stages.surface_words import WORDS, Surfaces, SurfaceWords, some_of
from weakseg.training.memory import kept_memory

_LOCAL = 0.01
"""Share of an image's positions, those with most evidence, by which local evidence is judged."""

_CAUTION = {"untagged": 4, "others": 1}
"""How much w falls where small surfaces tell less than whole images, see `evidence`; more among
images of no tag, where nothing else holds it back."""


@kept_memory()
def evidence(context: StageContext) -> Mapping[str, object]:
    """Weigh the maps of every image that has no result; writes `<id>.npz` (see `ImageMaps`).

    A network tells classes apart by what is often more than the class, or lies beside it, or is a
    part of it: healthy leaf around a lesion, an animal's head. What also occurs where the tag is
    absent is not the class. A logistic regression of the images' visual words (surfaces), held out
    from the images it learnt from, says of every position how far its surface speaks for the tag,
    in log odds e; t parts them best (`excess_threshold`). With a strength w, by class, a map m
    becomes P^w · m^(1 − w), where P is

        σ(e − t) · m: no more than both say, or
        σ(e − t) · m': what surfaces say, where m' is the class's share of the maps,

    averaged over neighbours of like colour (`pamr`): what surfaces tell ends where the surface
    does.

    Images without any tag are the better witnesses: what they show is no class's. Where there are
    enough, e tells images with any tag from them. Then a class is given to what surfaces say, where
    what its maps cover without evidence looks more like a tagged image than what they leave out
    (sign test over the images): its maps hold a part of the thing. Otherwise e tells images with
    the class's tag from others. These may share parts with it, so that w is small where what the
    maps cover without evidence is other stuff than what they leave out.

    Both ways w is small unless small surfaces tell the tag, and as well as whole images do: a
    photograph of an animal is told by more than its fur (`_told_by_surfaces`).

    Returns:
        Who the witnesses are, and of each class w, t, and whether surfaces say where it is.
    """
    catalog = context.catalog
    maps_before = MapsBefore.of(context)
    known: dict[str, Surfaces] = {}
    if first_process() and not context.dir.file(LEARNT).is_file():
        known = _learn(context, maps_before)
    wait_for_all()
    learnt = LearntEvidence.load(context)
    own = own_share(catalog.samples)
    pending = [s for s in own if not context.dir.image_file(s.id, ".npz").is_file()]
    there = [(s, known[s.id]) for s in pending if s.id in known]
    others = learnt.surface_words.of(context, [s for s in pending if s.id not in known])
    with context.track("evidence", len(own), done=len(own) - len(pending)) as advance:
        for sample, surfaces in chain(there, others):
            kept, maps = maps_before.load(sample)
            if len(maps):
                maps = learnt.weighed(sample, surfaces, kept.classes, maps)
            ImageMaps(kept.classes, kept.size, {"evidence": maps}).save(context.dir, sample.id)
            advance()
    return learnt.record(catalog.classes)


def evidence_strengths(context: StageContext, witnesses: str | None = None) -> Tensor:
    """How strongly each class's maps were weighed, float32 [K] in 0..1; 0 where they were not.

    Args:
        context: The run.
        witnesses: `untagged` or `others`: 0, too, where others than these were asked.
    """
    classes = context.catalog.classes
    if not context.config.evidence.images:
        return torch.zeros(len(classes))
    found = context.run.stage("evidence").summary
    if witnesses not in (None, found["witnesses"]):
        return torch.zeros(len(classes))
    return torch.tensor([float(found["classes"][name]["strength"]) for name in classes])


def _learn(context: StageContext, maps_before: MapsBefore) -> dict[str, Surfaces]:
    """Keeps what the images say of each other, and gives the surfaces of those asked, by id."""
    samples = some_of(context.catalog.samples, context.config.evidence.images)
    surface_words = SurfaceWords.found(context, samples)
    tags = torch.zeros(len(samples), len(context.catalog.classes), dtype=torch.bool)
    for place, sample in enumerate(samples):
        tags[place, list(sample.tags)] = True
    surfaces = surface_words.gathered(context, samples, "surfaces")
    words = [each.words for each in surfaces]
    last = torch.stack([each.features for each in surfaces])
    tagged = tags.any(dim=1, keepdim=True)
    untagged = min(int(tagged.sum()), int((~tagged).sum())) >= FOLDS
    target = tagged if untagged else tags
    told = held_out(histograms_of(words, WORDS), target)

    def found() -> Iterator[Tensor]:
        # Made again each time: of many classes they would fill the memory.
        for fold, own in zip(told.fold.tolist(), words, strict=True):
            yield evidence_map(told.weights[fold], own)

    thresholds = _thresholds(found(), target).expand(tags.shape[1])
    parts = compared_parts(maps_before, samples, words, found(), thresholds)
    witnesses = "untagged" if untagged else "others"
    local, best = _told_by_surfaces(found(), told, standardized(last), target)
    strengths = local * best ** _CAUTION[witnesses]
    if untagged:
        alone = [by_chance(own.supported, own.compared) < SIGNIFICANT for own in parts]
    else:
        differs = [max(0.5, told_apart(own.inside, own.outside, WORDS)) for own in parts]
        strengths = strengths * (2 - 2 * torch.tensor(differs))
        alone = [False for _ in parts]
    fold = {s.id: own for s, own in zip(samples, told.fold.tolist(), strict=True)}
    LearntEvidence(
        witnesses,
        surface_words,
        told.weights,
        fold,
        thresholds,
        strengths.expand(tags.shape[1]),
        torch.tensor(alone),
    ).save(context.dir)
    return {s.id: own for s, own in zip(samples, surfaces, strict=True)}


def _told_by_surfaces(
    found: Iterable[Tensor], told: HeldOut, last: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """How far small surfaces tell images with a tag from images without it, by column, 0..1.

    The hundredth of an image with most evidence is judged, by average precision on images held out.

    Returns:
        How far that comes from guessing to certainty; how far it comes from guessing to what the
        whole image tells, by its mean last features or all its words. Of the photograph of an
        animal fur tells half at most; of a lesion small surfaces tell all.
    """
    top = []
    for each in found:
        flat = each.flatten(1)
        most = flat.topk(max(1, int(_LOCAL * flat.shape[1])), dim=1).values
        top.append(most.mean(dim=1))
    local = average_precision(torch.stack(top), target)
    local = local.masked_fill(told.precision.isnan(), torch.nan)
    whole = torch.maximum(held_out(last, target).precision, told.precision)
    return certainty(local, told.chance), certainty(local, told.chance, whole)


@one_thread()
def _thresholds(found: Iterable[Tensor], target: Tensor) -> Tensor:
    """By column of the target [N,K], where evidence is best parted; 0 where nothing can tell."""
    tagged, untagged = torch.zeros(2, target.shape[1], BINS)
    for own, there in zip(found, target, strict=True):
        histogram = evidence_histogram(own)
        tagged[there] += histogram[there]
        untagged[~there] += histogram[~there]
    with_, without = target.sum(dim=0), (~target).sum(dim=0)
    return torch.tensor(
        [
            excess_threshold(tagged[k] / with_[k], untagged[k] / without[k])
            if with_[k] and without[k]
            else 0.0
            for k in range(target.shape[1])
        ]
    )
