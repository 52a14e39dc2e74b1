"""Where the masks of a shard go: a Parquet file, a tar, or a folder of PNGs."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from weakseg.files import replacing, write_atomic
from weakseg.runs.image_files import MOST_FILES
from weakseg.types import ConfigError, DataError

MasksAs = Literal["png", "parquet", "tar"]
"""How masks are kept: a file each, or shards of them."""

MASKS_AS: tuple[MasksAs, ...] = get_args(MasksAs)

_MARK = "weakseg"
"""The key under which a shard of masks says what it was made of."""

_ROWS = 64
"""Rows of a table that are written together."""


@dataclass(frozen=True)
class MaskRow:
    """What became of an image.

    Attributes:
        given: What its shard calls it.
        name: What to call its mask; empty if there is no such name.
        mask: The PNG, or None.
        fault: Why there is no mask.
    """

    given: str
    name: str
    mask: bytes | None
    fault: str | None


class AddRow(Protocol):
    """What `writing_masks` hands out."""

    def __call__(self, row: MaskRow) -> None:
        """Adds what became of the next image."""


def shard_file(out: Path, target: str, kind: MasksAs) -> Path:
    """The file that is there when all masks of a shard are.

    Args:
        out: The folder of results.
        target: Where the shard's masks go below it.
        kind: How they are kept; of PNGs the file lists them.
    """
    return out / f"{target}{'.jsonl' if kind == 'png' else f'.{kind}'}"


def made_of(out: Path, target: str, kind: MasksAs) -> Any:
    """What the masks that are there were made of; None if they are not there."""
    path = shard_file(out, target, kind)
    try:
        if kind == "parquet":
            metadata = _parquet().read_schema(path).metadata or {}
            return json.loads(metadata[_MARK.encode()])
        if kind == "tar":
            with tarfile.open(path, "r:") as archive:
                return json.loads(archive.pax_headers[_MARK])
        with path.open(encoding="utf-8") as file:
            return json.loads(file.readline())[_MARK]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, tarfile.TarError):
        return None


@contextmanager
def writing_masks(
    out: Path, target: str, kind: MasksAs, made_of: Mapping[str, Any]
) -> Iterator[AddRow]:
    """A function that takes the rows of a shard, in order.

    `parquet`: columns `name` (the shard's own), `mask` (PNG, or null) and `fault` (or null). `tar`:
    for each image `<name>.png` and `<name>.json` with `name` and `fault`, or the latter alone, as
    WebDataset reads it. `png`: `<target>/<name>.png`, and `<target>.jsonl` with a line for each.

    Args:
        out: The folder of results.
        target: Where the masks go below it, without ending.
        kind: How they are kept.
        made_of: What they are made of, kept with them.

    Raises:
        ConfigError: pyarrow is needed and not installed.
        DataError: A folder would get more than `MOST_FILES` PNGs.
        RunError: They cannot be written.
    """
    with replacing(shard_file(out, target, kind)) as part:
        if kind == "parquet":
            with _rows_of_table(part, made_of) as add:
                yield add
        elif kind == "tar":
            with tarfile.open(
                part, "w", format=tarfile.PAX_FORMAT, pax_headers={_MARK: json.dumps(made_of)}
            ) as archive:
                yield _Members(archive)
        else:
            with part.open("w", encoding="utf-8") as log:
                log.write(f"{json.dumps({_MARK: made_of})}\n")

                folders = Counter[str]()

                def add_file(row: MaskRow) -> None:
                    if row.mask is not None:
                        place = row.name.rpartition("/")[0]
                        folders[place] += 1
                        if folders[place] > MOST_FILES:
                            raise DataError(
                                f"it has more than {MOST_FILES} images of one folder; give "
                                "--to tar or --to parquet"
                            )
                        write_atomic(out / target / f"{row.name}.png", row.mask)
                    log.write(f"{json.dumps(_status(row), ensure_ascii=False)}\n")

                yield add_file


def _status(row: MaskRow) -> dict[str, str | None]:
    return {"name": row.given, "fault": row.fault}


@contextmanager
def _rows_of_table(path: Path, made_of: Mapping[str, Any]) -> Iterator[AddRow]:
    parquet = _parquet()
    import pyarrow as pa  # noqa: PLC0415

    schema = pa.schema(
        [("name", pa.string()), ("mask", pa.binary()), ("fault", pa.string())],
        metadata={_MARK.encode(): json.dumps(made_of).encode()},
    )
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(path, schema) as writer:

        def write() -> None:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            rows.clear()

        def add(row: MaskRow) -> None:
            rows.append({**_status(row), "mask": row.mask})
            if len(rows) == _ROWS:
                write()

        yield add
        if rows:
            write()


class _Members:
    """Adds masks and what became of images to a tar."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self.archive, self.count = archive, 0

    def __call__(self, row: MaskRow) -> None:
        self.count += 1
        name = row.name or f"~{self.count:06}"  # one that no file can have is in the JSON
        if row.mask is not None:
            self._add(f"{name}.png", row.mask)
        self._add(f"{name}.json", json.dumps(_status(row), ensure_ascii=False).encode())

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.archive.addfile(member, io.BytesIO(data))


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "tables of masks need pyarrow; install it with `pip install 'weakseg[parquet]'`"
        ) from None
    return parquet
