"""What every part of weakseg speaks of: samples, catalogs, and the errors a user can meet."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Protocol

from weakseg.path_texts import paths_as_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

IGNORE = 255
"""Mask index of pixels that no loss and no score looks at."""

BACKGROUND = 0
"""Mask index of background; class `k` of a catalog (counted from 0) has mask index `k + 1`."""


class WeaksegError(Exception):
    """A fault that the user can fix: the command line prints it as one line and exits with 2."""


class DataError(WeaksegError):
    """The images, tags or masks of a source are not as they must be."""


class ConfigError(WeaksegError):
    """A setting is unknown, of the wrong kind or out of range."""


class RunError(WeaksegError):
    """A run directory does not fit what is asked of it."""


class WeightsError(WeaksegError):
    """A backbone's weights cannot be had."""


_USERS_OWN = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS}


def exit_code(error: BaseException) -> int:
    """What a process that ends by an error exits with.

    Returns:
        2 for what the user can fix, 130 after Ctrl-C, 70 for a fault of weakseg.
    """
    if isinstance(error, KeyboardInterrupt):
        return 130
    own = isinstance(error, OSError) and error.errno in _USERS_OWN
    return 2 if own or isinstance(error, WeaksegError) else 70


class Annotation(Protocol):
    """A true mask that is no plain mask file: see `weakseg.data.truth`."""

    @property
    def file(self) -> Path:
        """The file that tells it."""

    def read(self, classes: Sequence[str]) -> npt.NDArray[np.uint8]:
        """The mask uint8 [H,W] by the names of classes 1..K."""

    def digest(self) -> str:
        """A hash of all that the mask depends on."""


@paths_as_text
class _Files:
    __slots__ = ("image", "mask")


@dataclass(frozen=True, slots=True)
class Sample(_Files):
    """One image, what is in it, and its true mask where there is one.

    Attributes:
        id: The image's path below its image folder, without suffix, with `/` between its parts.
        image: Where the image is.
        tags: Indices into `Catalog.classes` (from 0) of what is in the image; empty: background.
        mask: Where its true mask is (palette or gray PNG; index 0 background, k the k-th class,
            255 ignored), or None. Used for scores only.
        annotation: The same as another tool's annotations tell it; at most one of both is there.
        ignore_alpha: Whether a fourth channel is left out rather than read as transparency.
    """

    id: str
    image: Path
    tags: frozenset[int]
    mask: Path | None = None
    annotation: Annotation | None = None
    ignore_alpha: bool = False

    @property
    def has_truth(self) -> bool:
        """Whether the true mask is known."""
        return self.mask is not None or self.annotation is not None


def is_sample_id(text: str) -> bool:
    """Whether a text can be a sample's id: a path that stays below any folder, on every system.

    Example:
        >>> [is_sample_id(text) for text in ("dog/1", "../dog", "/dog", "C:dog", "a//b", "")]
        [True, False, False, False, False, False]
    """
    parts = text.split("/")
    strange = "\\" in text or "\0" in text or PureWindowsPath(text).drive
    return not strange and not any(part in ("", ".", "..") for part in parts)


@dataclass(frozen=True)
class Catalog:
    """All samples of a source and the names of their classes.

    Attributes:
        classes: Names in the order of their mask indices 1..K.
        samples: The images, sorted by id, ids unique.
    """

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    _by_id: dict[str, Sample] | None = field(default=None, init=False, repr=False, compare=False)
    """Made when a sample is asked for: of very many it takes memory."""

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, sample_id: str) -> Sample:
        """The sample of this id.

        Raises:
            KeyError: No sample has this id.
        """
        by_id = self._by_id
        if by_id is None:
            by_id = {sample.id: sample for sample in self.samples}
            object.__setattr__(self, "_by_id", by_id)
        return by_id[sample_id]

    def subset(self, ids: Sequence[str]) -> Catalog:
        """The same classes with only these samples, in this catalog's order."""
        wanted = set(ids)
        return Catalog(self.classes, tuple(s for s in self.samples if s.id in wanted))
