"""Gray PNGs whose values are the indices, alone or arranged for nnU-Net or mmsegmentation."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from weakseg import __version__
from weakseg.apps.formats.image_files import COMMON, place_image, png_file
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.masks import voc_palette
from weakseg.sources.class_names import CLASSES_FILE
from weakseg.types import IGNORE, DataError, RunError


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes masks as gray PNGs without palette, which every reader takes for indices.

    Layouts:
        flat: `<id>.png` and `classes.txt`, the names of indices 1, 2, ….
        nnunet: nnU-Net's raw data (version 2): `imagesTr/<case>_0000.png` (RGB),
            `labelsTr/<case>.png`, `dataset.json`. The case is the id with `__` for `/`. Ignored
            pixels get the index after the last class, which nnU-Net knows as `ignore`.
        mmseg: `img_dir/train`, `ann_dir/train`, `classes.txt` (background first, so that line k + 1
            names index k) and `dataset.py`, a configuration to begin with. Images have one suffix:
            where theirs differ, or OpenCV may not read them, all become PNG.

    Args:
        images: What to write; taken one at a time.
        job: The classes and the layout; None: `flat`.
        folder: Where to write; is there.

    Raises:
        RunError: The layout is unknown.
        DataError: Names of images or classes cannot be told apart there.
    """
    layout = job.layout or "flat"
    if layout not in LAYOUTS:
        raise RunError(f"unknown layout {layout!r}; known layouts: {', '.join(LAYOUTS)}")
    LAYOUTS[layout](images, job, folder)


def gray_file(labels: npt.NDArray[np.uint8]) -> bytes:
    """Indices [H,W] as PNG of one gray channel."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(labels)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _flat(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    _write_names(folder, job.classes)
    for image in images:
        _write(folder / f"{image.sample.id}.png", gray_file(image.labels))


def _nnunet(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    reserved = [name for name in job.classes if name in ("background", "ignore")]
    if reserved:
        raise DataError(f"the class {reserved[0]!r} means something else to nnU-Net; rename it")
    labels = {name: index for index, name in enumerate(["background", *job.classes])}
    cases: dict[str, str] = {}
    ignored = False
    for image in images:
        case = image.sample.id.replace("/", "__")
        if case in cases:
            raise DataError(
                f"the images {cases[case]} and {image.sample.id} would both be {case}; rename one"
            )
        cases[case] = image.sample.id
        values = image.labels
        if image.ignored:
            ignored = True
            values = np.where(values == IGNORE, np.uint8(len(labels)), values)
        _write(folder / "imagesTr" / f"{case}_0000.png", png_file(image))
        _write(folder / "labelsTr" / f"{case}.png", gray_file(values))
    record = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {**labels, **({"ignore": len(labels)} if ignored else {})},
        "numTraining": len(cases),
        "file_ending": ".png",
        "description": f"weakseg {__version__}",
    }
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    (folder / "dataset.json").write_text(text, encoding="utf-8")


def _mmseg(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    names = ("background", *job.classes)
    _write_names(folder, names)
    # The suffix is compared letter by letter: `.JPG` beside `.jpg` would be overlooked.
    (suffix,) = job.suffixes if len(job.suffixes) == 1 else (".png",)
    suffix = suffix if suffix.lower() in COMMON else ".png"
    for image in images:
        target = folder / "img_dir" / "train" / f"{image.sample.id}{suffix}"
        if job.suffixes == {suffix}:
            place_image(image, target)
        else:
            _write(target, png_file(image))
        _write(folder / "ann_dir" / "train" / f"{image.sample.id}.png", gray_file(image.labels))
    palette = voc_palette()[: len(names)].tolist()
    lines = (
        f"metainfo = dict(classes={names!r}, palette={palette!r})",
        "train_dataloader = dict(",
        "    dataset=dict(",
        '        type="BaseSegDataset",',
        '        data_root="{{ fileDirname }}",',
        "        metainfo=metainfo,",
        f"        img_suffix={suffix!r},",
        '        seg_map_suffix=".png",',
        '        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),',
        "    )",
        ")",
    )
    (folder / "dataset.py").write_text("\n".join(lines) + "\n", encoding="utf-8")


LAYOUTS: Mapping[str, Callable[[Iterable[Labelled], Job, Path], None]] = {
    "flat": _flat,
    "nnunet": _nnunet,
    "mmseg": _mmseg,
}
"""How the files can be arranged."""


def _write_names(folder: Path, names: Iterable[str]) -> None:
    text = "".join(f"{name}\n" for name in names)
    (folder / CLASSES_FILE).write_text(text, encoding="utf-8")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
