"""Stage `segment`: a segmentation network learns from the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from weakseg.data.datasets import MaskedViews
from weakseg.data.images import image_size, read_mask
from weakseg.data.masks import write_mask
from weakseg.metrics.confusion import ConfusionMatrix, class_recall, mean_iou
from weakseg.metrics.scores import top_label
from weakseg.models.hub import CONFIG, WEIGHTS
from weakseg.models.segmenter import Segmenter
from weakseg.ops.losses import balancing_weights
from weakseg.ops.tta import PredictSettings
from weakseg.predict import MODEL, Labeler, label_samples
from weakseg.runs.context import StageContext
from weakseg.runs.image_files import image_file
from weakseg.runs.learning import begin_warm, learn
from weakseg.runs.processes import by_first, first_process, gathered, own_share, wait_for_all
from weakseg.runs.stage_dir import EARLIER
from weakseg.stages.classify import load_network
from weakseg.training.fit import CHECKPOINT, LOG
from weakseg.training.mask_task import MaskTask
from weakseg.types import DataError, RunError, Sample

_MEASURED = 100
"""Maximum images of either kind whose agreement is measured."""

_TAKEN_BACK = 0.5
"""Share of what balancing adds to the logits that is taken back after the training.

All of it would give probabilities as of an unweighted loss; an intersection over union is highest
where less than half the probability is enough for a label. On 84 leaves whose lesions are 0.03 to
0.5 % of the pixels a quarter gives 47, half 50, and three quarters, which fit the masks learnt from
best, 46 (mIoU by their truth, means of two networks).
"""

LEARNT = 0.1
"""Share of a class's masks below which a network that does not find more has not learnt it."""


@dataclass(frozen=True)
class LabelledImages:
    """Images and the masks to learn from.

    Attributes:
        samples: The images.
        masks: The mask file of each.
        held_out: Images and masks that are measured only.
        steps: How many steps to train for, about.
    """

    samples: Sequence[Sample]
    masks: Sequence[Path]
    held_out: Sequence[tuple[Sample, Path]]
    steps: int


def segment(context: StageContext) -> Mapping[str, object]:
    """Train the network, as many rounds as set; writes `model/` and `log.jsonl`.

    Earlier rounds leave theirs in `round-<n>/`, with the masks for the next one in its `labels/`.

    Raises:
        DataError: A true mask does not fit.
        RunError: A mask is missing or damaged.
    """
    settings = context.config.segment
    labelled = _first_labels(context)
    rounds: list[dict[str, object]] = []
    for number in range(1, settings.rounds + 1):
        last = number == settings.rounds
        folder = context.dir.path if last else context.dir.path / f"round-{number}"
        label = "segment" if settings.rounds == 1 else f"segment {number}/{settings.rounds}"
        model = _trained(context, labelled, folder, label)
        rounds.append(_agreements(context, model, labelled))
        if not last:
            labelled = _relabelled(context, model, labelled, f"{folder.name}/labels")
    return {
        "images": len(labelled.samples),
        "held_out": len(labelled.held_out),
        "masks": "truth" if settings.truth_masks else "tags",
        "steps": steps_logged(context.dir.path),
        **rounds[-1],
        "rounds": rounds,
        **({} if settings.truth_masks else context.corrections.summary),
    }


def _first_labels(context: StageContext) -> LabelledImages:
    settings, catalog = context.config.segment, context.catalog
    pairs = [
        (sample, image_file(context.run.path, "masks", sample.id, ".png")) for sample in catalog
    ]
    if settings.truth_masks:
        pairs = [(sample, sample.mask) for sample in catalog if sample.mask is not None]
    generator = torch.Generator().manual_seed(context.config.seed)
    order = torch.randperm(len(pairs), generator=generator).tolist()
    # What people corrected is too dear to be measured only.
    order.sort(key=lambda index: pairs[index][0].id in context.corrections.masks)
    count = min(len(pairs) - 1, round(settings.held_out * len(pairs)))
    chosen = sorted(order[count:])
    used = len(catalog) - round(settings.held_out * len(catalog))
    return LabelledImages(
        [pairs[index][0] for index in chosen],
        [pairs[index][1] for index in chosen],
        [pairs[index] for index in sorted(order[:count])],
        # The bound from fewer images is trained for as many steps.
        settings.fit.passes(used) * -(-used // settings.fit.batch_size),
    )


def _trained(
    context: StageContext, labelled: LabelledImages, folder: Path, label: str
) -> Segmenter:
    """The network trained on these masks; one that is there already is taken."""
    if not by_first((folder / MODEL / CONFIG).is_file):
        trained = _train(context, labelled, folder, label)
        if first_process():
            trained.save_pretrained(folder / MODEL)
            (folder / MODEL / f"{EARLIER}{WEIGHTS}").unlink(missing_ok=True)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        wait_for_all()
    return Segmenter.from_pretrained(folder / MODEL)


def _train(context: StageContext, labelled: LabelledImages, folder: Path, label: str) -> Segmenter:
    config, settings, catalog = context.config, context.config.segment, context.catalog
    counts = _label_counts(context, labelled)
    torch.manual_seed(config.seed)
    channels = config.backbone.in_chans
    backbone = settings.backbone or config.backbone
    model = Segmenter(
        len(catalog.classes),
        backbone.model_copy(update={"in_chans": channels}),
        settings.network,
        load=settings.backbone is not None,
        class_names=catalog.classes,
        long_side=settings.long_side,
        ignore_alpha=any(sample.ignore_alpha for sample in catalog),
    )
    if settings.backbone is None:
        model.start_from(load_network(context))
    share = begin_warm(model, context, folder / MODEL / WEIGHTS)
    balance = settings.task.balance
    task = MaskTask(model, settings.task, balancing_weights(counts, balance) if balance else None)
    samples, masks = labelled.samples, labelled.masks
    if not settings.truth_masks:
        samples, masks = context.corrections.learnt_from(samples, masks, config.review.weight)
    batches = -(-len(samples) // settings.fit.batch_size)
    epochs = max(1, round(share * labelled.steps / batches))
    views = MaskedViews(samples, masks, settings.augment, config.seed, channels=channels)
    learn(context, label, task, views, settings.fit, folder=folder, epochs=epochs)
    if task.weights is not None:
        # A weight of w raises a label's logit by log w: Menon et al., Long-tail learning via logit
        # adjustment, ICLR 2021.
        task.trained.shift_logits(-_TAKEN_BACK * task.weights.log())
    return task.trained


def _label_counts(context: StageContext, labelled: LabelledImages) -> Tensor:
    """How many pixels each label has, int64 [K+1]; looks at every mask before any is used."""
    classes = len(context.catalog.classes)
    truth = context.config.segment.truth_masks
    counts = torch.zeros(256, dtype=torch.int64)
    pairs = [*zip(labelled.samples, labelled.masks, strict=True), *labelled.held_out]
    for sample, path in own_share(pairs):
        try:
            mask = read_mask(path)
        except DataError as error:
            if truth:
                raise
            raise RunError(f"{error}; remove {path.parent} and run again") from None
        size = image_size(sample.image)
        if tuple(mask.shape) != size or top_label(mask) > classes:
            found = f"{mask.shape[1]}×{mask.shape[0]} with labels up to {top_label(mask)}"
            raise (DataError if truth else RunError)(
                f"{path} is {found}, but its image is {size[1]}×{size[0]} and there are {classes} "
                "classes; fix the mask, or remove the folder if weakseg made it"
            )
        counts += torch.bincount(mask.flatten(), minlength=256)
    parts = [torch.as_tensor(part) for part in gathered(counts)]
    return torch.stack(parts).sum(dim=0)[: classes + 1]


def _agreements(
    context: StageContext, model: Segmenter, labelled: LabelledImages
) -> dict[str, object]:
    """How far the network's labels agree with the masks.

    Returns:
        `agreement`: the mIoU on images trained on and held out; None where none are held out.
        `not_learnt`: the classes of which it finds hardly anything even in images trained on; none
            after a dry run, which is no training.
    """
    if not first_process():
        return {"agreement": None, "not_learnt": []}
    trained = list(zip(labelled.samples, labelled.masks, strict=True))
    kinds = {
        "trained": trained[:: max(1, len(trained) // _MEASURED)][:_MEASURED],
        "held_out": labelled.held_out[:_MEASURED],
    }
    found: dict[str, float | None] = {}
    not_learnt: list[str] = []
    total = sum(map(len, kinds.values()))
    labeler = _labeler(context, model, PredictSettings(scales=(1.0,), mirror=False))
    with context.track("agreement", total) as advance:
        for kind, pairs in kinds.items():
            masks = {sample.id: path for sample, path in pairs}
            matrix = ConfusionMatrix(model.classes)
            samples = [sample for sample, _ in pairs]
            for sample, labels in label_samples(labeler, samples):
                matrix.update(labels, read_mask(masks[sample.id]))
                advance()
            found[kind] = float(mean_iou(matrix.counts))
            if kind == "trained" and context.config.dry_run is None:
                shares = class_recall(matrix.counts)[1:].tolist()
                names = zip(context.catalog.classes, shares, strict=True)
                not_learnt = [name for name, share in names if share < LEARNT]
    return {"agreement": found if labelled.held_out else None, "not_learnt": not_learnt}


def _labeler(context: StageContext, model: Segmenter, settings: PredictSettings) -> Labeler:
    config = context.config
    return Labeler(
        model, config.device, config.precision, scales=settings.scales, mirror=settings.mirror
    )


def _relabelled(
    context: StageContext, model: Segmenter, labelled: LabelledImages, folder: str
) -> LabelledImages:
    """The same images with the network's masks, within the images' tags."""
    everything = [*labelled.samples, *(sample for sample, _ in labelled.held_out)]
    own = own_share(everything)

    def labels_of(sample: Sample) -> Path:
        return context.dir.image_file(sample.id, ".png", folder=folder)

    missing = [sample for sample in own if not labels_of(sample).is_file()]
    settings, classes = context.config.segment.relabel, context.catalog.classes
    with context.track("relabel", len(own), done=len(own) - len(missing)) as advance:
        labeler = _labeler(context, model, settings)
        for sample, labels in label_samples(labeler, missing, within_tags=True):
            write_mask(labels_of(sample), labels, classes)
            advance()
    wait_for_all()
    return replace(
        labelled,
        masks=[labels_of(sample) for sample in labelled.samples],
        held_out=[(sample, labels_of(sample)) for sample, _ in labelled.held_out],
    )


def steps_logged(folder: Path) -> int:
    """How many steps a training's log holds."""
    try:
        with (folder / LOG).open("rb") as file:
            return sum(1 for _ in file)
    except OSError as error:
        raise RunError(f"cannot read {folder / LOG}: {error.strerror or error}") from None
