"""Label Studio's addresses of images, and the images that they lead to."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from weakseg.data.decode import SUFFIXES
from weakseg.sources.annotation_files import images_of
from weakseg.sources.image_index import Listing, Missing
from weakseg.sources.name_index import plain_name, without_suffix

_HASHED = re.compile(r"[0-9a-f]{8}-(?=.)")


def is_address(value: Any) -> bool:
    """Whether a value may be the address of an image file."""
    if not isinstance(value, str) or len(value) > 4096:
        return False
    return PurePosixPath(plain_name(value)).suffix.lower() in SUFFIXES


def names_at(address: str) -> list[str]:
    """Names of the image at an address: its path, the last of it, that without an upload's hash."""
    path = plain_name(address).lstrip("/")
    last = path.rpartition("/")[2]
    plain = _HASHED.sub("", last, count=1) if _HASHED.match(last) else last
    return list(dict.fromkeys(name for name in (path, last, plain) if name))


class Finder:
    """Finds the image of an address."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._valid: dict[str, list[Path]] = {}
        for paths in listing.images.values():
            for path in paths:
                self._valid.setdefault(_valid_name(path.name), []).append(path)

    def __call__(self, address: str) -> tuple[str, list[Path], Missing | None]:
        """The id, the files, or why there are none; see `images_of`."""
        names = names_at(address)
        if not names:
            return (
                "",
                [],
                Missing("image_missing", "a task without an image", "export the tasks anew"),
            )
        sample_id, images, missing = images_of(self._listing, names[:1], address)
        if missing is None or missing.kind == "duplicate_name":
            return sample_id, images, missing
        missing = Missing("image_missing", f"there is no image {address!r}", "add the image")
        for name in names[1:]:
            path = self._listing.resolve(name, hint=False)[1]
            same = self._valid.get(_valid_name(name), [])
            if not isinstance(path, Path) and len(same) == 1:
                path = same[0]
            if isinstance(path, Path):
                self._listing.elsewhere.setdefault(address, path)
                return self._listing.id_of(path), [path], None
            if path.kind == "duplicate_name":
                return without_suffix(name), [], path
        return without_suffix(names[-1]), [], missing


def _valid_name(name: str) -> str:
    """A file's name as an upload keeps it: spaces become `_`, other signs go."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
