"""A grid of pictures of what a run made of some of its images, stage by stage."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from weakseg.apps.picture_grid import heat, picture_grid
from weakseg.data.images import read_mask, read_sample
from weakseg.data.masks import overlay
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.image_maps import ImageMaps, chosen_map, stage_before_evidence
from weakseg.runs.run_dir import RunDir
from weakseg.types import Sample


def gallery(run: Path | str, *, rows: int = 12) -> bytes:
    """Rows of pictures of a finished run: photo, maps, seeds, boundary, mask, truth.

    A column is left out where the run has no such stage, the truth where no image has one.

    Args:
        run: The run's folder, finished up to its masks.
        rows: How many images, spread over those with tags (and with truth, if any has).

    Returns:
        A PNG file's bytes.

    Raises:
        RunError: The run is not finished, or a file of it is damaged.
    """
    context = StageContext.reading(RunDir(run))
    tagged = [sample for sample in context.catalog if sample.tags]
    tagged = [sample for sample in tagged if sample.mask] or tagged
    columns: dict[str, list[Tensor]] = {}
    for sample in tagged[:: max(1, len(tagged) // rows)][:rows]:
        for title, picture in _row(context, sample).items():
            columns.setdefault(title, []).append(picture)
    return picture_grid(list(columns), list(zip(*columns.values(), strict=True)))


def _own_range(maps: Tensor) -> Tensor:
    """The highest of maps [n,h,w] over its own range: probabilities hardly come near 0 and 1."""
    highest = maps.amax(dim=0)
    least, most = highest.amin(), highest.amax()
    return (highest - least) / (most - least).clamp_min(1e-6)


def _row(context: StageContext, sample: Sample) -> dict[str, Tensor]:
    run, config = context.run.path, context.config
    image = read_sample(sample)
    row = {"photo": image}
    kept = ImageMaps.load(run, "cams", sample.id)
    both = config.amr.compensation
    row["plain CAM" if both else "CAM"] = heat(image, kept.maps["spotlight"].amax(dim=0))
    if both:
        branches = ImageMaps.load(run, "weigh", sample.id).maps
        row["compensation"] = heat(image, branches["compensation"].amax(dim=0))
        row["weighted CAM"] = heat(image, branches["weighted"].amax(dim=0))
    if config.spread.active:
        stage = stage_before_evidence(context)
        spread = chosen_map(context, stage, ImageMaps.load(run, stage, sample.id))
        row["spread"] = heat(image, spread.amax(dim=0))
    if config.evidence.images:
        weighed = ImageMaps.load(run, "evidence", sample.id).maps["evidence"]
        row["evidence"] = heat(image, _own_range(weighed))
    if config.refine.walks:
        seeds = read_mask(image_file(run, "seeds", sample.id, ".png"))
        row["seeds"] = overlay(image, _enlarged(seeds, image))
        walked = ImageMaps.load(run, "walk", sample.id)
        if walked.boundary is not None:
            row["boundary"] = heat(image, walked.boundary, alpha=0.8)
        row["walk"] = heat(image, _own_range(walked.maps["walk"]))
    row["mask"] = overlay(image, read_mask(image_file(run, "masks", sample.id, ".png")))
    if sample.mask is not None:
        row["truth"] = overlay(image, read_mask(sample.mask))
    return row


def _enlarged(labels: Tensor, image: Tensor) -> Tensor:
    enlarged: Tensor = torch.nn.functional.interpolate(
        labels[None, None].float(), size=image.shape[-2:], mode="nearest-exact"
    )
    return enlarged[0, 0].to(torch.uint8)
