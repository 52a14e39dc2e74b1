"""A finished run in other tools' formats."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from weakseg import progress
from weakseg.apps.formats import coco, cvat, label_studio, voc
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.images import image_size, read_mask
from weakseg.data.masks import mask_classes
from weakseg.metrics.scores import top_label
from weakseg.runs.confidence import mask_confidences
from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, DataError, RunError, Sample

_NAMED = 5


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        run: The run.
        out: The file or folder to write; must not be there yet, but for an empty folder.
        masks: Another folder of masks of the run's images, or None: the run's own.
        image_root: What Label Studio finds before each image's path; None: its default.
        console: Where to show how far it is.
    """

    run: RunDir
    out: Path
    masks: Path | None
    image_root: str | None
    console: Console


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        path: The file or folder.
        images: How many images are in it; None for a model.
        masks: How many masks: one per image and class that has pixels; None for a model.
    """

    path: Path
    images: int | None = None
    masks: int | None = None


Exporter = Callable[[ExportRequest], ExportSummary]
Writer = Callable[[Iterable[Labelled], Job, Path], None]


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
    if request.image_root is not None and to != "label-studio":
        raise RunError(f"--image-root is for label-studio only, not for {to}; leave it out")
    if request.masks is not None and to == "onnx":
        raise RunError("--masks is for formats that hold masks, not for onnx; leave it out")
    return FORMATS[to](request)


def _onnx(request: ExportRequest) -> ExportSummary:
    module = importlib.import_module("weakseg.apps.onnx")  # onnx is an extra
    module.export_onnx(request.run.path, request.out, request.console)
    return ExportSummary(request.out)


def _file(write: Writer, suffix: str) -> Exporter:
    """An exporter of masks to a file whose name ends in `suffix`."""

    def export(request: ExportRequest) -> ExportSummary:
        if request.out.suffix.lower() != suffix:
            raise RunError(f"{request.out} is to be a {suffix} file; end --out by {suffix}")
        return _export_masks(request, write, folder=False)

    return export


def _folder(write: Writer) -> Exporter:
    """An exporter of masks to a folder."""
    return lambda request: _export_masks(request, write, folder=True)


FORMATS: Mapping[str, Exporter] = {
    "onnx": _onnx,
    "coco": _file(coco.write, ".json"),
    "label-studio": _folder(label_studio.write),
    "cvat": _folder(cvat.write),
    "voc": _folder(voc.write),
}
"""All formats by name."""


def _export_masks(request: ExportRequest, write: Writer, *, folder: bool) -> ExportSummary:
    catalog = request.run.load_catalog()
    _refuse_missing(request, catalog)
    count = 0

    def counted() -> Iterator[Labelled]:
        nonlocal count
        with progress.track(request.console, "export", len(catalog)) as advance:
            for image in _labelled(request, catalog):
                count += len(image.indices)
                yield image
                advance()

    job = Job(catalog.classes, len(catalog), request.masks is None, request.image_root)
    with _whole(request.out, folder=folder) as part:
        write(counted(), job, part)
    return ExportSummary(request.out, len(catalog), count)


def _mask_folder(request: ExportRequest) -> Path:
    return request.masks or request.run.stage("masks").path


def _refuse_missing(request: ExportRequest, catalog: Catalog) -> None:
    folder = _mask_folder(request)
    missing = [sample.id for sample in catalog if not (folder / f"{sample.id}.png").is_file()]
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        raise DataError(
            f"{folder} lacks masks of {len(missing)} of {len(catalog)} images "
            f"({', '.join(missing[:_NAMED])}{more}); give --masks a folder that has all of them"
        )


def _labelled(request: ExportRequest, catalog: Catalog) -> Iterator[Labelled]:
    """The run's images with their masks, one at a time."""
    folder, own = _mask_folder(request), request.masks is None
    context = StageContext.reading(request.run) if own else None
    for sample in catalog:
        path = folder / f"{sample.id}.png"
        labels = read_mask(path)
        _check(sample, path, labels, catalog.classes)
        known = mask_confidences(context, sample.id, labels) if context else {}
        yield Labelled(sample, labels.numpy(), known)


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


@contextmanager
def _whole(out: Path, *, folder: bool) -> Iterator[Path]:
    """A path to write to that becomes `out` when the block ends well, and else is removed."""
    if out.exists() and not (folder and out.is_dir() and not any(out.iterdir())):
        raise RunError(f"{out} is there already; remove it, or choose another --out")
    part = out.parent / f".{out.name}-{os.getpid()}.tmp"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            part.mkdir()
        yield part
        if out.is_dir():
            out.rmdir()
        part.replace(out)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        if isinstance(error, OSError):
            raise RunError(f"cannot write {out}: {error.strerror or error}") from error
        raise
