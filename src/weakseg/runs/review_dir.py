"""What people said of a run's masks and tags: `RUN/review/`, every change kept.

RUN/review/entries/<id>.json   revisions of an image: state, tags, mask, who, when
RUN/review/masks/<id>.<digest>.png   their masks, named by their content; written once

A change adds a revision and names the one that it changed; none is ever removed. Undo and redo
only move `current`, so they outlive the program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from weakseg.data.images import read_mask
from weakseg.data.masks import mask_png
from weakseg.files import dump_json, read_json, sweep, write_atomic
from weakseg.runs.file_lock import brief_lock
from weakseg.runs.image_files import has_shard_folders, image_file, without_shard
from weakseg.types import DataError, RunError

REVIEW = "review"
"""The folder of a run that holds it."""

State = Literal["open", "accepted", "corrected", "rejected"]
"""`open`: nobody judged the mask; `accepted`, `corrected`: it is true; `rejected`: it is wrong."""

TRUE_STATES = frozenset(("accepted", "corrected"))
"""States in which a mask counts as truth."""


class ConflictError(RunError):
    """An image was changed by somebody else since it was read; nothing was written."""


class Revision(BaseModel):
    """What holds of an image after a change.

    Attributes:
        number: From 0, which is what the run had made.
        parent: The revision that was changed; None for number 0.
        state: Of the mask.
        tags: Names of the classes in the image.
        mask: Digest of the mask, see `ReviewDir.mask_file`.
        who: Who changed it.
        when: ISO 8601, UTC.
        action: What was done, in a word.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    parent: int | None = Field(ge=0)
    state: State
    tags: tuple[str, ...]
    mask: str = Field(pattern=r"^[0-9a-f]{16}$")
    who: str
    when: str
    action: str


class Review(BaseModel):
    """All revisions of an image.

    Attributes:
        format: What kind of file it is.
        id: The image.
        version: Counts every write, undo and redo included.
        current: The number of the revision that holds.
        revisions: By number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["weakseg-review-1"] = "weakseg-review-1"
    id: str
    version: int = Field(ge=1)
    current: int = Field(ge=0)
    revisions: tuple[Revision, ...]

    @model_validator(mode="after")
    def _linked(self) -> Review:
        if self.current >= len(self.revisions):
            raise ValueError(f"there is no revision {self.current}")
        for number, revision in enumerate(self.revisions):
            parent = revision.parent
            known = parent is None if number == 0 else parent is not None and parent < number
            if revision.number != number or not known:
                raise ValueError(f"revision {number} is out of order")
        return self

    @property
    def now(self) -> Revision:
        """The revision that holds."""
        return self.revisions[self.current]

    @property
    def original(self) -> Revision:
        """What the run had made."""
        return self.revisions[0]

    @property
    def next(self) -> int | None:
        """The revision that redo leads to: the youngest made from the current one."""
        made = [r.number for r in self.revisions if r.parent == self.current]
        return made[-1] if made else None


class ReviewDir:
    """The reviews of a run.

    Example:
        >>> reviews = ReviewDir(Path("runs/cats"), ("cat", "dog"))  # doctest: +SKIP
        >>> reviews.change("1", None, before, state="accepted", who="ann")  # doctest: +SKIP

    Attributes:
        path: The folder `RUN/review`; need not exist yet.
        classes: Names of classes 1..K, kept in every mask.
    """

    def __init__(self, run: Path, classes: Sequence[str]) -> None:
        self.path, self.classes = run / REVIEW, tuple(classes)

    def sweep(self) -> None:
        """Removes what killed processes left half written."""
        sweep(self.path)

    def ids(self) -> Iterator[str]:
        """The images that have a review, sorted."""
        root, shards = self.path / "entries", has_shard_folders(self.path.parent)
        files = (path.relative_to(root).as_posix() for path in root.rglob("*.json"))
        yield from sorted(
            (without_shard(name) if shards else name).removesuffix(".json") for name in files
        )

    def load(self, sample_id: str) -> Review | None:
        """The review of an image, or None.

        Raises:
            RunError: The file is damaged.
        """
        path = self._entry(sample_id)
        if not path.is_file():
            return None
        try:
            found = Review.model_validate(read_json(path))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "it"
            raise _damaged(path, f"{where}: {fault['msg']}") from None
        except RunError as error:
            raise _damaged(path, str(error).partition(": ")[2] or str(error)) from None
        if found.id != sample_id:
            raise _damaged(path, f"it is of {found.id!r}")
        return found

    def mask_file(self, sample_id: str, digest: str) -> Path:
        """Where a mask is."""
        return image_file(self.path.parent, f"{REVIEW}/masks", sample_id, f".{digest}.png")

    def mask(self, sample_id: str, digest: str) -> Tensor:
        """A mask uint8 [H,W], 255 where unknown.

        Raises:
            RunError: It is missing, or is not what was written.
        """
        path = self.mask_file(sample_id, digest)
        try:
            if _digest(path.read_bytes()) != digest:
                raise _damaged(path, "its content is not what was saved")
            return read_mask(path)
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from None
        except DataError as error:
            raise _damaged(path, str(error)) from None

    def change(
        self,
        sample_id: str,
        version: int | None,
        before: Callable[[], tuple[Sequence[str], Tensor]],
        *,
        who: str,
        action: str,
        state: State | None = None,
        tags: Sequence[str] | None = None,
        mask: Tensor | None = None,
    ) -> Review:
        """Adds a revision to an image and writes it at once, whole or not at all.

        Args:
            sample_id: The image.
            version: The version that the change was made from; None: there was no review.
            before: Gives the tags and the mask uint8 [H,W] that the run made; called for the
                first change of an image only.
            who: Who changes it.
            action: What is done, in a word.
            state: The new state; None: as it was.
            tags: The new tags; None: as they were.
            mask: The new mask; None: as it was.

        Returns:
            The review with the new revision.

        Raises:
            ConflictError: The image has another version by now; nothing is written.
            RunError: A file is damaged or cannot be written.
        """
        with brief_lock(self.path / ".lock"):
            found = self._at(sample_id, version)
            if found is None:
                names, made = before()
                revisions: tuple[Revision, ...] = (
                    Revision(
                        number=0,
                        parent=None,
                        state="open",
                        tags=tuple(names),
                        mask=self._write_mask(sample_id, made),
                        who="weakseg run",
                        when=_time(),
                        action="run",
                    ),
                )
            else:
                revisions = found.revisions
            last = revisions[found.current if found else 0]
            added = Revision(
                number=len(revisions),
                parent=last.number,
                state=state or last.state,
                tags=last.tags if tags is None else tuple(tags),
                mask=last.mask if mask is None else self._write_mask(sample_id, mask),
                who=who,
                when=_time(),
                action=action,
            )
            return self._save(sample_id, found, added.number, (*revisions, added))

    def undo(self, sample_id: str, version: int | None) -> Review:
        """Goes back to the revision before.

        Raises:
            ConflictError: The image has another version by now.
            RunError: There is nothing to undo.
        """
        return self._move(sample_id, version, lambda found: found.now.parent, "undo")

    def redo(self, sample_id: str, version: int | None) -> Review:
        """Goes forth to what was undone last.

        Raises:
            ConflictError: The image has another version by now.
            RunError: There is nothing to redo.
        """
        return self._move(sample_id, version, lambda found: found.next, "redo")

    def _move(
        self,
        sample_id: str,
        version: int | None,
        target: Callable[[Review], int | None],
        word: str,
    ) -> Review:
        with brief_lock(self.path / ".lock"):
            found = self._at(sample_id, version)
            number = None if found is None else target(found)
            if found is None or number is None:
                raise RunError(f"{sample_id}: there is nothing to {word}")
            return self._save(sample_id, found, number, found.revisions)

    def _at(self, sample_id: str, version: int | None) -> Review | None:
        found = self.load(sample_id)
        if (found.version if found else None) != version:
            raise ConflictError(
                f"{sample_id} was changed elsewhere since it was shown; look at it anew"
            )
        return found

    def _save(
        self, sample_id: str, found: Review | None, current: int, revisions: Sequence[Revision]
    ) -> Review:
        saved = Review(
            id=sample_id,
            version=found.version + 1 if found else 1,
            current=current,
            revisions=tuple(revisions),
        )
        write_atomic(self._entry(sample_id), dump_json(saved.model_dump(mode="json")))
        return saved

    def _write_mask(self, sample_id: str, mask: Tensor) -> str:
        data = mask_png(mask, self.classes)
        digest = _digest(data)
        path = self.mask_file(sample_id, digest)
        if not path.is_file() or _digest(path.read_bytes()) != digest:
            write_atomic(path, data)
        return digest

    def _entry(self, sample_id: str) -> Path:
        return image_file(self.path.parent, f"{REVIEW}/entries", sample_id, ".json")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _damaged(path: Path, found: str) -> RunError:
    return RunError(
        f"{path} is damaged: {found}; put back a copy, or remove the image's file in "
        f"{REVIEW}/entries to forget what was said of it"
    )
