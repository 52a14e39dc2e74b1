"""Files written whole or not at all, and JSON as files hold it."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import math
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from weakseg.types import RunError

_log = logging.getLogger(__name__)
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
def replacing(path: Path, *, folder: bool = False, size: int | None = None) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when the block ends well, and else goes.

    So a file is there whole or not at all, whatever happens while it is written.

    Args:
        path: The file, or a folder that is empty or not there yet; the folder above is made if
            needed.
        folder: Whether it is a folder.
        size: Its bytes, if they are known, to tell how many are needed where a disk is full.

    Raises:
        RunError: It cannot be written.
    """
    name = f".{os.getpid()}-{threading.get_ident()}-{next(_counter)}-{_HOST}.tmp"
    part = path.parent / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            part.mkdir()
        yield part
        if folder and path.is_dir():
            path.rmdir()
        part.replace(path)
        _log.debug("wrote %s", path)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        if (number := _system_error(error)) is not None:
            raise _cannot_write(path, error, number, size) from error
        raise


@contextmanager
def appending(path: Path) -> Iterator[TextIO]:
    """A text file to write to at its end.

    Raises:
        RunError: It cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise _cannot_write(path, error, error.errno, None) from error


def _system_error(error: BaseException) -> int | None:
    """The system's number of what went wrong with a file; 0 if it tells none; None: a bug."""
    if isinstance(error, OSError):
        return error.errno or 0
    # safetensors has an error of its own for all that can happen.
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found and isinstance(error, Exception) else None


def _cannot_write(
    path: Path, error: BaseException, number: int | None, size: int | None
) -> RunError:
    if number not in (errno.ENOSPC, errno.EDQUOT):
        said = error.strerror if isinstance(error, OSError) else os.strerror(number or 0)
        return RunError(f"cannot write {path}: {said or error}")
    needed = "" if size is None else f"{_megabytes(size)} are needed and "
    try:
        free = _megabytes(shutil.disk_usage(path.parent).free)
    except OSError:
        free = "no"
    return RunError(
        f"cannot write {path}: No space left on the disk, or in the quota ({needed}{free} are "
        "free); remove something and give the same command again, or choose another --out"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all; its folder is made if needed."""
    with replacing(path, size=len(data)) as part:
        part.write_bytes(data)


def is_part(path: Path) -> bool:
    """Whether this is what a killed process left of `replacing`, or a desktop's own file."""
    return path.suffix == ".tmp" or path.name in {".DS_Store", "Thumbs.db", "desktop.ini"}


def sweep(folder: Path, *, tensors: bool = True) -> None:
    """Removes what killed processes left of files that they were writing, here and below.

    Only what bears the name of a process of this machine that is gone, or of one of another machine
    and is a day old.

    Args:
        folder: Where to look; need not be there.
        tensors: Whether parts of safetensors go, too, which do not tell whose they are; nobody else
            may be writing tensors here.
    """
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if not _is_left(Path(place, name), tensors=tensors):
                continue
            with suppress(OSError):
                if name in folders:
                    folders.remove(name)
                    shutil.rmtree(Path(place, name))
                else:
                    Path(place, name).unlink()


def sweep_here(folder: Path) -> None:
    """The same, only of what is directly in a folder, and no parts of safetensors.

    Other programs and other commands may be writing here.
    """
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if _is_left(path, tensors=False)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def size_of_files(folder: Path) -> int:
    """Bytes of all files in a folder and below, which may come and go meanwhile; 0 without one."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).stat().st_size
    return total


def _is_left(path: Path, *, tensors: bool) -> bool:
    if tensors and _TENSORS_PART.fullmatch(path.name):
        return path.is_file() and not path.is_symlink()
    match = _PART.fullmatch(path.name)
    if match is None or path.is_symlink():
        return False
    process, host = int(match.group(1)), match.group(2)
    try:
        written = path.stat().st_mtime
    except OSError:
        return False
    if host is not None and host != _HOST:  # whether that process works is not to be seen here
        return written < time.time() - _DAY
    if process != os.getpid():
        return not is_running(process)
    return written < _BEGUN  # an earlier process of the same number, as containers have them


def is_running(process: int) -> bool:
    """Whether a process of this number works on this machine; never on Windows."""
    if sys.platform == "win32":  # where a file that is written to cannot be removed
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
"""Tells the parts that processes of this machine write from those of others on a shared disk."""

_PART = re.compile(r"\.([1-9][0-9]*)-[0-9]+-[0-9]+(?:-([0-9a-f]{8}))?\.tmp")
_DAY = 24 * 3600
_TENSORS_PART = re.compile(r"\.tmp[A-Za-z0-9]{6}")
_BEGUN = time.time() - 5
"""Before this process, by clocks that may differ a little."""


def dump_json(value: object) -> bytes:
    """`value` as the text of a JSON file."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: object) -> None:
    """Writes `value` as a JSON file, whole or not at all."""
    write_atomic(path, dump_json(value))


def write_long_json(path: Path, value: Mapping[str, object]) -> None:
    """Writes a JSON object whose mappings and lists may be very long, whole or not at all.

    They are written an item a line, and never as one text.

    Args:
        path: The file.
        value: The object; an iterator in it becomes a list.
    """
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        before = "{\n"
        for key, item in value.items():
            file.write(f"{before}{_text(key)}: ")
            before = ",\n"
            if isinstance(item, Mapping):
                _write_lines(file, "{}", (f"{_text(k)}: {_text(v)}" for k, v in item.items()))
            elif isinstance(item, Iterator):
                _write_lines(file, "[]", map(_text, item))
            else:
                file.write(_text(item))
        file.write("\n}\n" if value else "{}\n")


def _write_lines(file: TextIO, signs: str, lines: Iterator[str]) -> None:
    before = f"{signs[0]}\n"
    for line in lines:
        file.write(f"{before}{line}")
        before = ",\n"
    file.write(f"\n{signs[1]}" if before == ",\n" else signs)


def _text(value: object) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def read_json(
    path: Path, become: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file.
        become: What each object in it becomes as soon as it is read, the innermost first: of a
            million small ones in a list, something leaner. The outermost must stay what it is.

    Raises:
        RunError: It cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_hook=become)
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
