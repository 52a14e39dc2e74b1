"""Stage `verify`: whether the masks are any good, as far as tags alone can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.data.images import read_mask
from weakseg.metrics.estimates import MaskCounts, mean_estimate
from weakseg.metrics.verdicts import WHOLE_IMAGE, ClassFigures, verdicts
from weakseg.ops.evidence import (
    FOLDS,
    HeldOut,
    by_chance,
    evidence_map,
    held_out,
    histograms_of,
    standardized,
    told_apart,
)
from weakseg.ops.propagation import HALF
from weakseg.processors import one_thread
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.processes import first_process
from weakseg.stages.evidence import evidence_strengths
from weakseg.stages.mask_counts import class_estimate, mask_counts
from weakseg.stages.surface_words import WORDS, SurfaceWords, some_of
from weakseg.training.memory import kept_memory
from weakseg.types import Sample


@kept_memory()
def verify(context: StageContext) -> Mapping[str, object]:
    """Judge the masks of some images without any truth; writes `verify.json`.

    Four questions, of each class: can images with its tag be told from images without it, by
    images held out? Did maps and masks come to anything? Is what the masks cover other stuff than
    what they leave of the same images? And does it also occur where the tag is absent? Of each
    position, the surface (its nearest visual words, of features of the pretrained network) speaks
    for the tag or against it, by the other images; masks of the thing itself leave outside what
    speaks against it. The last question is asked only where surfaces alone tell the tag of images
    held out.

    How good the masks are likely to be is estimated from how sure they are of themselves
    (`metrics.estimates`), by class and, in `verify.json`, by image; not without the stage
    `evidence`, as the curve was fitted to runs with it.

    Returns:
        The verdicts in words, the worst first, each class's figures and the estimates.
    """
    if not first_process():  # a bounded number of images, seen as a whole
        return {}
    samples = some_of(context.catalog.samples, context.config.verify.images)
    names = context.catalog.classes
    tags = torch.zeros(len(samples), len(names), dtype=torch.bool)
    for place, sample in enumerate(samples):
        tags[place, list(sample.tags)] = True
    figures = {name: ClassFigures() for name in names}
    _count(context, samples, figures)
    if samples:
        _judge(context, samples, tags, list(figures.values()))
    by_image = _estimate(context, samples, list(figures.values()))
    found = verdicts(figures)
    mean = mean_estimate([own.estimate for own in figures.values() if own.estimate])
    record = {
        "images": len(samples),
        "verdicts": [asdict(verdict) for verdict in found],
        "estimate": asdict(mean) if mean else None,
        "classes": {name: asdict(each) for name, each in figures.items()},
        "estimates": by_image,
    }
    context.dir.write_json("verify.json", record)
    return {key: value for key, value in record.items() if key != "estimates"}


@one_thread()
def _count(
    context: StageContext, samples: Iterable[Sample], figures: Mapping[str, ClassFigures]
) -> None:
    names = context.catalog.classes
    for sample in samples:
        if not sample.tags:
            continue
        maps = ImageMaps.load(context.run.path, "cams", sample.id)
        mask = _mask(context, sample)
        for k, peak in zip(
            maps.classes.tolist(), maps.maps["spotlight"].amax(dim=(1, 2)).tolist(), strict=True
        ):
            own, share = figures[names[k]], float((mask == k + 1).float().mean())
            own.images += 1
            own.empty_maps += peak <= 0
            own.without_mask += share == 0
            own.whole_image += share >= WHOLE_IMAGE


def _mask(context: StageContext, sample: Sample) -> Tensor:
    return read_mask(image_file(context.run.path, "masks", sample.id, ".png"))


@torch.no_grad()
def _judge(
    context: StageContext, samples: list[Sample], tags: Tensor, figures: list[ClassFigures]
) -> None:
    """What images held out tell of each class, put into its figures."""
    found = SurfaceWords.found(context, samples).gathered(context, samples, "verify")
    words = [each.words for each in found]
    told = held_out(standardized(torch.stack([each.features for each in found])), tags)
    surfaces = held_out(histograms_of(words, WORDS), tags)
    for k, own in enumerate(figures):
        own.guessed = float(told.chance[k])
        own.told = _known(told.precision[k])
        own.surfaces_told = _known(surfaces.precision[k])
    for own, found_against in zip(
        figures, _against(context, samples, words, surfaces), strict=True
    ):
        own.against, own.against_outside, own.against_by_chance = found_against
    by_others = evidence_strengths(context, "others").tolist()
    for k, own in enumerate(figures):
        own.by_others = by_others[k]
        own.distinct = _distinct(context, samples, [each[-1] for each in words], k)


def _estimate(
    context: StageContext, samples: Sequence[Sample], figures: Sequence[ClassFigures]
) -> dict[str, float]:
    """Puts into the figures how good a class's masks are likely to be; returns it by image."""
    if not context.config.evidence.images:
        return {}
    counts = [MaskCounts() for _ in figures]
    by_image = {}
    for sample, found in mask_counts(context, samples):
        values = [class_estimate(figures[k], counted)[1].value for k, counted in found.items()]
        by_image[sample.id] = round(sum(values) / len(values), 4)
        for k, counted in found.items():
            counts[k] += counted
    for own, counted in zip(figures, counts, strict=True):
        if counted.images:
            own.sureness, own.estimate = class_estimate(own, counted)
    return by_image


def _known(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)


@one_thread()
def _against(
    context: StageContext, samples: list[Sample], words: list[list[Tensor]], surfaces: HeldOut
) -> list[tuple[float, float, float]]:
    """Of each class's masks, and of the rest of the same images, the share that speaks against it.

    That is, whose surfaces are rather those of images without the tag. And the probability that by
    chance alone masks would have the greater share in so many of the images (sign test).
    """
    classes = surfaces.weights.shape[2]
    cells, against = torch.zeros(2, classes), torch.zeros(2, classes)
    compared, worse = [0] * classes, [0] * classes
    for place, (sample, own) in enumerate(zip(samples, words, strict=True)):
        if not sample.tags:
            continue
        indices = sorted(sample.tags)
        speaks = evidence_map(surfaces.weights[int(surfaces.fold[place])][:, indices], own)
        size = own[0].shape
        mask = _mask(context, sample)
        cover = torch.stack([(mask == k + 1).float() for k in indices])
        cover = functional.interpolate(cover[None], size=size, mode="area")[0]
        parts = torch.stack([cover, 1 - cover])
        pixels, wrong = parts.sum(dim=(2, 3)), (parts * (speaks < 0)).sum(dim=(2, 3))
        cells[:, indices] += pixels
        against[:, indices] += wrong
        shares = wrong / pixels.clamp_min(1e-6)
        for k, there, more in zip(
            indices, (pixels > 0).all(dim=0).tolist(), (shares[0] > shares[1]).tolist(), strict=True
        ):
            compared[k] += there
            worse[k] += there and more
    inside, outside = (against / cells.clamp_min(1e-6)).tolist()
    return list(zip(inside, outside, map(by_chance, worse, compared), strict=True))


@one_thread()
def _distinct(
    context: StageContext, samples: list[Sample], words: list[Tensor], k: int
) -> float | None:
    """How well a class's masks are told from what no mask of the same images covers.

    By the words of the largest cells: none of the smaller ones tells an animal from the grass.
    """
    inside, outside = [], []
    for sample, own in zip(samples, words, strict=True):
        if k not in sample.tags:
            continue
        mask = _mask(context, sample)
        parts = torch.stack([(mask == k + 1).float(), (mask == 0).float()])
        cover, rest = functional.interpolate(parts[None], size=own.shape, mode="area")[0] > HALF
        if bool(cover.any()) and bool(rest.any()):
            inside.append(own[cover])
            outside.append(own[rest])
    return told_apart(inside, outside, WORDS) if len(inside) >= FOLDS else None
