"""Shards, files that hold many images: Parquet tables and tars, and lists of single files."""

from __future__ import annotations

import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from weakseg.data.decode import SUFFIXES
from weakseg.faults import Fault, FaultKind, unprintable
from weakseg.sources.addresses import MOST_BYTES, fetched, file_state, opened_address
from weakseg.sources.named_images import NamedImage, stem
from weakseg.types import ConfigError, DataError, is_sample_id

TABLES, TARS = (".parquet",), (".tar", ".tar.gz", ".tgz")
SHARDS = TABLES + TARS
"""What the names of shards end with."""

_ROWS, _BATCH_BYTES = 64, 64_000_000
"""Most rows, and about most bytes, of a table that are read together."""

_NAMES = ("name", "id", "image_id", "file_name", "path")
"""Columns of a table that name its images, the likeliest first."""

_A_SAMPLE = 8
"""Most images of a tar that are taken for one sample and its annotations."""

_FETCHED_AHEAD = 16
"""Files at URLs that are fetched while others are labelled."""


@dataclass(frozen=True)
class ImageShard:
    """A file that holds many images, or some of the images that are files, to be done together.

    Attributes:
        address: The file: an absolute path, or a URL; empty if it is a list of files.
        target: Where its masks go below the folder of results, without the ending.
        images: The files of a list.
    """

    address: str
    target: str
    images: tuple[NamedImage, ...] = ()

    def made_of(self) -> dict[str, Any]:
        """By what masks are known to be still those of this shard.

        Raises:
            ConfigError: A package is missing that a URL needs.
            DataError: The file is not there, or cannot be reached.
        """
        if self.address:
            return file_state(self.address)
        return {"images": [[image.name, *_state(image)] for image in self.images]}


def _state(image: NamedImage) -> list[object]:
    if image.is_elsewhere:
        return [image.address]
    try:
        stat = Path(image.address).stat()
    except OSError:  # it is told when it is read
        return [image.address, None, None]
    return [image.address, stat.st_size, stat.st_mtime_ns]


@dataclass(frozen=True, slots=True)
class ShardImage:
    """An image of a shard; it has a path, or its content, or a fault.

    Attributes:
        given: What the shard calls it.
        name: What to call its mask: a path below a folder; empty if it cannot be called so.
        where: Where it is, for messages.
        path: Its file on this machine.
        data: Its file's content.
        fault: Why it cannot be read.
    """

    given: str
    name: str
    where: str
    path: Path | None = None
    data: bytes | None = None
    fault: Fault | None = None


def shard_stem(relative: str) -> str:
    """A shard's path without its ending."""
    lower = relative.lower()
    ending = max((end for end in SHARDS if lower.endswith(end)), key=len, default="")
    return relative[: len(relative) - len(ending)]


def read_shard(shard: ImageShard) -> Iterator[ShardImage]:
    """The images of a shard, in its order, a few in memory at a time.

    In a table they are in a column of files' bytes, or of records with `bytes`, as the Hugging
    Face hub has them; they have the names of a column `name`, `id`, `image_id`, `file_name` or
    `path`, else those of the records' `path`, else their rows' numbers from 0. In a tar they are
    the members with an image's suffix; of several members whose names are equal up to the first
    point, as WebDataset has them, `7.seg.png` is passed over beside `7.jpg`.

    Names are a stranger's: one that leaves the folder, or comes twice, is a fault of that image.

    Raises:
        ConfigError: A package is missing that the shard needs.
        DataError: The shard cannot be read, or holds no images.
    """
    if not shard.address:
        return read_files(shard.images)
    is_table = shard.address.lower().endswith(TABLES)
    return _named(shard.address, _table(shard.address) if is_table else _tar(shard.address))


def read_files(images: Iterable[NamedImage]) -> Iterator[ShardImage]:
    """Images that are files; those at URLs are fetched, some at a time, while others are used."""
    waiting: deque[tuple[NamedImage, Future[bytes] | None]] = deque()
    pool = ThreadPoolExecutor(_FETCHED_AHEAD, "weakseg-fetch")
    try:
        for image in images:
            if not waiting and not image.is_elsewhere:
                yield _file(image, None)
                continue
            future = pool.submit(fetched, image.address) if image.is_elsewhere else None
            waiting.append((image, future))
            if len(waiting) > _FETCHED_AHEAD:
                yield _file(*waiting.popleft())
        while waiting:
            yield _file(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _file(image: NamedImage, content: Future[bytes] | None) -> ShardImage:
    if content is None:
        return ShardImage(image.name, image.name, image.address, path=Path(image.address))
    try:
        return ShardImage(image.name, image.name, image.address, data=content.result())
    except DataError as error:
        found = str(error).removeprefix(f"{image.address}: ")
        remedy = "correct its URL, or give the same command again"
        what = _Bad("image_missing", found, remedy)
        return _bad(image.name, image.name, image.address, what)


_Given = tuple[str, bytes | None, str]
"""A name, the content of a file, and why there is none."""


def _named(address: str, images: Iterable[_Given]) -> Iterator[ShardImage]:
    """Checks names, which are to be those of files."""
    there: set[str] = set()
    for given, data, missing in images:
        name, where = stem(given), f"{address}: {given}"
        if not is_sample_id(name) or unprintable(name):
            what = _Bad("image_name", "its name is no path below a folder", "name it `folder/name`")
            yield _bad(given, "", where, what)
        elif name in there:
            what = _Bad("duplicate_name", "its name comes twice", "rename one")
            yield _bad(given, "", where, what)
        elif data is None:
            yield _bad(given, name, where, _Bad("image_too_large", missing, "make it smaller"))
        else:
            yield ShardImage(given, name, where, data=data)
        there.add(name)


class _Bad(NamedTuple):
    kind: FaultKind
    found: str
    remedy: str


def _bad(given: str, name: str, where: str, what: _Bad) -> ShardImage:
    fault = Fault(file=where, samples=(given,), **what._asdict())
    return ShardImage(given, name, where, fault=fault)


_LARGE = f"it has more than {MOST_BYTES >> 20} MB"


def _tar(address: str) -> Iterator[_Given]:
    try:
        with opened_address(address) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            sample, waiting, is_empty = "", list[tuple[str, bytes | None]](), True
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isreg() or path.suffix.lower() not in SUFFIXES:
                    continue
                if path.name.startswith("."):
                    continue
                is_empty = False
                key = f"{path.parent}/{path.name.partition('.')[0]}"
                if key != sample or len(waiting) == _A_SAMPLE:
                    yield from _without_annotations(waiting)
                    sample, waiting = key, []
                content = archive.extractfile(member) if member.size <= MOST_BYTES else None
                waiting.append((member.name, content.read() if content else None))
            yield from _without_annotations(waiting)
            if is_empty:
                raise DataError(f"{address}: no image is in it")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, UnicodeError) as error:
        raise DataError(f"{address}: no tar that can be read: {_line(error)}") from None


def _without_annotations(members: list[tuple[str, bytes | None]]) -> Iterator[_Given]:
    """The images among members whose names are equal up to the first point."""
    points = {name: PurePosixPath(name).name.count(".") for name, _ in members}
    for name, data in members:
        words = PurePosixPath(name).name.split(".")[1:-1]
        is_annotation = min(points.values()) == 1 and words and all(map(str.isalpha, words))
        if not is_annotation:
            yield name.removeprefix("./"), data, _LARGE


def _table(address: str) -> Iterator[_Given]:
    parquet = _parquet()
    import pyarrow as pa  # noqa: PLC0415

    try:
        with opened_address(address) as source:
            file = parquet.ParquetFile(source)
            image, name = _columns(address, file.schema_arrow)
            rows = _rows_together(address, file, image)
            count = 0
            for batch in file.iter_batches(rows, columns=[image, *([name] if name else [])]):
                values: list[Any] = batch.column(image).to_pylist()
                named = batch.column(name).to_pylist() if name else [None] * len(values)
                for value, own in zip(values, named, strict=True):
                    record = value if isinstance(value, Mapping) else {"bytes": value}
                    called = own if name else record.get("path")
                    data = record["bytes"] or b""
                    yield (
                        str(count if called is None else called),
                        data if len(data) <= MOST_BYTES else None,
                        _LARGE,
                    )
                    count += 1
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{address}: no Parquet table that can be read: {_line(error)}") from None


def _rows_together(address: str, file: Any, image: str) -> int:
    """How many rows to read at once, by the size that the table says its images have."""
    size, rows = 0, 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        rows += group.num_rows
        for column in range(group.num_columns):
            chunk = group.column(column)
            if chunk.path_in_schema.split(".")[0] == image:
                size += chunk.total_uncompressed_size
    if size > MOST_BYTES * max(1, rows):
        raise DataError(f"{address}: its {rows} images claim {size >> 20} MB")
    return max(1, min(_ROWS, _BATCH_BYTES * rows // max(1, size)))


def _columns(address: str, schema: Any) -> tuple[str, str | None]:
    """The column of images, and that of their names."""
    import pyarrow as pa  # noqa: PLC0415

    def is_binary(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    images = []
    for field in schema:
        bytes_at = field.type.get_field_index("bytes") if pa.types.is_struct(field.type) else -1
        if is_binary(field.type) or (bytes_at >= 0 and is_binary(field.type.field(bytes_at).type)):
            images.append(field.name)
    chosen = "image" if "image" in images else images[0] if len(images) == 1 else None
    if chosen is None:
        raise DataError(
            f"{address}: expected one column of images' bytes, or one named image, got "
            f"{', '.join(images) or 'none'} (columns: {', '.join(schema.names)})"
        )
    return chosen, next((name for name in _NAMES if name in schema.names), None)


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "tables of images need pyarrow; install it with `pip install 'weakseg[parquet]'`"
        ) from None
    return parquet


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
