"""Which of some files a name means: one matcher for tags files, annotations, lists and tags."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, KeysView
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Generic, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from weakseg.data.decode import SUFFIXES

Item = TypeVar("Item")


def plain_name(name: str) -> str:
    r"""A name as written, as a path with `/`, in NFC, without spaces around it.

    Of a URL its path, or the path in its parameter `d` (Label Studio's local files). What only
    begins as a URL does is left as it is.

    Example:
        >>> plain_name(r" images\x.jpg "), plain_name("https://host/data/a%20b.jpg?w=3")
        ('images/x.jpg', '/data/a b.jpg')
    """
    text = name.strip()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) or "?d=" in text:
        with suppress(ValueError):
            address = urlsplit(text)
            inner = parse_qs(address.query).get("d")
            text = inner[0] if inner else unquote(address.path)
    return unicodedata.normalize("NFC", text).replace("\\", "/")


def without_suffix(key: str) -> str:
    """A path without the suffix of an image file; other suffixes belong to the name."""
    suffix = PurePosixPath(key).suffix
    return key.removesuffix(suffix) if suffix.lower() in SUFFIXES else key


@dataclass(frozen=True)
class Match(Generic[Item]):
    """What a name means.

    Attributes:
        items: The files it may mean; several if it is ambiguous.
        below: Whether only the end of the name was found, as of `/data/x/images/a.jpg`.
    """

    items: tuple[Item, ...]
    below: bool = False


class NameIndex(Generic[Item]):
    r"""Finds files by their names.

    A name means the file of exactly this path; else of this path but for the case of its suffix;
    else, without an image suffix, of this id; else the file whose path ends as the name does, by
    the longest end that any file has: `/data/photos/a.jpg`, `C:\photos\a.jpg`,
    `https://host/photos/a.jpg` and `photos/a.jpg` all mean `a.jpg` where there is one alone.

    Of each file only what it stands for is kept, once: there may be millions.

    Args:
        items: What there is to find.
        name: The path of an item below the folder, with `/` and its suffix.

    Example:
        >>> index = NameIndex(["cats/a.jpg", "b.png"], name=str)
        >>> index.find("cats/a").items, index.find("photos/b.PNG")
        (('cats/a.jpg',), Match(items=('b.png',), below=True))
    """

    def __init__(self, items: Iterable[Item], *, name: Callable[[Item], str]) -> None:
        self._name = name
        self._images: _Table[Item] = {}
        """By id: path without suffix."""
        self._others: _Table[Item] = {}
        """Files that are no images, by path."""
        self._last: _Table[Item] | None = None
        """All by the last part of their path, with suffix and without; few sources need it."""
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        """Adds a file."""
        key = self._key(item)
        table = self._images if _is_image(key) else self._others
        _put(table, without_suffix(key), item)
        self._last = None

    @property
    def image_ids(self) -> KeysView[str]:
        """The ids of all image files, in the order in which they were added."""
        return self._images.keys()

    def images(self, image_id: str) -> list[Item]:
        """The image files of exactly this id."""
        return _at(self._images, image_id)

    def find(self, name: str) -> Match[Item]:
        """The files that a name means; none, one, or several if it is ambiguous."""
        key = os.path.normpath(plain_name(name)).replace("\\", "/")
        found = self._find(key)
        if found:
            return Match(tuple(found))
        parts = [part for part in key.split("/") if part not in ("", ".", "..")]
        if parts and re.fullmatch(r"[A-Za-z]:", parts[0]):
            parts = parts[1:]
        if not parts:
            return Match(())
        candidates = self._of_last(_lower_suffix(parts[-1]))
        if not candidates:
            return Match(())
        # The longest common end of all; of equally long ones, all.
        lengths = [_common_end(_lower_suffix(self._key(item)), parts) for item in candidates]
        longest = max(lengths)
        chosen = [
            item for item, length in zip(candidates, lengths, strict=True) if length == longest
        ]
        return Match(tuple(chosen), below=True)

    def _key(self, item: Item) -> str:
        return unicodedata.normalize("NFC", self._name(item))

    def _of_last(self, name: str) -> list[Item]:
        """The files of which this is the last part, with their suffix or without."""
        if self._last is None:
            self._last = {}
            for found in (*self._images.values(), *self._others.values()):
                for item in _several(found):
                    key = self._key(item)
                    for last in {
                        PurePosixPath(k(key)).name for k in (_lower_suffix, without_suffix)
                    }:
                        _put(self._last, last, item)
        return _at(self._last, name)

    def _find(self, key: str) -> list[Item]:
        if not _is_image(key):
            return _at(self._others, key) or _at(self._images, key)
        found = [
            (path, item)
            for item in _at(self._images, without_suffix(key))
            if _lower_suffix(path := self._key(item)) == _lower_suffix(key)
        ]
        return [item for path, item in found if path == key] or [item for _, item in found]


class _Several(list[Item]):
    """The items of a key that has more than one."""


_Table = dict[str, Item | _Several[Item]]
"""Items by a part of their paths; lists only where there are several: one takes as much memory as
the rest."""


def _put(table: _Table[Item], key: str, item: Item) -> None:
    there = table.get(key)
    if isinstance(there, _Several):
        there.append(item)
    else:
        table[key] = _Several([there, item]) if key in table else item  # type: ignore[list-item]


def _at(table: _Table[Item], key: str) -> list[Item]:
    return _several(table[key]) if key in table else []


def _several(found: Item | _Several[Item]) -> list[Item]:
    return found if isinstance(found, _Several) else [found]


def _is_image(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in SUFFIXES


def _common_end(path: str, parts: list[str]) -> int:
    """How many parts, from the last, a path shares with a name."""
    own = path.split("/")
    suffixed = PurePosixPath(parts[-1]).suffix.lower() in SUFFIXES
    own[-1] = own[-1] if suffixed else without_suffix(own[-1])
    wanted = [*parts[:-1], _lower_suffix(parts[-1])]
    count = 0
    for mine, other in zip(reversed(own), reversed(wanted), strict=False):
        if mine != other:
            break
        count += 1
    return count


def _lower_suffix(key: str) -> str:
    suffix = PurePosixPath(key).suffix
    if suffix == suffix.lower() or suffix.lower() not in SUFFIXES:
        return key
    return key.removesuffix(suffix) + suffix.lower()
