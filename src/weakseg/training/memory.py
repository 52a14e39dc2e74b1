"""When freed memory stays with the process, and when it goes back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's names in glibc's malloc.h
_TRIM_DEFAULT, _MMAP_MAX_DEFAULT = 128 * 1024, 65536


def _c_library() -> Any:
    """The C library of this process; None where it has no name, as on Windows."""
    try:
        return ctypes.CDLL(None)
    except (TypeError, OSError):
        return None


def release_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    Between batches of images of ever other sizes, and between stages: what is freed in pieces is of
    little use for the next, so that the process would grow from batch to batch.
    """
    library = _c_library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


_NO_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error tells that memory, the device's or the machine's, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory for reuse instead of giving it back to the system.

    Large tensors on the CPU are otherwise mapped anew, page by page, in every step: about a tenth
    of a training's time. On leaving, what is free goes back. Does nothing where the C library is
    not glibc.
    """
    library = _c_library()
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _MMAP_MAX_DEFAULT)
        library.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        library.malloc_trim(0)
