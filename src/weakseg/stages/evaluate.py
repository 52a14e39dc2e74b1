"""The stage `evaluate`: scores of a run's maps and masks, where truth exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from weakseg.data.images import read_mask
from weakseg.metrics.confusion import EvaluateSettings
from weakseg.metrics.scores import (
    MaskScorer,
    Scores,
    count_labels,
    present_labels,
    size_text,
    top_label,
)
from weakseg.metrics.sweep import SweepPoint, ThresholdSweep
from weakseg.metrics.truth_agreement import TruthAgreement
from weakseg.processors import one_thread
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.image_maps import ImageMaps, map_stages, map_title
from weakseg.runs.processes import first_process, gathered, own_share
from weakseg.runs.terminal_tables import evaluation_tables
from weakseg.types import IGNORE, DataError, RunError, Sample

_REMEDY = "remove that stage's folder and give `weakseg run` again"


@one_thread()
def evaluate(context: StageContext) -> dict[str, object]:
    """Scores a run's maps and masks on all samples of its catalog that have truth.

    The maps that each stage kept are scored at the threshold that is best by the truth (`oracle`)
    and at the one chosen from the maps of all images without it (`blind`); the final masks as they
    are, near their contours too. Everything goes to `metrics.json`, tables to the console. Without
    any truth only the masks' pixels per class are counted.

    Args:
        context: The run, after its stage `masks`.

    Returns:
        The mean scores of each kind of map and of the masks.

    Raises:
        DataError: A true mask does not fit its image or the catalog's classes.
        RunError: A map or mask is missing or damaged.
    """
    catalog, settings = context.catalog, context.config.evaluate
    scored = [sample for sample in catalog if sample.mask is not None]
    if not scored:
        return _count_only(context)
    blind: dict[str, float] = context.run.stage("masks").summary.get("thresholds") or {}
    sweeps: dict[str, ThresholdSweep] = {}
    scorer = MaskScorer(len(catalog.classes), settings)
    agreements: list[tuple[str, list[int], list[int]]] = []
    own = own_share(scored)
    with context.track("evaluate", len(own)) as advance:
        for sample in own:
            prediction = _read_prediction(context, sample)
            truth = _read_truth(sample, prediction, len(catalog.classes))
            found = _read_maps(context, sample, truth)
            if not sweeps:
                sweeps = {
                    name: ThresholdSweep(len(catalog.classes), _grid(settings, blind.get(name)))
                    for name in found
                }
            if found.keys() != sweeps.keys():
                raise _damaged(
                    context, sample, "weigh", f"with the other stages it gives {', '.join(found)}"
                )
            for name, (maps, classes) in found.items():
                sweeps[name].update(maps, classes, truth)
            scorer.update(prediction, truth)
            tagged = [tag + 1 for tag in sample.tags]
            agreements.append((sample.id, sorted(present_labels(truth)), tagged))
            advance()
    of_masks = gathered(scorer.tally)
    of_maps = gathered({name: sweep.tally for name, sweep in sweeps.items()})
    seen = sorted(each for part in gathered(agreements) for each in part)
    if not first_process():
        return {}
    agreement = TruthAgreement(catalog.classes)
    for masks_counted, maps_counted in zip(of_masks[1:], of_maps[1:], strict=True):
        scorer.add([torch.as_tensor(each) for each in masks_counted])
        for name, tally in maps_counted.items():
            sweeps[name].add(torch.as_tensor(tally))
    for image, shown, tagged in seen:
        agreement.update(image, shown, tagged)

    masks = scorer.scores(catalog.classes)
    points = {
        name: {
            "oracle": sweep.best(),
            "blind": sweep.at(blind[name]) if name in blind else None,
        }
        for name, sweep in sweeps.items()
    }
    reports = {name: _map_record(sweep, points[name], masks) for name, sweep in sweeps.items()}
    record = {
        "images": len(scored),
        "images_without_truth": len(catalog) - len(scored),
        "classes": masks.names,
        "maps": reports,
        "masks": masks.to_json(),
        "warnings": agreement.findings(),
    }
    context.dir.write_json("metrics.json", record)
    for table in evaluation_tables(record):
        context.console.print(table)
    for text in agreement.findings():
        context.console.print(f"warning: {text}", markup=False, highlight=False, soft_wrap=True)
    return {
        "images": len(scored),
        "warnings": agreement.findings(),
        "maps": {
            name: {
                kind: {key: report[kind][key] for key in ("threshold", "mean_iou")}
                for kind in ("oracle", "blind")
                if report[kind]
            }
            for name, report in reports.items()
        },
        "masks": {
            "mean_iou": masks.mean_iou,
            "mean_precision": masks.mean_precision,
            "mean_recall": masks.mean_recall,
            "mean_boundary_iou": masks.mean_boundary_iou,
        },
    }


def _count_only(context: StageContext) -> dict[str, object]:
    catalog = context.catalog

    def masks() -> Iterator[Tensor]:
        own = own_share(catalog.samples)
        with context.track("evaluate", len(own)) as advance:
            for sample in own:
                yield _read_prediction(context, sample)
                advance()

    parts = gathered(count_labels(masks(), catalog.classes))
    pixels = {name: sum(part[name] for part in parts) for name in parts[0]}
    if not first_process():
        return {}
    record: dict[str, object] = {"images": 0, "images_without_truth": len(catalog)}
    context.dir.write_json("metrics.json", {**record, "pixels": pixels})
    context.console.print(
        "no sample has a true mask: nothing to score; the masks' pixels per class are in "
        f"{context.dir.path / 'metrics.json'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return {**record, "pixels": pixels}


def _read_prediction(context: StageContext, sample: Sample) -> Tensor:
    path = image_file(context.run.path, "masks", sample.id, ".png")
    try:
        mask = read_mask(path)
    except DataError as error:
        raise RunError(f"{error}; {_REMEDY}") from None
    classes = len(context.catalog.classes)
    if int(mask.max()) > classes:
        raise RunError(
            f"{path} has index {int(mask.max())}, but the run has {classes} classes; {_REMEDY}"
        )
    return mask


def _read_truth(sample: Sample, prediction: Tensor, classes: int) -> Tensor:
    assert sample.mask is not None
    truth = read_mask(sample.mask)
    if truth.shape != prediction.shape:
        raise DataError(
            f"{sample.mask} is {size_text(truth)}, but the mask of {sample.image.name} is "
            f"{size_text(prediction)}; a true mask must have its image's (upright) size"
        )
    if top_label(truth) > classes:
        raise DataError(
            f"{sample.mask} has index {top_label(truth)}, but there are {classes} classes; "
            f"mark what is no class of the source by {IGNORE}"
        )
    return truth


def _read_maps(
    context: StageContext, sample: Sample, truth: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """The maps [n,h,w] that each stage kept, by title, and their classes [n] from 0."""
    found = {}
    for stage in map_stages(context):
        kept = ImageMaps.load(context.run.path, stage, sample.id)
        classes, size = kept.classes, kept.size
        if size != tuple(truth.shape):
            raise _damaged(context, sample, stage, f"its size is {size}, not {tuple(truth.shape)}")
        if bool(((classes < 0) | (classes >= len(context.catalog.classes))).any()):
            raise _damaged(context, sample, stage, f"it holds classes {classes.tolist()}")
        for kind, maps in kept.maps.items():
            found[map_title(stage, kind)] = (maps, classes)
    return found


def _damaged(context: StageContext, sample: Sample, stage: str, found: str) -> RunError:
    path = image_file(context.run.path, stage, sample.id, ".npz")
    return RunError(f"{path} is damaged: {found}; {_REMEDY}")


def _grid(settings: EvaluateSettings, blind: float | None) -> Tensor:
    # The blind threshold becomes one of the sweep's: it is scored exactly, and oracle ≥ blind.
    grid = torch.linspace(0, 1, round(1 / settings.threshold_step) + 1)
    if blind is not None:
        near = (grid - blind).abs() < 1e-6
        grid = torch.cat([grid[~near], torch.tensor([blind])])
    return grid.sort().values


def _map_record(
    sweep: ThresholdSweep, points: Mapping[str, SweepPoint | None], masks: Scores
) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for kind, point in points.items():
        record[kind] = None
        if point is not None:
            scores = Scores(masks.names, masks.images, point.counts).to_json()
            del scores["images"], scores["confusion"]
            record[kind] = {"threshold": point.threshold, **scores}
    curve = sweep.curve()
    record["curve"] = {
        "threshold": [float(f"{t:.7g}") for t in curve.thresholds.tolist()],
        "mean_iou": curve.mean_iou.tolist(),
        "mean_precision": curve.mean_precision.tolist(),
        "mean_recall": curve.mean_recall.tolist(),
    }
    return record
