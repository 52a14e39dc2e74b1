"""Class activation maps that another program wrote: a file, or a folder of pictures, per image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from weakseg.data.array_files import ArraysError, read_arrays
from weakseg.data.decode import opened
from weakseg.types import DataError, Sample

_FORMS = (
    "<image>.npz with an array [h,w] per class name, or `maps` [n,h,w] and `classes` [n]; "
    "<image>.npy [K,h,w]; or a folder <image>/ with a gray <class>.png per class"
)


def map_paths(folder: Path, sample: Sample) -> list[Path]:
    """The files that hold an image's maps.

    Args:
        folder: Where the other program wrote them.
        sample: The image.

    Raises:
        DataError: There are none.
    """
    for suffix in (".npz", ".npy"):
        path = folder / f"{sample.id}{suffix}"
        if path.is_file():
            return [path]
    pictures = sorted((folder / sample.id).glob("*.png"))
    if pictures or not sample.tags:  # an image without tags needs no maps
        return pictures
    raise DataError(
        f"{folder}: there are no maps of image {sample.id!r}; expected {_FORMS}, named as the "
        "image is without its ending"
    )


def read_maps(folder: Path, sample: Sample, classes: Sequence[str]) -> Tensor:
    """An image's maps of its tags.

    Args:
        folder: Where the other program wrote them.
        sample: The image and its tags.
        classes: The names of all classes.

    Returns:
        float32 [n,h,w], not negative, of the sorted tags; of one size.

    Raises:
        DataError: They are missing or damaged, a tag has none, or a value is negative or no number.
    """
    paths = map_paths(folder, sample)
    tags = sorted(sample.tags)
    if not tags:
        return torch.zeros(0, 1, 1)
    where = paths[0] if len(paths) == 1 and paths[0].suffix != ".png" else folder / sample.id
    found = _pictures(paths) if where.is_dir() else _arrays(where, classes)
    missing = [classes[tag] for tag in tags if classes[tag] not in found]
    if missing:
        raise DataError(
            f"{where}: there is no map of {missing[0]!r}, a tag of the image; it has maps of "
            f"{', '.join(sorted(found)) or 'nothing'}"
        )
    own = [found[classes[tag]] for tag in tags]
    shapes = {value.shape for value in own}
    if len(shapes) > 1 or own[0].ndim != 2 or not own[0].size:
        raise DataError(f"{where}: expected maps [h,w] of one size, got {sorted(shapes)}")
    if any(value.dtype.kind not in "biuf" for value in own):
        raise DataError(f"{where}: expected maps of numbers, got text")
    maps = torch.from_numpy(np.stack(own).astype(np.float32))
    if not bool((maps.isfinite() & (maps >= 0)).all()):
        raise DataError(f"{where}: expected maps of numbers that are not negative; rectify them")
    return maps


def maps_digest(folder: Path, samples: Sequence[Sample]) -> str:
    """A hash of the content of all maps that `read_maps` would read.

    Raises:
        DataError: There is no such folder, or an image has no maps.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give one that holds {_FORMS}")
    sha = hashlib.sha256()
    for sample in samples:
        for path in map_paths(folder, sample):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            sha.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return sha.hexdigest()[:16]


def _pictures(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    found = {}
    for path in paths:
        with opened(path) as image:
            if image.mode not in ("L", "I", "I;16", "F", "1"):
                raise DataError(
                    f"{path}: expected a gray picture, got {image.mode}; write maps as gray PNG"
                )
            gray = image.convert("L") if image.mode == "1" else image
            found[path.stem] = np.asarray(gray)
    return found


def _arrays(path: Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path)
    except ArraysError as error:
        remedy = "write them without pickled objects: np.savez(file, cat=map)"
        raise DataError(f"{path}: the maps cannot be read ({error}); {remedy}") from error
    if "" in arrays:
        whole = arrays[""]
        if whole.ndim != 3 or len(whole) != len(classes):
            raise DataError(
                f"{path}: expected an array [{len(classes)},h,w], a map per class, got "
                f"{list(whole.shape)}"
            )
        return dict(zip(classes, whole, strict=True))
    if "maps" in arrays and "classes" in arrays:
        return _listed(path, arrays["maps"], arrays["classes"].tolist(), classes)
    return arrays


def _listed(
    path: Path, maps: np.ndarray, listed: object, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    names = listed if isinstance(listed, list) else [listed]
    if maps.ndim != 3 or len(maps) != len(names):
        raise DataError(
            f"{path}: expected maps [n,h,w] of {len(names)} classes, got {list(maps.shape)}"
        )
    found = {}
    for name, value in zip(names, maps, strict=True):
        if isinstance(name, int) and not 0 <= name < len(classes):
            raise DataError(f"{path}: class {name} is none of 0..{len(classes) - 1}")
        found[classes[name] if isinstance(name, int) else str(name)] = value
    return found
