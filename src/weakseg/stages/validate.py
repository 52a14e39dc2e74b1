"""Stage `validate`: the segmentation network labels a second split, and is scored there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from weakseg.data.images import image_size, read_mask, read_sample
from weakseg.data.masks import write_mask
from weakseg.metrics.scores import MaskScorer, size_text, top_label
from weakseg.ops.cams import upsampled
from weakseg.ops.crf import CRFSettings, DenseCRF
from weakseg.ops.seeds import scaled_crf
from weakseg.predict import MODEL, Labeler, label_samples
from weakseg.runs.context import StageContext
from weakseg.runs.processes import first_process, gathered, own_share
from weakseg.runs.terminal_tables import mask_table
from weakseg.training.memory import kept_memory
from weakseg.types import DataError, Sample


def validate(context: StageContext) -> Mapping[str, object]:
    """Label every image of the second split: `<id>.png`; score those with truth: `metrics.json`.

    The network is given no tags. If set, its probabilities go through the dense CRF (DeepLab-v2,
    TPAMI 2018, section 3.3).

    Raises:
        DataError: A true mask does not fit its image or the classes.
    """
    catalog, config = context.validation, context.config
    assert catalog is not None
    classes = context.catalog.classes
    own = own_share(catalog.samples)
    for sample in own:
        _check_truth(sample, len(classes))
    labeler = Labeler.from_run(
        context.run.stage("segment").path / MODEL,
        config.device,
        precision=config.precision,
        scales=config.predict.scales,
        mirror=config.predict.mirror,
    )
    missing = [sample for sample in own if not context.dir.image_file(sample.id, ".png").is_file()]
    with context.track("validate", len(own), done=len(own) - len(missing)) as advance:
        crf = config.predict.crf
        found = _refined(labeler, missing, crf) if crf else label_samples(labeler, missing)
        for sample, labels in found:
            write_mask(context.dir.image_file(sample.id, ".png"), labels, classes)
            advance()
    scorer = MaskScorer(len(classes), config.evaluate)
    for sample in own:
        if sample.mask is not None:
            mask = read_mask(context.dir.image_file(sample.id, ".png"))
            scorer.update(mask, read_mask(sample.mask))
    tallies = gathered(scorer.tally)
    if not first_process():
        return {}
    for tally in tallies[1:]:
        scorer.add([torch.as_tensor(each) for each in tally])
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


def _refined(
    labeler: Labeler, samples: Sequence[Sample], crf: CRFSettings
) -> Iterator[tuple[Sample, Tensor]]:
    """The mask of each sample after the dense CRF, uint8 [H,W] on the CPU, as they are ready."""
    with kept_memory():
        for labeled in labeler.stream([sample.image for sample in samples], maps=True):
            sample = samples[labeled.number]
            if labeled.mask is None or labeled.maps is None:
                raise labeled.error or RuntimeError("a mask is missing")
            height, width = labeled.mask.shape
            shares = upsampled(labeled.maps.to(labeler.device), (height, width))
            image = read_sample(sample).to(labeler.device)
            refined = DenseCRF(image, scaled_crf(crf, max(height, width))).label(shares)
            yield sample, refined.cpu()


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
