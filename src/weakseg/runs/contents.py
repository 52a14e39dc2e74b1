"""What is in the images and true masks of a run: hashes, kept so that files are read once.

Content decides whether a run's data are the same. A file is not read again while its size, its
times and its place on the disk are as they were when it was hashed. Among these is the time that
the system itself notes at any change (`ctime`), which programs that set a file's times back cannot
set: so other content is found even where size and time are the same. Windows has no such time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from heapq import merge
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from weakseg.faults import listed
from weakseg.files import read_json, write_long_json
from weakseg.processors import available_processors
from weakseg.types import Catalog, DataError, RunError, Sample

_log = logging.getLogger(__name__)

CONTENTS = "contents.json"
"""The file of a run that holds the hashes."""

_NEW_SECONDS = 3
"""A file that changed so shortly before it was hashed may change again within the same tick."""

_KINDS = ("images", "masks")


@dataclass(frozen=True)
class LeftOut:
    """An image that a run began with and could not read any more.

    Attributes:
        image: Its part of the hash of all images.
        truth: Its part of the hash of the true masks; empty if it has none.
        why: Where it was missed, and what was found.
        validation: Whether it is of the second split.
    """

    image: str
    truth: str
    why: str
    validation: bool = False


_BATCH = 1024
"""Files under way at once: a thread pool's note of one takes a thousand bytes."""


class Contents:
    """Hashes of the files of a run, and the images that it goes on without.

    A file is looked at once in the life of the object: what changes meanwhile is seen by the next.

    Args:
        path: Where hashes are kept; need not be there. None: nowhere.

    Raises:
        RunError: The file is damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        kept: Mapping[str, Any] = read_json(path) if path is not None and path.is_file() else {}
        self.before = {kind: _hashes(path, kept.get(kind, {})) for kind in _KINDS}
        self.left_out = _left_out(path, kept.get("left_out", {}))
        self._saved = (self.before, dict(self.left_out))
        self.now: dict[str, dict[str, str]] = {kind: {} for kind in _KINDS}
        """By id, of each file in one text: its state (size, times, place), and its content's hash.
        There may be millions."""

    def take(self, catalog: Catalog, progress: Callable[[int, int], None] | None = None) -> None:
        """Hashes all images and mask files that were not hashed before or have changed.

        Args:
            catalog: The samples.
            progress: Called as `progress(done, total)` where files have to be read.

        Raises:
            DataError: A file cannot be read.
        """
        unknown: list[tuple[str, Sample]] = []
        for sample in catalog:
            for kind in _KINDS:
                path = _file(kind, sample)
                if path is None or sample.id in self.now[kind]:
                    continue
                known = self.before[kind].get(sample.id)
                if known is not None and _split(known)[0] == _state(_stat(path)):
                    self.now[kind][sample.id] = known
                else:
                    unknown.append((kind, sample))
        _log.info("%d files to hash", len(unknown))
        done = 0
        with ThreadPoolExecutor(available_processors()) as pool:
            for start in range(0, len(unknown), _BATCH):
                batch = unknown[start : start + _BATCH]
                hashes = pool.map(lambda each: _hashed(_file(*each)), batch)
                for (kind, sample), found in zip(batch, hashes, strict=True):
                    self.now[kind][sample.id] = found
                    done += 1
                    if progress is not None:
                        progress(done, len(unknown))

    def image(self, sample: Sample) -> str:
        """The hash of a sample's image, which `take` has looked at."""
        return _split(self.now["images"][sample.id])[1]

    def mask(self, sample: Sample) -> str:
        """The hash of a sample's mask file, which `take` has looked at."""
        return _split(self.now["masks"][sample.id])[1]

    def save(self) -> None:
        """Keeps what was taken, in place of what was kept before."""
        if self.path is None or self._saved == (self.now, self.left_out):
            return
        left_out = {name: asdict(item) for name, item in self.left_out.items()}
        write_long_json(self.path, {**self.now, **({"left_out": left_out} if left_out else {})})
        self.before = {kind: dict(known) for kind, known in self.now.items()}
        self._saved = (self.before, dict(self.left_out))

    def lost(self, *, validation: bool = False) -> dict[str, LeftOut]:
        """What the run goes on without, of its own samples or of the second split's."""
        return {n: item for n, item in self.left_out.items() if item.validation == validation}

    def leave_out(
        self, catalog: Catalog, names: Iterable[str], why: str, *, validation: bool = False
    ) -> None:
        """Goes on without images of which the hash is known.

        They count in hashes of the run as they were, so that what is finished stays finished.

        Args:
            catalog: The samples as they were.
            names: Ids of those to leave out.
            why: Where they were missed, and what was found.
            validation: Whether they are of the second split.
        """
        for name in names:
            sample = catalog[name]
            mask = self.now["masks"].get(name) or self.before["masks"].get(name)
            image = self.now["images"].get(name) or self.before["images"][name]
            self.left_out[name] = LeftOut(
                _image_line(sample, _split(image)[1]),
                "" if mask is None else _truth_line(name, _split(mask)[1]),
                why,
                validation,
            )

    def without_lost(
        self,
        catalog: Catalog,
        before: Callable[[], Catalog],
        skipped: Iterable[str],
        *,
        validation: bool = False,
    ) -> Catalog:
        """The samples that a run goes on with.

        Args:
            catalog: The samples that can be read now.
            before: Gives the samples that the run had; asked only if some cannot be read now, for
                of very many they fill the memory.
            skipped: Ids of those that cannot be read now.
            validation: Whether they are of the second split.
        """
        unread = list(skipped)
        if not unread and not self.left_out:
            return catalog
        have = {sample.id for sample in catalog}
        if unread:
            known = before()
            had = {sample.id for sample in known} & self.before["images"].keys()
            lost = [name for name in unread if name in had and name not in have]
            # What the hash is now is that of the damaged file.
            for name in lost:
                self.now["images"].pop(name, None)
                self.now["masks"].pop(name, None)
            why = "when the run went on: it could not be read"
            self.leave_out(known, lost, why, validation=validation)
        if not self.left_out.keys() & have:
            return catalog
        return catalog.subset([name for name in have if name not in self.left_out])

    def changes(self, catalog: Catalog, before: Catalog) -> dict[str, str]:
        """What is not as it was when the hashes were kept, in words.

        Args:
            catalog: The samples now, which `take` has looked at.
            before: The samples then.

        Returns:
            What changed of images and tags (`catalog`) and of true masks (`truth`); nothing where
            nothing did, or is known of then.
        """
        then = {sample.id: sample for sample in before}
        now = {sample.id: sample for sample in catalog}
        common = then.keys() & now.keys()
        told = {
            "catalog": {
                "other classes": set(before.classes) ^ set(catalog.classes),
                "other content of the image": {n for n in common if self._differs("images", n)},
                "other tags": {
                    name
                    for name in common
                    if _tags(catalog, now[name]) != _tags(before, then[name])
                },
                "new images": now.keys() - then.keys(),
                "images not there any more": then.keys() - now.keys(),
            },
            "truth": {
                "other content of the true mask": {n for n in common if self._differs("masks", n)},
            },
        }
        texts = {
            key: "; ".join(
                f"{what}: {listed(sorted(names))}" for what, names in found.items() if names
            )
            for key, found in told.items()
        }
        return {key: text for key, text in texts.items() if text}

    def _differs(self, kind: str, name: str) -> bool:
        before, now = self.before[kind].get(name), self.now[kind].get(name)
        return bool(before and now and _split(before)[1] != _split(now)[1])


def _file(kind: str, sample: Sample) -> Path | None:
    return sample.image if kind == "images" else sample.mask


def _tags(catalog: Catalog, sample: Sample) -> list[str]:
    return sorted(catalog.classes[tag] for tag in sample.tags)


def catalog_digest(
    catalog: Catalog,
    contents: Contents | None = None,
    left_out: Mapping[str, LeftOut] = MappingProxyType({}),
) -> str:
    """A hash of what a result depends on: classes, ids, tags, and each image's content.

    Args:
        catalog: The samples.
        contents: Hashes of their files; None: they are read.
        left_out: Images that count besides.

    Raises:
        DataError: An image cannot be read.
    """
    contents = contents or Contents()
    contents.take(catalog)
    sha = hashlib.sha256("\n".join(catalog.classes).encode())
    own = (
        (sample.id, _image_line(sample, contents.image(sample)))
        for sample in sorted(catalog, key=attrgetter("id"))
        if sample.id not in left_out
    )
    others = sorted((name, item.image) for name, item in left_out.items())
    for _, line in merge(own, others):  # of very many images not all lines at once
        sha.update(line.encode())
    return sha.hexdigest()[:16]


def truth_digest(
    catalog: Catalog,
    contents: Contents | None = None,
    left_out: Mapping[str, LeftOut] = MappingProxyType({}),
) -> str:
    """A hash of the true masks' content.

    Args:
        catalog: The samples.
        contents: Hashes of their files; None: they are read.
        left_out: Images that count besides.

    Raises:
        DataError: A mask cannot be read.
    """
    contents = contents or Contents()
    contents.take(catalog)
    lines = {name: item.truth for name, item in left_out.items()}
    for sample in catalog:
        if sample.mask is not None:
            lines[sample.id] = _truth_line(sample.id, contents.mask(sample))
        elif sample.annotation is not None:
            lines[sample.id] = _truth_line(sample.id, sample.annotation.digest())
    sha = hashlib.sha256()
    for _, line in sorted(lines.items()):
        sha.update(line.encode())
    return sha.hexdigest()[:16]


def _image_line(sample: Sample, content: str) -> str:
    tags = ",".join(map(str, sorted(sample.tags)))
    alpha = "|no alpha" if sample.ignore_alpha else ""
    return f"{sample.id}|{tags}|{content}{alpha}\n"


def _truth_line(name: str, content: str) -> str:
    return f"{name} {content}\n"


def _state(found: os.stat_result) -> str:
    """What changes when a file does: size, times, place on the disk."""
    return f"{found.st_size} {found.st_mtime_ns} {_changed(found)} {found.st_ino}"


def _changed(found: os.stat_result) -> int:
    """When the system last changed a file, in nanoseconds; on Windows, when it was written."""
    return found.st_mtime_ns if os.name == "nt" else found.st_ctime_ns


def _split(text: str) -> tuple[str, str]:
    """A file's state when it was hashed, and the hash of its content."""
    state, _, content = text.rpartition(" ")
    return state, content


def _hashed(path: Path | None) -> str:
    assert path is not None  # files that are not there are not unknown
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise _unreadable(path, error) from None
    is_new = _changed(found) > time.time_ns() - _NEW_SECONDS * 10**9
    return f"{'new' if is_new else _state(found)} {content}"


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {path}: {error.strerror}")


def _hashes(path: Path | None, kept: object) -> dict[str, str]:
    if isinstance(kept, dict) and all(isinstance(t, str) and " " in t for t in kept.values()):
        return kept
    raise RunError(f"{path} is damaged; remove it: files are then read anew")


def _left_out(path: Path | None, kept: object) -> dict[str, LeftOut]:
    try:
        return {name: LeftOut(**item) for name, item in kept.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        raise RunError(f"{path} is damaged; remove it: files are then read anew") from None
