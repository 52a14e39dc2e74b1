"""Files written whole or not at all, and JSON as files hold it."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weakseg.types import RunError

_counter = itertools.count()


def plain(value: object) -> Any:
    """`value` as JSON knows it: arrays' scalars as numbers, paths as text, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value)
    elif hasattr(value, "tolist"):  # numpy and torch, which need not be imported for this
        value = value.tolist()
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"expected numbers, text, lists or mappings for JSON, got {type(value)}")


@contextmanager
def replacing(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when the block ends well, and else goes.

    So a file is there whole or not at all, whatever happens while it is written.

    Args:
        path: The file, or a folder that is empty or not there yet; the folder above is made if
            needed.
        folder: Whether it is a folder.

    Raises:
        RunError: It cannot be written.
    """
    part = path.parent / f".{os.getpid()}-{threading.get_ident()}-{next(_counter)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            part.mkdir()
        yield part
        if folder and path.is_dir():
            path.rmdir()
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        if isinstance(error, OSError):
            raise RunError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all; its folder is made if needed."""
    with replacing(path) as part:
        part.write_bytes(data)


def is_part(path: Path) -> bool:
    """Whether this is what a killed process left of `replacing`, or a desktop's own file."""
    return path.suffix == ".tmp" or path.name in {".DS_Store", "Thumbs.db", "desktop.ini"}


def dump_json(value: object) -> bytes:
    """`value` as the text of a JSON file."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: object) -> None:
    """Writes `value` as a JSON file, whole or not at all."""
    write_atomic(path, dump_json(value))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: It cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {error}; remove it, or choose another --out") from None
    if _is_deep(value):
        raise RunError(f"{path} is nested too deep; remove it, or choose another --out")
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no JSON object; remove it, or choose another --out")
    return value


def _is_deep(value: object) -> bool:
    """Whether JSON is nested deeper than functions that call themselves can follow."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


_DEEPEST = 100
