"""Paths as fields of very many objects: kept as text, which takes a fifth of a path's memory."""

from __future__ import annotations

from pathlib import Path
from types import MemberDescriptorType
from typing import TypeVar

Class = TypeVar("Class", bound=type)


class _PathText:
    """A slot that is set and read as a path or None, and holds its text."""

    def __init__(self, slot: MemberDescriptorType) -> None:
        self._slot = slot

    def __get__(self, owner: object, kind: type | None = None) -> Path | None:
        if owner is None:
            raise AttributeError(self._slot.__name__)  # so that a field has no default
        text = self._slot.__get__(owner)
        return None if text is None else Path(text)

    def __set__(self, owner: object, path: Path | None) -> None:
        self._slot.__set__(owner, None if path is None else str(path))


def paths_as_text(kind: Class) -> Class:
    """Makes the slots of a class hold paths as their text.

    A dataclass with `slots=True` that inherits from it declares fields of these names as paths.

    Args:
        kind: A class that has `__slots__` alone, each to be a path or None.

    Example:
        >>> from dataclasses import dataclass
        >>> @paths_as_text
        ... class Places:
        ...     __slots__ = ("image",)
        >>> @dataclass(frozen=True, slots=True)
        ... class Photo(Places):
        ...     image: Path
        >>> Photo(Path("cat.jpg")).image.suffix
        '.jpg'
    """
    for name in vars(kind)["__slots__"]:
        setattr(kind, name, _PathText(vars(kind)[name]))
    return kind
