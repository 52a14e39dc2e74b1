"""Masks for the images inside Parquet tables: a table of masks for every table of images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.data.masks import mask_png
from weakseg.faults import Fault
from weakseg.files import replacing
from weakseg.predict import Labeler
from weakseg.types import ConfigError, DataError

_ROWS = 64
"""Rows read, labelled and written together."""

_MARK = b"weakseg"
"""The key under which a table of masks says what it was made of."""

_NAMES = ("name", "id", "image_id", "file_name", "path")


@dataclass(frozen=True)
class ImageTable:
    """A Parquet file with images, and the path of its table of masks below the results' folder.

    Attributes:
        path: The file.
        target: Where its masks go, below the folder of results.
    """

    path: Path
    target: str


def find_tables(paths: Sequence[Path | str], *, outside: Path) -> list[ImageTable]:
    """The Parquet files that files and folders stand for; none if no path is or holds one.

    Args:
        paths: What was named.
        outside: Files below this folder are left out: it is where results go.

    Raises:
        DataError: Something besides holds no Parquet file, or two would have one table of masks.
    """
    found: dict[str, ImageTable] = {}
    empty = []
    for one in map(Path, paths):
        files = sorted(one.rglob("*.parquet")) if one.is_dir() else []
        files = [one] if one.suffix == ".parquet" and one.is_file() else files
        files = [file for file in files if not file.resolve().is_relative_to(outside.resolve())]
        if not files:
            empty.append(one)
        for file in files:
            target = file.relative_to(one).as_posix() if one.is_dir() else file.name
            if target in found and found[target].path.absolute() != file.absolute():
                raise DataError(
                    f"{file}: its masks would overwrite those of {found[target].path}; give the "
                    "folder that holds both, or label them into two folders"
                )
            found[target] = ImageTable(file, target)
    if found and empty:
        raise DataError(
            f"{empty[0]} holds no Parquet file, but other arguments do; label images and tables "
            "into two folders"
        )
    return list(found.values())


def is_labelled(table: ImageTable, out: Path) -> bool:
    """Whether the masks of this very table are there."""
    parquet = _parquet()
    try:
        metadata = parquet.read_schema(out / table.target).metadata or {}
        return bool(json.loads(metadata[_MARK]) == _made_of(table.path))
    except (OSError, ValueError, KeyError):
        return False


def label_table(labeler: Labeler, table: ImageTable, out: Path) -> tuple[int, list[Fault]]:
    """Writes the table of masks: `name`, `mask` (PNG; null if there is none) and `fault`, in order.

    Args:
        labeler: The model at work.
        table: The images: a column of files' bytes, or of records with `bytes`, as the Hugging Face
            hub has them. Names are those of a column `name`, `id`, `image_id`, `file_name` or
            `path`, else rows' numbers from 0.
        out: The folder of results.

    Returns:
        How many masks were made, and the faults of images that could not be read.

    Raises:
        DataError: The file is no such table.
        RunError: The masks cannot be written.
    """
    import pyarrow as pa  # noqa: PLC0415

    parquet = _parquet()
    mark = {_MARK: json.dumps(_made_of(table.path)).encode()}
    schema = pa.schema(
        [("name", pa.string()), ("mask", pa.binary()), ("fault", pa.string())], metadata=mark
    )
    made, bad = 0, list[Fault]()
    with (
        replacing(out / table.target) as part,
        parquet.ParquetWriter(part, schema) as writer,
        tempfile.TemporaryDirectory() as folder,
    ):
        for names, images in _batches(table.path):
            masks, faults = _labelled(labeler, table.path, names, images, Path(folder))
            columns = {
                "name": names,
                "mask": [masks.get(row) for row in range(len(names))],
                "fault": [str(faults[row]) if row in faults else None for row in range(len(names))],
            }
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))
            made += len(masks)
            bad += [faults[row] for row in sorted(faults)]
    return made, bad


def _labelled(
    labeler: Labeler, table: Path, names: Sequence[str], images: Sequence[bytes], folder: Path
) -> tuple[dict[int, bytes], dict[int, Fault]]:
    """The masks and the faults of some rows."""
    files = [folder / f"{row}.image" for row in range(len(images))]
    for file, data in zip(files, images, strict=True):
        file.write_bytes(data or b"")
    masks, faults = {}, {}
    for row, mask, error, _ in labeler.stream(files):
        if mask is not None:
            masks[row] = mask_png(mask, labeler.class_names)
        elif error is not None:
            faults[row] = Fault(
                kind=error.kind,
                file=f"{table}: {names[row]}",
                found=error.found,
                remedy=error.remedy,
                samples=(names[row],),
            )
    return masks, faults


def _batches(path: Path) -> Iterator[tuple[list[str], list[bytes]]]:
    """Names and bytes of the images, some rows at a time."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        file = _parquet().ParquetFile(path)
        image, name = _columns(path, file.schema_arrow)
        count = 0
        for batch in file.iter_batches(_ROWS, columns=[image, *([name] if name else [])]):
            values: list[Any] = batch.column(image).to_pylist()
            given = [value["bytes"] if isinstance(value, Mapping) else value for value in values]
            names = batch.column(name).to_pylist() if name else range(count, count + len(values))
            count += len(values)
            yield [str(each) for each in names], given
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: no Parquet table that can be read: {reason}") from None


def _columns(path: Path, schema: Any) -> tuple[str, str | None]:
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
            f"{path}: expected one column of images' bytes, or one named image, got "
            f"{', '.join(images) or 'none'} (columns: {', '.join(schema.names)})"
        )
    return chosen, next((name for name in _NAMES if name in schema.names), None)


def _made_of(path: Path) -> dict[str, object]:
    stat = path.stat()
    return {"table": str(path.absolute()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "tables of images need pyarrow; install it with `pip install 'weakseg[parquet]'`"
        ) from None
    return parquet
