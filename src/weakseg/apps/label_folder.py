"""The folder of masks that `weakseg label` makes: what is there already, and writing."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from weakseg.data.masks import write_mask
from weakseg.files import dump_json, is_part, plain, read_json, sweep, write_atomic
from weakseg.runs.image_files import (
    has_shard_folders,
    make_shard_folders,
    needs_shard_folders,
    relative_file,
)
from weakseg.runs.stage_dir import changed_keys
from weakseg.sources.addresses import is_url
from weakseg.sources.named_images import NamedImage
from weakseg.types import DataError, RunError

FORMAT = "weakseg-labels-1"
"""Mark in `label.json` by which a folder is known to hold masks of `weakseg label`."""

_WRITTEN_BEHIND = 8  # masks that may wait to be written


class LabelFolder:
    """Where masks go: what made them is in `label.json`, what they are of in `images.jsonl`.

    Args:
        path: The folder.
        maps: Whether class probabilities are kept, too.
    """

    def __init__(self, path: Path, maps: bool) -> None:
        self.path, self.mark, self.maps = path, path / "label.json", maps
        self.records: dict[str, dict[str, Any]] = {}
        self.classes: Sequence[str] = ()
        self.shards = has_shard_folders(path)

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

    def open(self, fingerprint: Mapping[str, object], names: Iterable[str] = ()) -> None:
        """Takes the folder, or goes on with it.

        Args:
            fingerprint: What makes the masks.
            names: Of the images whose masks are files; very many get shard folders, if the folder
                is a new one.

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
        elif needs_shard_folders(names):
            make_shard_folders(self.path)
            self.shards = True
        write_atomic(self.mark, dump_json(wanted))

    def file(self, image: NamedImage, suffix: str) -> str:
        """The path of a file of an image below this folder."""
        return relative_file(image.name, suffix, shards=self.shards)

    def record_of(self, image: NamedImage, tags: Sequence[str] | None) -> dict[str, Any]:
        """By what the mask of an image is known to be still right; of one at a URL, that alone."""
        stat = None if image.is_elsewhere else Path(image.address).stat()
        return {
            "mask": self.file(image, ".png"),
            "image": image.address,
            "bytes": stat and stat.st_size,
            "mtime_ns": stat and stat.st_mtime_ns,
            "tags": None if tags is None else list(tags),
        }

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
        mask = self.file(image, ".png")
        record = self.records.get(mask)
        if record is None or not (self.path / mask).is_file():
            return False
        if self.maps and not (self.path / self.file(image, ".npz")).is_file():
            return False
        if record["image"] != image.address and _is_there(record["image"]):
            raise DataError(
                f"{self.path / mask} is the mask of {record['image']}, and that of {image.address} "
                "would overwrite it; choose another --out"
            )
        try:
            return record == self.record_of(image, tags)
        except OSError:  # it is reported when it is read
            return False

    @contextmanager
    def writing(self, classes: Sequence[str]) -> Iterator[Write]:
        """A function that writes a mask while others are computed."""
        self.classes = classes
        waiting: deque[Future[None]] = deque()
        with self.recording() as record, ThreadPoolExecutor(1, "weakseg-write") as pool:

            def write(
                image: NamedImage, tags: Sequence[str] | None, mask: Tensor, maps: Tensor | None
            ) -> None:
                waiting.append(pool.submit(self._write, record, image, tags, mask, maps))
                if len(waiting) > _WRITTEN_BEHIND:
                    waiting.popleft().result()

            yield write
            while waiting:
                waiting.popleft().result()

    @contextmanager
    def recording(self) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """A function that writes down that the mask of `record_of` is there."""
        lines = "".join(_line(record) for record in self.records.values())
        write_atomic(self.path / "images.jsonl", lines.encode())
        with (self.path / "images.jsonl").open("a", encoding="utf-8") as log:

            def record(made: Mapping[str, Any]) -> None:
                log.write(_line(made))
                log.flush()

            yield record

    def _write(
        self,
        record: Callable[[Mapping[str, Any]], None],
        image: NamedImage,
        tags: Sequence[str] | None,
        mask: Tensor,
        maps: Tensor | None,
    ) -> None:
        self.write_mask(image, mask, maps)
        record(self.record_of(image, tags))

    def write_mask(self, image: NamedImage, mask: Tensor, maps: Tensor | None) -> None:
        """Writes an image's mask and, if there are any, its maps; records nothing."""
        kept = self.path / self.file(image, ".npz")
        if maps is None:
            kept.unlink(missing_ok=True)  # those of an earlier mask
        else:
            write_atomic(kept, _maps_file(maps, mask, self.classes))
        write_mask(self.path / self.file(image, ".png"), mask, self.classes)


class Write(Protocol):
    """What `LabelFolder.writing` hands out."""

    def __call__(
        self,
        image: NamedImage,
        tags: Sequence[str] | None,
        mask: Tensor,
        maps: Tensor | None,
    ) -> None:
        """Writes a mask and its maps, and records them."""


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


def _is_there(address: str) -> bool:
    return is_url(address) or Path(address).exists()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
