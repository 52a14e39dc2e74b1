"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weakseg.types import RunError

if sys.platform == "win32":

    def take_lock(handle: int) -> bool:
        """Locks an open file unless another process has; whether it is locked now."""
        import msvcrt  # noqa: PLC0415

        try:
            os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, which others may read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

else:

    def take_lock(handle: int) -> bool:
        """Locks an open file unless another process has; whether it is locked now."""
        import fcntl  # noqa: PLC0415

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: better unguarded than not at all
            return True
        return True


_held: set[int] = set()
"""Open files whose locks this process alone is to hold."""


def _close_held() -> None:
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_held)


@contextmanager
def not_inherited(handle: int) -> Iterator[None]:
    """Keeps an open file from processes that this one forks, so that its lock ends with this one.

    Else processes that read images would hold it for some seconds longer where this is killed.
    """
    _held.add(handle)
    try:
        yield
    finally:
        _held.discard(handle)


@contextmanager
def brief_lock(path: Path, *, patience: float = 10.0) -> Iterator[None]:
    """Keeps other processes and threads out of a short piece of work.

    Args:
        path: The file to lock; it and its folder are made if needed.
        patience: How long to wait for another one, in seconds.

    Raises:
        RunError: Another one does not end, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        until = time.monotonic() + patience
        while not take_lock(handle):
            if time.monotonic() > until:
                raise RunError(f"{path} is held by another process; end it and try again")
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)
