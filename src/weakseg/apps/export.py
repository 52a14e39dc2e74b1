"""A finished run in other tools' formats."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from weakseg import progress
from weakseg.apps.formats import (
    coco,
    cvat,
    geojson,
    hf_datasets,
    label_studio,
    labelme,
    png,
    voc,
    yolo_seg,
)
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.decode import is_turned
from weakseg.data.images import image_size, read_mask
from weakseg.data.masks import mask_classes
from weakseg.files import replacing, sweep_here
from weakseg.metrics.scores import top_label
from weakseg.runs.confidence import mask_confidences
from weakseg.runs.context import StageContext
from weakseg.runs.corrections import NO_CORRECTIONS, Corrections, read_corrections
from weakseg.runs.image_files import image_file
from weakseg.runs.run_dir import RunDir
from weakseg.types import BACKGROUND, IGNORE, Catalog, DataError, RunError, Sample

_NAMED = 5


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        run: The run.
        out: The file or folder to write; must not be there yet, but for an empty folder.
        masks: Another folder of masks of the run's images, or None: the run's own.
        image_root: What Label Studio finds before each image's path; None: its default.
        layout: How the files of `png` are arranged; None: `flat`.
        console: Where to show how far it is.
    """

    run: RunDir
    out: Path
    masks: Path | None
    image_root: str | None
    layout: str | None
    console: Console


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        path: The file or folder.
        images: How many images are in it; None for a model.
        masks: How many masks: one per image and class that has pixels; None for a model.
        notes: What whoever reads it has to know.
    """

    path: Path
    images: int | None = None
    masks: int | None = None
    notes: tuple[str, ...] = ()


Writer = Callable[[Iterable[Labelled], Job, Path], None]


@dataclass(frozen=True)
class Format:
    """A format of masks.

    Attributes:
        write: What writes it.
        suffix: Of the file that it is; None: it is a folder.
        turned: What becomes of images that EXIF turns.
        ignored: What becomes of ignored pixels, if the format cannot tell them from background.
        options: The options that are this format's own, by the command's names.
    """

    write: Writer
    turned: str
    suffix: str | None = None
    ignored: str | None = None
    options: frozenset[str] = frozenset()


_REWRITTEN = "they were written upright, JPEGs anew at quality 95"
_SHOWN = "their masks are of the upright images, as {} shows them"
_UPRIGHT = (
    "sizes and masks are of the upright images, so readers must apply it (OpenCV does; for Pillow, "
    "call ImageOps.exif_transpose)"
)
_UNMARKED = "they count as background here"

FORMATS: Mapping[str, Format | None] = {
    "onnx": None,  # the model: no masks
    "coco": Format(
        coco.write,
        _UPRIGHT,
        suffix=".json",
        ignored=_UNMARKED,
    ),
    "label-studio": Format(
        label_studio.write,
        _SHOWN.format("Label Studio"),
        ignored=_UNMARKED,
        options=frozenset({"--image-root"}),
    ),
    "cvat": Format(cvat.write, _SHOWN.format("CVAT"), ignored=_UNMARKED),
    "voc": Format(voc.write, _REWRITTEN),
    "png": Format(
        png.write,
        "masks, and images where the layout has them, are upright",
        options=frozenset({"--layout"}),
    ),
    "yolo-seg": Format(yolo_seg.write, _REWRITTEN, ignored=_UNMARKED),
    "labelme": Format(labelme.write, _REWRITTEN),
    "geojson": Format(geojson.write, _UPRIGHT, ignored=_UNMARKED),
    "hf-datasets": Format(hf_datasets.write, _REWRITTEN),
}
"""All formats by name: one file under `formats` and one row each."""


def export_run(request: ExportRequest, to: str) -> ExportSummary:
    """Exports a run.

    Args:
        request: What and where to.
        to: One of `FORMATS`.

    Returns:
        What was written. If anything goes wrong, nothing is.

    Raises:
        RunError: The format is unknown, the run is not finished, or `out` is there already or
            cannot be written.
        DataError: A mask is missing or does not fit its image or the classes.
    """
    if to not in FORMATS:
        raise RunError(f"unknown format {to!r}; known formats: {', '.join(FORMATS)}")
    row = FORMATS[to]
    _refuse_options(request, to, frozenset() if row is None else row.options)
    sweep_here(request.out.absolute().parent)
    if row is not None:
        return _export_masks(request, row)
    if request.masks is not None:
        raise RunError(f"--masks is for formats that hold masks, not for {to}; leave it out")
    module = importlib.import_module("weakseg.apps.onnx")  # onnx is an extra
    module.export_onnx(request.run.path, request.out, request.console)
    return ExportSummary(request.out)


def _refuse_options(request: ExportRequest, to: str, known: frozenset[str]) -> None:
    given = {"--image-root": request.image_root, "--layout": request.layout}
    for option, value in given.items():
        if value is not None and option not in known:
            owners = [name for name, row in FORMATS.items() if row and option in row.options]
            raise RunError(
                f"{option} is for {' and '.join(owners)} only, not for {to}; leave it out"
            )


def _export_masks(request: ExportRequest, row: Format) -> ExportSummary:
    out, suffix = request.out, row.suffix
    if suffix is not None and out.suffix.lower() != suffix:
        raise RunError(f"{out} is to be a {suffix} file; end --out by {suffix}")
    catalog = request.run.load_catalog(source_tags=True)
    corrections = read_corrections(request.run.path, catalog) or NO_CORRECTIONS
    catalog = corrections.applied(catalog)
    _refuse_missing(request, catalog)
    count = Counter[str]()

    def counted() -> Iterator[Labelled]:
        with progress.track(request.console, "export", len(catalog)) as advance:
            for image in _labelled(request, catalog, corrections):
                count["masks"] += len(image.indices)
                count["turned"] += image.turned
                count["ignored"] += row.ignored is not None and image.ignored
                yield image
                advance()

    job = Job(
        catalog.classes,
        len(catalog),
        request.masks is None,
        frozenset(sample.image.suffix for sample in catalog),
        request.image_root,
        request.layout,
    )
    folder = suffix is None
    if out.exists() and not (folder and out.is_dir() and not any(out.iterdir())):
        raise RunError(f"{out} is there already; remove it, or choose another --out")
    with replacing(out, folder=folder) as part:
        row.write(counted(), job, part)
    notes = _corrections_told(corrections, own=request.masks is None)
    if turned := count["turned"]:
        notes.append(f"{turned} of {len(catalog)} images have an EXIF orientation: {row.turned}")
    if ignored := count["ignored"]:
        notes.append(f"{ignored} masks have ignored pixels (255): {row.ignored}")
    return ExportSummary(out, len(catalog), count["masks"], tuple(notes))


def _mask_folder(request: ExportRequest) -> Path:
    return request.masks or request.run.stage("masks").path


def _mask_file(request: ExportRequest, sample: Sample) -> Path:
    if request.masks is not None:
        return request.masks / f"{sample.id}.png"
    return image_file(request.run.path, "masks", sample.id, ".png")


def _refuse_missing(request: ExportRequest, catalog: Catalog) -> None:
    folder = _mask_folder(request)
    missing = [sample.id for sample in catalog if not _mask_file(request, sample).is_file()]
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        raise DataError(
            f"{folder} lacks masks of {len(missing)} of {len(catalog)} images "
            f"({', '.join(missing[:_NAMED])}{more}); give --masks a folder that has all of them"
        )


def _labelled(
    request: ExportRequest, catalog: Catalog, corrections: Corrections
) -> Iterator[Labelled]:
    """The run's images with their masks, one at a time; what people corrected is certain."""
    own = request.masks is None
    context = StageContext.reading(request.run) if own else None
    for sample in catalog:
        path = _mask_file(request, sample)
        labels = corrections.mask_now(sample, path) if own else read_mask(path)
        _check(sample, path, labels, catalog.classes)
        if own and sample.id in corrections.masks:
            known = {k: 1.0 for k in torch.unique(labels).tolist() if BACKGROUND < k < IGNORE}
        else:
            known = mask_confidences(context, sample.id, labels) if context else {}
        yield Labelled(sample, labels.numpy(), known, is_turned(sample.image))


def _corrections_told(corrections: Corrections, *, own: bool) -> list[str]:
    """What people said in the reviews, and what became of it; masks only if they are the run's."""
    notes = []
    counts = (
        (len(corrections.masks) * own, "true masks"),
        (len(corrections.tags), "images' tags"),
    )
    if said := " and ".join(f"{count} {what}" for count, what in counts if count):
        notes.append(f"{said} are as people accepted or corrected them")
    if own and (rejected := len(corrections.rejected)):
        notes.append(
            f"{rejected} masks that people rejected are in it as the run made them; correct them "
            "by `weakseg review`"
        )
    return notes


def _check(sample: Sample, path: Path, labels: torch.Tensor, classes: tuple[str, ...]) -> None:
    """Refuses a mask that does not fit its image or the run's classes."""
    (height, width), expected = labels.shape, image_size(sample.image)
    if (height, width) != expected:
        raise DataError(
            f"{path} is {width}×{height} pixels, but its image {sample.image} is "
            f"{expected[1]}×{expected[0]}; make the mask anew for its image"
        )
    names = mask_classes(path)
    if names is not None and names != classes:
        raise DataError(
            f"{path} has the classes {', '.join(names)}, but the run has {', '.join(classes)}; "
            "name a folder of masks with the run's classes"
        )
    if (top := top_label(labels)) > len(classes):
        raise DataError(
            f"{path} has index {top}, but the run has {len(classes)} classes; "
            "name a folder of masks with the run's classes"
        )
