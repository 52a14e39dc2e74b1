"""The folder of masks that `weakseg label` makes: what is there already, and writing."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from torch import Tensor

from weakseg.data.masks import write_mask
from weakseg.files import (
    appending,
    dump_json,
    is_part,
    plain,
    read_json,
    replacing,
    sweep,
    write_atomic,
)
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
        self.records: dict[str, int] = {}
        """Where in `images.jsonl` the last record of each mask begins."""
        self.log = path / "images.jsonl"
        self._reading: BinaryIO | None = None
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
            self._compact()
        elif needs_shard_folders(names):
            make_shard_folders(self.path)
            self.shards = True
        write_atomic(self.mark, dump_json(wanted))

    def read(self) -> None:
        """Learns what is there, after `open` in this process or in the first of several."""
        self.records = {mask: place for mask, place, _ in self._lines()}
        self.shards = has_shard_folders(self.path)

    def _compact(self) -> None:
        """Leaves of each mask one record, and no half lines of a process that was killed."""
        last = {mask: place for mask, place, _ in self._lines()}
        with replacing(self.log) as part, part.open("wb") as file:
            for mask, place, line in self._lines():
                if last[mask] == place:
                    file.write(line)

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

    def _lines(self) -> Iterator[tuple[str, int, bytes]]:
        """The records that can be read: of which mask, where, and the line."""
        if not self.log.is_file():
            return
        with self.log.open("rb") as file:
            place = 0
            for line in file:
                if (record := _record(line)) is not None:
                    yield record["mask"], place, line
                place += len(line)

    def has(self, image: NamedImage, tags: Sequence[str] | None) -> bool:
        """Whether the mask of this very image is there, and its maps if they are wanted.

        Raises:
            DataError: It is there, but of another image that still exists.
        """
        mask = self.file(image, ".png")
        record = self._record_at(self.records.get(mask))
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

    def _record_at(self, place: int | None) -> dict[str, Any] | None:
        if place is None:
            return None
        if self._reading is None:
            self._reading = self.log.open("rb")
        self._reading.seek(place)
        return _record(self._reading.readline())

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
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        with appending(self.log) as log:

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


def _record(line: bytes) -> dict[str, Any] | None:
    """A record of a mask; None of what is none, as half a line of a process that was killed."""
    try:
        record: dict[str, Any] = json.loads(line)
        mask, image = record["mask"], record["image"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_one = isinstance(mask, str) and isinstance(image, str) and "\0" not in image
    return record if is_one else None


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
