"""Files written whole or not at all, and JSON as files hold it."""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
from collections.abc import Mapping
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


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all; its folder is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{os.getpid()}-{threading.get_ident()}-{next(_counter)}.tmp"
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def is_part(path: Path) -> bool:
    """Whether this is what a killed process left of `write_atomic`, or a desktop's own file."""
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
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}; remove it, or choose another --out") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no JSON object; remove it, or choose another --out")
    return value
