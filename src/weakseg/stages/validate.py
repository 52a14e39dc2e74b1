"""Stage `validate`: the segmentation network labels a second split, and is scored there."""

from __future__ import annotations

from collections.abc import Mapping

from weakseg.data.images import image_size, read_mask
from weakseg.data.masks import write_mask
from weakseg.metrics.scores import MaskScorer, size_text, top_label
from weakseg.predict import MODEL, Labeler, label_samples
from weakseg.runs.context import StageContext
from weakseg.runs.terminal_tables import mask_table
from weakseg.types import DataError, Sample


def validate(context: StageContext) -> Mapping[str, object]:
    """Label every image of the second split: `<id>.png`; score those with truth: `metrics.json`.

    The network is given no tags.

    Raises:
        DataError: A true mask does not fit its image or the classes.
    """
    catalog, config = context.validation, context.config
    assert catalog is not None
    classes = context.catalog.classes
    for sample in catalog:
        _check_truth(sample, len(classes))
    labeler = Labeler.from_run(
        context.run.stage("segment").path / MODEL,
        config.device,
        precision=config.precision,
        scales=config.predict.scales,
        mirror=config.predict.mirror,
    )
    missing = [sample for sample in catalog if not context.dir.file(f"{sample.id}.png").is_file()]
    with context.track("validate", len(catalog), done=len(catalog) - len(missing)) as advance:
        for sample, labels in label_samples(labeler, missing):
            write_mask(context.dir.file(f"{sample.id}.png"), labels, classes)
            advance()
    scorer = MaskScorer(len(classes), config.evaluate)
    for sample in catalog:
        if sample.mask is not None:
            mask = read_mask(context.dir.file(f"{sample.id}.png"))
            scorer.update(mask, read_mask(sample.mask))
    scores = scorer.scores(classes)
    counts = {"images": scores.images, "images_without_truth": len(catalog) - scores.images}
    if not scores.images:
        context.console.print("validate: no image has a true mask, nothing to score")
        return counts
    record = {**counts, **scores.to_json()}
    context.dir.write_json("metrics.json", record)
    title = f"Segmentation network on {scores.images} images of the second split, in percent"
    context.console.print(mask_table(record, title))
    return {**counts, "mean_iou": scores.mean_iou, "mean_boundary_iou": scores.mean_boundary_iou}


def _check_truth(sample: Sample, classes: int) -> None:
    """Refuse what cannot be scored before hours are spent."""
    if sample.mask is None:
        return
    truth, (height, width) = read_mask(sample.mask), image_size(sample.image)
    if tuple(truth.shape) != (height, width) or top_label(truth) > classes:
        raise DataError(
            f"{sample.mask} is {size_text(truth)} with labels up to {top_label(truth)}, but its "
            f"image is {width}×{height} and there are {classes} classes"
        )
