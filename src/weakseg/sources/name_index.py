"""Which of some files a name means: one matcher for tags files, annotations, lists and tags."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Generic, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from weakseg.data.decode import SUFFIXES

Item = TypeVar("Item")


def plain_name(name: str) -> str:
    r"""A name as written, as a path with `/`, in NFC, without spaces around it.

    Of a URL its path, or the path in its parameter `d` (Label Studio's local files).

    Example:
        >>> plain_name(r" images\x.jpg "), plain_name("https://host/data/a%20b.jpg?w=3")
        ('images/x.jpg', '/data/a b.jpg')
    """
    text = name.strip()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) or "?d=" in text:
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

    Args:
        items: Paths below the folder, with `/` and their suffix, and what each stands for.

    Example:
        >>> index = NameIndex([("cats/a.jpg", 1), ("b.png", 2)])
        >>> index.find("cats/a").items, index.find("photos/b.PNG")
        ((1,), Match(items=(2,), below=True))
    """

    def __init__(self, items: Iterable[tuple[str, Item]]) -> None:
        self._exact: _Table[Item] = {}
        self._ids: _Table[Item] = {}
        self._last: _Table[Item] = {}
        self._added: list[tuple[str, Item]] = []
        """What is not in `_last` yet, which few sources need."""
        for path, item in items:
            self.add(path, item)

    def add(self, path: str, item: Item) -> None:
        """Adds a file."""
        key = unicodedata.normalize("NFC", path)
        pair = (key, item)
        _put(self._exact, _lower_suffix(key), pair)
        if PurePosixPath(key).suffix.lower() in SUFFIXES:
            _put(self._ids, without_suffix(key), pair)
        self._added.append(pair)

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
        lengths = [_common_end(_lower_suffix(path), parts) for path, _ in candidates]
        longest = max(lengths)
        chosen = [
            item for (_, item), length in zip(candidates, lengths, strict=True) if length == longest
        ]
        return Match(tuple(chosen), below=True)

    def _of_last(self, name: str) -> list[tuple[str, Item]]:
        """The files of which this is the last part, with their suffix or without."""
        for pair in self._added:
            names = {PurePosixPath(k(pair[0])).name for k in (_lower_suffix, without_suffix)}
            for last in names:
                _put(self._last, last, pair)
        self._added.clear()
        return _at(self._last, name)

    def _find(self, key: str) -> list[Item]:
        found = _at(self._exact, _lower_suffix(key))
        exact = [item for path, item in found if path == key]
        if exact:
            return exact
        if PurePosixPath(key).suffix.lower() in SUFFIXES:
            return [item for _, item in found]
        return [item for _, item in found or _at(self._ids, key)]


_Table = dict[str, tuple[str, Item] | list[tuple[str, Item]]]
"""Paths and what they stand for, by a part of them; lists only where there are several: one takes
as much memory as the rest."""


def _put(table: _Table[Item], key: str, pair: tuple[str, Item]) -> None:
    there = table.setdefault(key, pair)
    if isinstance(there, list):
        there.append(pair)
    elif there is not pair:
        table[key] = [there, pair]


def _at(table: _Table[Item], key: str) -> list[tuple[str, Item]]:
    found = table.get(key, [])
    return found if isinstance(found, list) else [found]


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
