"""Masks for new images as files: resumable, with a list of what could not be read."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Unpack

import numpy as np
from rich.console import Console
from torch import Tensor

from weakseg.data.masks import write_mask
from weakseg.faults import Fault, listed
from weakseg.files import dump_json, is_part, plain, read_json, sweep, write_atomic
from weakseg.predict import Labeler, LabelOptions, model_folder
from weakseg.progress import track
from weakseg.runs.stage_dir import changed_keys
from weakseg.sources.name_index import NameIndex
from weakseg.sources.named_images import NamedImage, find_images
from weakseg.sources.tag_tables import read_tags
from weakseg.training.memory import kept_memory
from weakseg.types import DataError, RunError

FORMAT = "weakseg-labels-1"
"""Mark in `label.json` by which a folder is known to hold masks of `weakseg label`."""

_VERSION = 3  # raise it when the same model and image would give another mask
_WRITTEN_BEHIND = 8  # masks that may wait to be written


@dataclass(frozen=True)
class LabelSummary:
    """What became of the images.

    Attributes:
        out: Where the masks are.
        made: How many masks were made now.
        kept: How many were there already.
        bad: The images that could not be read.
        seconds: How long it took.
    """

    out: Path
    made: int
    kept: int
    bad: tuple[Fault, ...]
    seconds: float


def label_images(
    model: Path | str,
    images: Sequence[Path | str],
    out: Path | str,
    *,
    tags: Path | str | None = None,
    maps: bool = False,
    device: str = "auto",
    console: Console | None = None,
    **options: Unpack[LabelOptions],
) -> LabelSummary:
    """Writes a mask for every image; see `weakseg.api.label`."""
    begun = time.monotonic()
    folder = _Folder(Path(out), maps)
    folder.check()
    found = find_images(images, outside=folder.path)
    source = model_folder(model)
    labeler = Labeler.from_run(source, device, **options)
    allowed = _tags_of(found, Path(tags), labeler) if tags is not None else [None] * len(found)
    folder.open({"model": _digest(source), "version": _VERSION, **labeler.settings})
    pairs = [pair for pair in zip(found, allowed, strict=True) if not folder.has(*pair)]
    names = "".join(f"{name}\n" for name in labeler.class_names)
    write_atomic(folder.path / "classes.txt", names.encode())
    bad: list[tuple[int, Fault]] = []
    quiet = console or Console(quiet=True)
    with (
        kept_memory(),
        track(quiet, "label", len(found), done=len(found) - len(pairs)) as advance,
        folder.writing(labeler.class_names) as write,
    ):
        masks = labeler.stream(
            [image.path for image, _ in pairs], [names for _, names in pairs], maps=maps
        )
        for number, mask, error, probabilities in masks:
            if mask is not None:
                write(*pairs[number], mask, probabilities)
            elif error is not None:
                bad.append((number, error.fault(pairs[number][0].name)))
            advance()
    return LabelSummary(
        folder.path,
        made=len(pairs) - len(bad),
        kept=len(found) - len(pairs),
        bad=tuple(fault for _, fault in sorted(bad, key=lambda item: item[0])),
        seconds=time.monotonic() - begun,
    )


def _digest(folder: Path) -> str:
    """A hash of a model's files."""
    sha = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        with (folder / name).open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()[:16]


def _tags_of(
    found: Sequence[NamedImage], path: Path, labeler: Labeler
) -> list[tuple[str, ...] | None]:
    """The tags that a tags file has for each image."""
    file = read_tags(path)
    faults = [*file.fatal, *(fault for fault in file.faults if fault.severity == "fault")]
    if faults:
        raise DataError(str(faults[0]))
    index = NameIndex((f"{image.name}{image.path.suffix}", image.name) for image in found)
    known: dict[str, tuple[str, ...]] = {}
    for row in file.rows:
        labeler.allowed(row.tags)
        names = index.find(row.image).items
        if len(set(names)) > 1:
            raise DataError(
                f"{path}:{row.line}: {row.image!r} may be any of {listed(list(names))}; name the "
                "image by its path below the folder and with its suffix"
            )
        for name in names:
            if known.setdefault(name, row.tags) != row.tags:
                raise DataError(
                    f"{path}:{row.line}: {name!r} is named twice, with other tags; put all its "
                    "tags into one row"
                )
    missing = [image for image in found if image.name not in known]
    if missing:
        raise DataError(
            f"{path} has no row for {missing[0].path}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; add rows that name "
            "images by their path below the folder, or leave out --tags"
        )
    return [known[image.name] for image in found]


class _Folder:
    """Where masks go: what made them is in `label.json`, what they are of in `images.jsonl`."""

    def __init__(self, path: Path, maps: bool) -> None:
        self.path, self.mark, self.maps = path, path / "label.json", maps
        self.records: dict[str, dict[str, Any]] = {}
        self.classes: Sequence[str] = ()

    def check(self) -> None:
        """Raises what `open` would of a folder that holds other things, and makes nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is no folder; choose another --out")
        if self.mark.is_file() or not self.path.is_dir():
            return
        if any(not is_part(entry) for entry in self.path.iterdir()):
            raise RunError(
                f"{self.path} is not empty and holds no masks of `weakseg label`; "
                "choose another --out"
            )

    def open(self, fingerprint: Mapping[str, object]) -> None:
        """Takes the folder, or goes on with it.

        Raises:
            RunError: It holds other things, or masks of another model or other settings.
        """
        self.check()
        sweep(self.path, tensors=False)
        wanted = plain({"format": FORMAT, **fingerprint})
        if self.mark.is_file():
            changed = changed_keys(read_json(self.mark), wanted)
            if changed:
                raise RunError(
                    f"{self.path} holds masks that were made otherwise ({'; '.join(changed)}); "
                    "choose another --out, or remove it"
                )
            self.records = dict(self._read_records())
        write_atomic(self.mark, dump_json(wanted))

    def _read_records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            lines = (self.path / "images.jsonl").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                record = json.loads(line)
                mask, image = record["mask"], record["image"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # half a line of a process that was killed
            if isinstance(mask, str) and isinstance(image, str) and "\0" not in image:
                yield mask, record

    def has(self, image: NamedImage, tags: Sequence[str] | None) -> bool:
        """Whether the mask of this very image is there, and its maps if they are wanted.

        Raises:
            DataError: It is there, but of another image that still exists.
        """
        mask = f"{image.name}.png"
        record = self.records.get(mask)
        if record is None or not (self.path / mask).is_file():
            return False
        if self.maps and not (self.path / f"{image.name}.npz").is_file():
            return False
        if record["image"] != str(image.path.absolute()) and Path(record["image"]).exists():
            raise DataError(
                f"{self.path / mask} is the mask of {record['image']}, and that of {image.path} "
                "would overwrite it; choose another --out"
            )
        try:
            return record == _record(image, tags)
        except OSError:  # it is reported when it is read
            return False

    @contextmanager
    def writing(self, classes: Sequence[str]) -> Iterator[_Write]:
        """A function that writes a mask while others are computed."""
        self.classes = classes
        lines = "".join(_line(record) for record in self.records.values())
        write_atomic(self.path / "images.jsonl", lines.encode())
        waiting: deque[Future[None]] = deque()
        with (
            (self.path / "images.jsonl").open("a", encoding="utf-8") as log,
            ThreadPoolExecutor(1, "weakseg-write") as pool,
        ):

            def write(
                image: NamedImage, tags: Sequence[str] | None, mask: Tensor, maps: Tensor | None
            ) -> None:
                waiting.append(pool.submit(self._write, log, image, tags, mask, maps))
                if len(waiting) > _WRITTEN_BEHIND:
                    waiting.popleft().result()

            yield write
            while waiting:
                waiting.popleft().result()

    def _write(
        self,
        log: IO[str],
        image: NamedImage,
        tags: Sequence[str] | None,
        mask: Tensor,
        maps: Tensor | None,
    ) -> None:
        kept = self.path / f"{image.name}.npz"
        if maps is None:
            kept.unlink(missing_ok=True)  # those of an earlier mask
        else:
            write_atomic(kept, _maps_file(maps, mask, self.classes))
        write_mask(self.path / f"{image.name}.png", mask, self.classes)
        log.write(_line(_record(image, tags)))
        log.flush()


class _Write(Protocol):
    """What `_Folder.writing` hands out."""

    def __call__(
        self,
        image: NamedImage,
        tags: Sequence[str] | None,
        mask: Tensor,
        maps: Tensor | None,
    ) -> None: ...


def _maps_file(maps: Tensor, mask: Tensor, classes: Sequence[str]) -> bytes:
    """An npz of class probabilities, and of what they are."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        probabilities=maps.numpy(),
        size=np.array(mask.shape, np.int64),
        classes=np.array(classes, np.str_),
    )
    return buffer.getvalue()


def _record(image: NamedImage, tags: Sequence[str] | None) -> dict[str, Any]:
    """By what the mask of an image is known to be still right."""
    stat = image.path.stat()
    return {
        "mask": f"{image.name}.png",
        "image": str(image.path.absolute()),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "tags": None if tags is None else list(tags),
    }


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
