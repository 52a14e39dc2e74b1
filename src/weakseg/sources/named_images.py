"""An image that is not part of a data set, and what its result is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from weakseg.data.decode import SUFFIXES
from weakseg.sources.addresses import is_url


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image file and what to call its result.

    Attributes:
        address: The file: an absolute path, or a URL.
        name: Its path below the folder that was given (of a file given by itself, its name),
            without suffix, with `/` between its parts.
    """

    address: str
    name: str

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is at a URL."""
        return is_url(self.address)


def stem(relative: str) -> str:
    """What the result of an image is called: its path without an image's suffix.

    Example:
        >>> [stem(name) for name in ("cat/1.JPG", "shot.2020.jpg", "notes.old")]
        ['cat/1', 'shot.2020', 'notes.old']
    """
    path = Path(relative)
    kept = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return normalize("NFC", kept.as_posix())
