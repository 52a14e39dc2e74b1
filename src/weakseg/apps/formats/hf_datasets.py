"""Hugging Face `datasets`: parquet with images, masks and tags."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weakseg.apps.formats.image_files import image_file
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.apps.formats.png import gray_file
from weakseg.types import ConfigError

_GROUP_BYTES = 64_000_000
"""Rows are written together up to this size, which bounds memory."""

_SHARD_BYTES = 500_000_000
"""Files end at this size, as the hub wants it."""

_TEXT = {"dtype": "string", "_type": "Value"}
_IMAGE = {"_type": "Image"}
_FEATURES = {
    "id": _TEXT,
    "image": _IMAGE,
    "mask": _IMAGE,
    "tags": {"feature": _TEXT, "_type": "Sequence"},
}


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes `data/train-….parquet`, and `id2label.json`, the names of the masks' indices.

    Columns: `id`; `image`, the file's own bytes (upright); `mask`, a gray PNG of indices, 255
    ignored; `tags`, names. `datasets.load_dataset` of the folder, or `"parquet"` of its files,
    gives Pillow images.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        folder: Where to write; is there.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("export to hf-datasets needs pyarrow; pip install 'weakseg[parquet]'")
    names = dict(enumerate(["background", *job.classes]))
    text = json.dumps(names, ensure_ascii=False, indent=2) + "\n"
    (folder / "id2label.json").write_text(text, encoding="utf-8")
    with _Shards(folder / "data") as shards:
        for image in images:
            shards.add(_row(image, job))


def _row(image: Labelled, job: Job) -> dict[str, Any]:
    key = image.sample.id
    return {
        "id": key,
        "image": {"bytes": image_file(image), "path": image.name},
        "mask": {"bytes": gray_file(image.labels), "path": f"{key}.png"},
        "tags": [job.classes[tag] for tag in sorted(image.sample.tags)],
    }


class _Shards:
    """Parquet files of a limited size, named when their number is known."""

    def __init__(self, folder: Path) -> None:
        import pyarrow  # noqa: PLC0415

        self.folder = folder
        files = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        self.schema = pyarrow.schema(
            {
                "id": pyarrow.string(),
                "image": files,
                "mask": files,
                "tags": pyarrow.list_(pyarrow.string()),
            },
            metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
        )
        self.rows: list[dict[str, Any]] = []
        self.bytes = self.written = self.count = 0
        self.writer: Any = None

    def __enter__(self) -> _Shards:
        self.folder.mkdir()
        return self

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.bytes += sum(len(row[name]["bytes"]) for name in ("image", "mask"))
        if self.bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        if self.writer is None:
            self.writer = parquet.ParquetWriter(self._part(self.count), self.schema)
            self.count, self.written = self.count + 1, 0
        self.writer.write_table(pyarrow.Table.from_pylist(self.rows, self.schema))
        self.written += self.bytes
        self.rows, self.bytes = [], 0
        if self.written >= _SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _part(self, number: int) -> Path:
        return self.folder / f"{number}.part"

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and (self.rows or not self.count):
            self._flush()
        self._close()
        if kind is None:
            for number in range(self.count):
                name = f"train-{number:05}-of-{self.count:05}.parquet"
                self._part(number).rename(self.folder / name)
