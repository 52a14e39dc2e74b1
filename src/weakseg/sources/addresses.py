"""Files by their address: a path of this machine, or a URL of any file system that fsspec knows."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from weakseg.types import ConfigError, DataError, WeaksegError

MOST_BYTES = 1 << 30
"""Most bytes of an image's file that are fetched or unpacked; headers can claim any number."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(address: str) -> bool:
    """Whether this is a URL rather than a path.

    Example:
        >>> [is_url(text) for text in ("s3://photos/a.jpg", "photos/a.jpg", "C:/photos")]
        [True, False, False]
    """
    return _SCHEME.match(address) is not None


def url_parts(url: str) -> list[str]:
    """The host (or bucket) of a URL and the parts of its path, without `..` and queries.

    Example:
        >>> url_parts("https://host/a//b/../c.jpg?size=2")
        ['host', 'a', 'c.jpg']
    """
    path = url.partition("://")[2]
    with suppress(ValueError):  # it is none, as https://[a
        split = urlsplit(url)
        if split.scheme in ("http", "https"):
            path = f"{split.netloc}/{split.path}"
    return [part for part in posixpath.normpath(f"/{path}").split("/") if part]


def root_parts(url: str) -> list[str]:
    """The parts of a URL up to its pattern, if it is one: what names below it begin behind.

    Example:
        >>> root_parts("s3://bucket/photos/*/a*.jpg")
        ['bucket', 'photos']
    """
    return list(takewhile(lambda part: "*" not in part, url_parts(url)))


def below_url(url: str) -> list[str]:
    """The URLs of all files that a URL stands for: of a file, a folder, or a pattern with `*`.

    Args:
        url: What was named; hidden files of a folder are passed over.

    Raises:
        ConfigError: A package is missing that such URLs need.
        DataError: There is no such file, or it cannot be reached.
    """
    with _told(url):
        system, path = _system(url)
        if "*" in path:
            found = system.glob(path)
        elif system.isfile(path):
            return [url]
        else:
            found = [file for file in system.find(path) if not _is_hidden(file, path)]
        return sorted(system.unstrip_protocol(file) for file in found)


def _is_hidden(file: str, folder: str) -> bool:
    return any(part.startswith(".") for part in file.removeprefix(folder).split("/"))


@contextmanager
def opened_address(address: str) -> Iterator[IO[bytes]]:
    """The file at a path or URL, to read from.

    Raises:
        ConfigError: A package is missing that such URLs need.
        DataError: There is no such file, or it cannot be read, also later in the block.
    """
    with _told(address):
        if is_url(address):
            system, path = _system(address)
            with system.open(path, "rb") as file:
                yield file
        else:
            with Path(address).open("rb") as file:
                yield file


def fetched(url: str) -> bytes:
    """The content of the file at a URL.

    Raises:
        ConfigError: A package is missing that such URLs need.
        DataError: It cannot be read, or is larger than `MOST_BYTES`.
    """
    with opened_address(url) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DataError(f"{url}: the file has more than {MOST_BYTES >> 20} MB")
    return data


def file_state(address: str) -> dict[str, Any]:
    """By what a file is known to be unchanged: its address, its size, and its time or version.

    Raises:
        ConfigError: A package is missing that such URLs need.
        DataError: There is no such file, or it cannot be reached.
    """
    with _told(address):
        if not is_url(address):
            stat = Path(address).stat()
            return {"images": address, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        system, path = _system(address)
        info = system.info(path)
        known = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "created"))
        version = next((str(value) for value in known if value is not None), None)
        return {"images": address, "bytes": info.get("size"), "version": version}


def _system(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415

    system, path = fsspec.core.url_to_fs(url)
    return system, path


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Tells what goes wrong with a file in one line."""
    try:
        yield
    except WeaksegError:
        raise
    except ImportError as error:
        raise ConfigError(f"{address}: {_line(error) or 'install fsspec to read URLs'}") from error
    except FileNotFoundError as error:
        raise DataError(f"{address}: there is no such file") from error
    except OSError as error:
        raise DataError(f"{address}: cannot be read: {error.strerror or _line(error)}") from error
    except Exception as error:
        if not is_url(address):
            raise
        # Clients of stores have errors of their own for what the network does.
        raise DataError(f"{address}: cannot be read: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
