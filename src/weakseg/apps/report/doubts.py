"""Which images a person should look at first, and why, without any truth."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from markupsafe import Markup
from torch import Tensor

from weakseg.apps.report.facts import Facts
from weakseg.data.images import read_mask
from weakseg.ops.thresholds import BINS, score_histogram
from weakseg.runs.image_files import image_file
from weakseg.runs.image_maps import BRANCHES, ImageMaps, map_stages, map_title
from weakseg.stages.mask_counts import ImageEstimates
from weakseg.types import RunError, Sample, WeaksegError

MAX_LOOKED_AT = 2000
"""Of more images than this, so many chosen by chance are looked at."""

PER_KIND = 6
"""Maximum images named for one kind of reason."""

KINDS: Mapping[str, str] = {
    "empty": "tag without mask",
    "poor": "likely wrong",
    "disagree": "branches disagree",
    "unsure": "least certain",
    "border": "at the border of the threshold",
}
"""Reasons to look at an image, in the order of their weight."""

MEANINGS: Mapping[str, str] = {
    "empty": "The tag says it is there, but no pixel was found: often a wrong tag, or something "
    "very small.",
    "poor": "The mask is estimated to overlap the thing (intersection over union) by less than "
    "half: by how much of it hangs on the threshold, how high it scores, and what the run found "
    "of its class.",
    "disagree": "Spotlight and compensation point to different places; the overlap is 1 where "
    "they agree, 0 where not at all.",
    "unsure": "The class hardly scores higher than the background or another tag of the image, "
    "even inside its own mask.",
    "border": "A slightly different threshold would change much of the mask.",
}
"""The same reasons in a sentence."""

_WEIGHTS: Mapping[str, float] = {
    "empty": 3.0,
    "poor": 2.0,
    "disagree": 1.0,
    "unsure": 1.0,
    "border": 0.7,
}
"""How much a kind of doubt counts."""

_POOR = 0.5
"""An estimate below it is a reason to look."""

_STEP = 0.05
"""How far the threshold is moved to see how much of a mask hangs on it."""

_OVERLAP, _LEAD, _BORDER = 0.6, 0.3, 0.25
"""Branches overlap less, a class leads by less, more of a mask hangs on the threshold: a reason,
if it is among the strongest tenth of its kind.

Rank correlation with the IoU of an image's worst class, on 422 photographs and 144 drawings with
truth: the overlap's 0.44 and 0.48, the lead's 0.38 and 0.29, the border's 0.30 and none.
"""


@dataclass(frozen=True)
class Doubt:
    """A reason to look at an image.

    Attributes:
        kind: A key of `KINDS`.
        weight: How strong it is, 0..1; comparable within a kind.
        text: In words, safe as HTML.
    """

    kind: str
    weight: float
    text: Markup


@dataclass(frozen=True)
class Survey:
    """What looking at the images gave.

    Attributes:
        looked_at: How many were.
        damaged: How many more could not be, because their maps or masks are missing.
        histogram: Shares [256] of the places by score, of the kind of maps the masks are made of;
            None if no image has tags.
        doubts: By image, those to look at first, the most doubtful first.
        maskless: How many images have a tag without mask, of those looked at.
        reasons: Of all that were looked at, the strongest first.
        ranks: How doubtful they are.
    """

    looked_at: int
    damaged: int
    histogram: Tensor | None
    doubts: Mapping[str, tuple[Doubt, ...]]
    maskless: int
    reasons: Mapping[str, tuple[Doubt, ...]]
    ranks: Mapping[str, float]


def survey(facts: Facts, advance: Callable[[], None] = lambda: None) -> Survey:
    """Looks at all images, or of many at some, and finds those that a person should see first.

    Args:
        facts: Of a run whose stages `cams` and `masks` are finished.
        advance: Called after each image.
    """
    damaged, histogram = 0, torch.zeros(BINS, dtype=torch.float64)
    reasons: dict[str, dict[str, Doubt]] = {}
    wrong: dict[str, Mapping[int, LikelyWrong]] = {}
    samples, judge = looked_at(facts), Judge(facts)
    for sample in samples:
        try:
            judged = judge.of(sample)
        except WeaksegError:
            damaged += 1
        else:
            reasons[sample.id] = judged.doubts
            if sample.tags and facts.kind in judged.maps:
                histogram += score_histogram(judged.maps[facts.kind])
            wrong[sample.id] = judged.wrong
        advance()
    _add_maskless(facts, reasons)
    weight = float(histogram.sum())
    ranks, ordered = ranked(reasons, wrong)
    return Survey(
        len(samples) - damaged,
        damaged,
        histogram / weight if weight else None,
        _first(reasons),
        sum("empty" in by_kind for by_kind in reasons.values()),
        ordered,
        ranks,
    )


def looked_at(facts: Facts) -> list[Sample]:
    """The images that `survey` looks at."""
    samples = list(facts.catalog)
    if len(samples) <= MAX_LOOKED_AT:
        return samples
    chosen = random.Random(0).sample(range(len(samples)), MAX_LOOKED_AT)
    return [samples[k] for k in sorted(chosen)]


class LikelyWrong(NamedTuple):
    """What is likely wrong with the mask of a class in an image.

    Attributes:
        pixels: How many it has, at the image's full size.
        wrong: How many of them, or as many beside them, are likely wrong: the pixels times 1 − the
            likely intersection over union.
    """

    pixels: int
    wrong: float


class Judged(NamedTuple):
    """What is known of an image's mask.

    Attributes:
        doubts: The reasons to look at it by kind, of each kind the strongest.
        wrong: By class; empty where the run has no estimates or the image no tag.
        maps: All maps [n,h,w] in 0..1 of the image by kind.
    """

    doubts: dict[str, Doubt]
    wrong: dict[int, LikelyWrong]
    maps: dict[str, Tensor]


class Judge:
    """Finds the reasons to look at images of a run.

    Args:
        facts: Of a run whose stage `masks` is finished.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        judged = facts.has("cams") and facts.context.config.evidence.images
        self.estimates = ImageEstimates(facts.context) if judged else None

    def of(self, sample: Sample) -> Judged:
        """What is known of an image's mask.

        Raises:
            RunError: Its maps are missing or damaged.
            DataError: Its mask is.
        """
        facts = self.facts
        labels = read_mask(image_file(facts.path, "masks", sample.id, ".png"))
        if not facts.has("cams"):
            return Judged(_strongest(_doubts(facts, {}, sorted(sample.tags), labels)), {}, {})
        kinds, classes = titled_maps(facts, sample)
        doubts = list(_doubts(facts, kinds, classes, labels))
        pixels = torch.bincount(labels.flatten(), minlength=256).tolist()
        wrong = {}
        for k, estimate in (self.estimates.of(sample) if self.estimates else {}).items():
            wrong[k] = LikelyWrong(pixels[k + 1], (1 - estimate.value) * pixels[k + 1])
            if pixels[k + 1] and estimate.value < _POOR:
                text = "the mask of the <em>{}</em> is estimated to overlap it by {:.0f} %"
                text = Markup(text).format(facts.catalog.classes[k], 100 * estimate.value)
                doubts.append(Doubt("poor", 1 - estimate.value, text))
        return Judged(_strongest(doubts), wrong, kinds)


def titled_maps(facts: Facts, sample: Sample) -> tuple[dict[str, Tensor], list[int]]:
    """All maps [n,h,w] in 0..1 of an image by kind, and their classes from 0.

    Raises:
        RunError: They are missing or damaged.
    """
    kinds: dict[str, Tensor] = {}
    classes: list[int] = sorted(sample.tags)
    for stage in filter(facts.has, map_stages(facts.context)):
        kept = ImageMaps.load(facts.path, stage, sample.id)
        if kept.classes.tolist() != classes:
            raise RunError(f"the maps of {sample.id} are not of its tags; make them again")
        kinds |= {map_title(stage, k): v for k, v in kept.maps.items()}
    return kinds, classes


def _doubts(
    facts: Facts, kinds: Mapping[str, Tensor], classes: list[int], labels: Tensor
) -> Iterator[Doubt]:
    names = [facts.catalog.classes[k] for k in classes]
    present = torch.bincount(labels.flatten(), minlength=256).nonzero().flatten().tolist()
    for k, name in zip(classes, names, strict=True):
        if k + 1 not in present:
            text = "tagged <em>{}</em>, but no pixel of it in the mask"
            yield Doubt("empty", 1.0, Markup(text).format(name))
    limits = facts.thresholds
    if kinds.keys() & limits.keys() >= set(BRANCHES):
        for k, name in enumerate(names):
            spots = [kinds[kind][k] >= limits[kind] for kind in BRANCHES]
            either = int((spots[0] | spots[1]).sum())
            overlap = int((spots[0] & spots[1]).sum()) / either if either else 1.0
            if overlap < _OVERLAP:
                text = "the two branches disagree on where the <em>{}</em> is (overlap {:.2f})"
                yield Doubt("disagree", 1 - overlap, Markup(text).format(name, overlap))
    if names and facts.kind in kinds and facts.kind in limits:
        yield from _threshold_doubts(kinds[facts.kind], names, limits[facts.kind])


def _threshold_doubts(maps: Tensor, names: list[str], limit: float) -> Iterator[Doubt]:
    """Doubts about classes that barely reach the threshold or barely lead over another class."""
    top = maps.topk(min(2, len(maps)), dim=0)
    best, winner = top.values[0], top.indices[0]
    rival = top.values[1].clamp_min(limit) if len(maps) > 1 else torch.full_like(best, limit)
    for k, name in enumerate(names):
        own = (winner == k) & (best >= limit)
        area = int(own.sum())
        if not area:
            continue
        lead = float((best - rival)[own].mean())
        if lead < _LEAD:
            text = "the <em>{}</em> barely stands out (on average {:.2f} above {})"
            others = "everything else" if len(names) > 1 else "the background"
            yield Doubt("unsure", 1 - lead, Markup(text).format(name, lead, others))
        near = (winner == k) & (best >= limit - _STEP) & (best < limit + _STEP)
        share = min(1.0, float(near.sum()) / area)
        if share > _BORDER:
            text = (
                "{:.0f} % of the <em>{}</em> comes or goes if the threshold {:.2f} moves by {:.2f}"
            )
            yield Doubt("border", share, Markup(text).format(100 * share, name, limit, _STEP))


def _strongest(doubts: Iterable[Doubt]) -> dict[str, Doubt]:
    """The strongest of each kind: one class is enough to look at an image."""
    found: dict[str, Doubt] = {}
    for doubt in doubts:
        if doubt.kind not in found or doubt.weight > found[doubt.kind].weight:
            found[doubt.kind] = doubt
    return found


def _add_maskless(facts: Facts, reasons: dict[str, dict[str, Doubt]]) -> None:
    """Images without any mask are known of all, looked at or not."""
    known = {sample.id for sample in facts.catalog}
    for sample_id in facts.maskless:
        if sample_id in known and sample_id not in reasons:
            text = Markup("tagged, but its mask is empty")
            reasons[sample_id] = {"empty": Doubt("empty", 1.0, text)}


def _first(reasons: Mapping[str, Mapping[str, Doubt]]) -> dict[str, tuple[Doubt, ...]]:
    """The images to look at first, with those of their reasons that are strong for this run."""
    chosen: dict[str, list[Doubt]] = {}
    ranked = {}
    for kind in KINDS:
        worst = [(by_kind[kind], key) for key, by_kind in reasons.items() if kind in by_kind]
        worst.sort(key=lambda item: (-item[0].weight, item[1]))
        most = len(worst) if kind == "empty" else max(PER_KIND, len(reasons) // 10)
        ranked[kind] = worst[:most]
        chosen |= {key: [] for _, key in worst[:PER_KIND] if key not in chosen}
    for worst in ranked.values():
        for doubt, key in worst:
            if key in chosen:
                chosen[key].append(doubt)
    return {key: tuple(doubts) for key, doubts in chosen.items()}


def ranked(
    found: Mapping[str, Mapping[str, Doubt]], wrong: Mapping[str, Mapping[int, LikelyWrong]]
) -> tuple[dict[str, float], dict[str, tuple[Doubt, ...]]]:
    """In which order images are worth looking at, and their reasons, the strongest first.

    Where the run has estimates, an image counts by what is likely wrong in it: of each class the
    share of all its pixels in the run, added over the classes. A mask that is missing counts as one
    of usual size that is all wrong. Without estimates kinds of doubt are added, each by the share
    of images that have it less.

    The first 20 and 80 images hold 21 to 33 and 58 to 74 % of all that is wrong (by the truth of
    three runs); by the kinds of doubt alone 11 to 17 and 42 to 59, by chance 5 to 8 and 19 to 31
    (`benchmarks/review_order.py`).

    Args:
        found: By image, its doubts by kind.
        wrong: By image, what is likely wrong with each of its classes.
    """
    ranks: dict[str, float] = dict.fromkeys(found, 0.0)
    strength: dict[tuple[str, str], float] = {}
    for kind in KINDS:
        weights = {key: own[kind].weight for key, own in found.items() if kind in own}
        for key, share in _shares(weights).items():
            strength[key, kind] = _WEIGHTS[kind] * share
            ranks[key] += strength[key, kind]
    if any(wrong.values()):
        ranks = _likely_gains(found, wrong)
    ordered = {
        key: tuple(sorted(doubts.values(), key=lambda doubt: -strength[key, doubt.kind]))
        for key, doubts in found.items()
    }
    return ranks, ordered


def _likely_gains(
    found: Iterable[str], wrong: Mapping[str, Mapping[int, LikelyWrong]]
) -> dict[str, float]:
    """How much of all that is wrong each image's correction is likely to mend."""
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    for own in wrong.values():
        for k, mask in own.items():
            pixels[k] += mask.pixels
            masks[k] += mask.pixels > 0

    def gain(k: int, mask: LikelyWrong) -> float:
        return mask.wrong / pixels[k] if mask.pixels else 1 / max(1, masks[k])

    # An image that was not looked at is known to have no mask at all.
    unseen = 1 / max(1, masks.total())
    return {
        key: sum(gain(k, mask) for k, mask in wrong[key].items()) if key in wrong else unseen
        for key in found
    }


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    """Of each the share of all that are not greater."""
    places = {value: place for place, value in enumerate(sorted(values.values()), start=1)}
    return {key: places[value] / len(values) for key, value in values.items()}
