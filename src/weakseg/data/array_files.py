"""Arrays in `.npz` and `.npy` files of unknown origin, within bounds and never unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 1 << 30
"""Most bytes that the arrays of a file may have together; a small file can claim any number."""


class ArraysError(ValueError):
    """A file that holds no arrays that can be read; its text says why."""


def read_arrays(path: Path, most: int = MOST_BYTES) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a `.npz` file by their names; that of a `.npy` file under the name ``.

    What a file claims is compared with its size and with `most` before memory is taken.

    Args:
        path: The file.
        most: Bytes of all its arrays together.

    Returns:
        Arrays of numbers, truth values or text.

    Raises:
        ArraysError: It is missing, damaged, too large, or holds pickled objects.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return {"": _array(file, path.stat().st_size, most)}
            with zipfile.ZipFile(file) as archive:
                return _members(archive, most)
    except ArraysError:
        raise
    except OSError as error:
        raise ArraysError(error.strerror or str(error)) from error
    except Exception as error:  # numpy, zip and zlib raise nearly anything of broken files
        said = " ".join(str(error).split())[:120]
        raise ArraysError(said or type(error).__name__) from error


def _members(archive: zipfile.ZipFile, most: int) -> dict[str, npt.NDArray[Any]]:
    members = archive.infolist()
    if sum(member.file_size for member in members) > most:
        raise ArraysError(f"it unpacks to more than {most >> 20} MB")
    arrays = {}
    for member in members:
        with archive.open(member) as file:
            arrays[member.filename.removesuffix(".npy")] = _array(file, member.file_size, most)
            while file.read(1 << 20):  # to its end, where its checksum is compared
                pass
    return arrays


def _array(file: IO[bytes], size: int, most: int) -> npt.NDArray[Any]:
    """An array whose header claims no more than the `size` bytes that are there."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, column_major, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, column_major, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.kind not in "biufUS":
        raise ArraysError(f"it holds {dtype} instead of numbers")
    count = 1
    for length in shape:
        count *= length
    claimed = count * dtype.itemsize
    if any(length < 0 for length in shape) or claimed > min(size, most):
        raise ArraysError(f"an array claims {claimed} bytes, but there are {size}")
    content = file.read(claimed)
    if len(content) < claimed:
        raise ArraysError("it ends early")
    values = np.frombuffer(content, dtype).copy()
    return values.reshape(shape, order="F" if column_major else "C")
