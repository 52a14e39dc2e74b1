"""A stage's folder: fingerprint, whole files, and `done.json` last.

A stage's fingerprint names all that its result depends on. The same fingerprint with `done.json`:
the stage is skipped. The same without: it goes on where it stopped. Another: refused, or forced.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.files import dump_json, is_part, plain, read_json, sweep, write_atomic
from weakseg.runs.image_files import image_file
from weakseg.runs.stage_progress import PROGRESS
from weakseg.types import RunError

if TYPE_CHECKING:
    import numpy as np

_WRITTEN = {".npz", ".png", ".json", ".jsonl", ".safetensors", ".txt", ".html", ".csv", ".tmp"}
_ABSENT = "(absent)"
EARLIER = "earlier-"
"""What names of networks begin with that a stage ended with before people corrected something."""
_SPENT = "spent.json"
"""Seconds that interrupted calls spent on a stage."""


def fingerprint_hash(fingerprint: Mapping[str, object]) -> str:
    """A short hash of a nested fingerprint, the same for the same content in any order of keys."""
    text = json.dumps(plain(fingerprint), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def changed_keys(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Where two nested mappings differ, one line a key: `fit.epochs: 5 → 6`."""
    before, after = dict(_flat(plain(old))), dict(_flat(plain(new)))
    return [
        f"{key}: {before.get(key, _ABSENT)} → {after.get(key, _ABSENT)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and (value or not prefix):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


class StageDir:
    """A stage's folder: what was written there, and whether it is finished.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._seconds = 0.0

    def __repr__(self) -> str:
        return f"StageDir({str(self.path)!r})"

    @property
    def done(self) -> bool:
        """Whether the stage is finished: its `done.json` is there."""
        return (self.path / "done.json").is_file()

    def holds(self, fingerprint: Mapping[str, object]) -> bool:
        """Whether the stage is finished, and with this fingerprint."""
        path = self.path / "fingerprint.json"
        return self.done and path.is_file() and not changed_keys(self.fingerprint, fingerprint)

    @property
    def record(self) -> dict[str, Any]:
        """All of `done.json`: `seconds`, `versions`, `fingerprint`, `summary`.

        Raises:
            RunError: The stage is not finished, or its record is damaged.
        """
        if not self.done:
            raise RunError(
                f"stage {self.path.name!r} is not finished in {self.path.parent}; "
                "give the same `weakseg run` command again to finish it"
            )
        record = read_json(self.path / "done.json")
        seconds = record.get("seconds")
        if not isinstance(seconds, int | float) or not isinstance(record.get("summary"), dict):
            raise RunError(
                f"{self.path / 'done.json'} is damaged; remove it and give the same `weakseg run` "
                "command again, which finishes the stage anew"
            )
        return record

    @property
    def summary(self) -> dict[str, Any]:
        """What the stage returned when it finished: counts, metrics."""
        summary: dict[str, Any] = self.record["summary"]
        return summary

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that this stage's result depends on."""
        return read_json(self.path / "fingerprint.json")

    def file(self, relative: str) -> Path:
        """The path of a file of this stage, as `dog/001.png`.

        Raises:
            ValueError: The path would leave the stage's folder.
        """
        parts = Path(relative)
        if not relative or parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"expected a path below {self.path}, got {relative!r}")
        return self.path / parts

    def image_file(self, sample_id: str, suffix: str, *, folder: str = "") -> Path:
        """The path of a file of an image, see `weakseg.runs.image_files`.

        Args:
            sample_id: The image.
            suffix: What the file's name ends with.
            folder: The folder below the stage's own.
        """
        where = f"{self.path.name}/{folder}" if folder else self.path.name
        return image_file(self.path.parent, where, sample_id, suffix)

    def write_bytes(self, relative: str, data: bytes) -> Path:
        """Writes a file whole or not at all and returns its path."""
        path = self.file(relative)
        write_atomic(path, data)
        return path

    def write_text(self, relative: str, text: str) -> Path:
        """Writes text in UTF-8."""
        return self.write_bytes(relative, text.encode())

    def write_json(self, relative: str, value: object) -> Path:
        """Writes JSON; numpy and torch values become numbers and lists, NaN becomes null."""
        return self.write_bytes(relative, dump_json(value))

    def write_npz(
        self, relative: str, compressed: bool = False, /, **arrays: np.ndarray[Any, Any]
    ) -> Path:
        """Writes named arrays, read again by `np.load(path)` without pickle."""
        import numpy as np  # noqa: PLC0415

        for name, array in arrays.items():
            if np.asarray(array).dtype.hasobject:
                raise ValueError(f"expected an array of numbers for {name!r}, got objects")
        buffer = io.BytesIO()
        save = np.savez_compressed if compressed else np.savez
        save(buffer, **arrays)  # type: ignore[arg-type]
        return self.write_bytes(relative, buffer.getvalue())

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of the work inside, interrupted calls included, for `done.json`."""
        spent = self.path / _SPENT
        before = _spent_before(spent)
        begun = time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(RunError):  # what ended the work is to be told, not this
                self.write_json(_SPENT, {"seconds": before + time.monotonic() - begun})
            raise
        self._seconds = before + time.monotonic() - begun
        spent.unlink(missing_ok=True)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Marks the stage as finished; nothing may be written after this.

        Args:
            summary: Counts and metrics to keep in `done.json`.
        """
        sweep(self.path)
        (self.path / PROGRESS).unlink(missing_ok=True)
        record = {
            "stage": self.path.name,
            "seconds": round(self._seconds, 3),
            "versions": _versions(),
            "fingerprint": fingerprint_hash(self.fingerprint),
            "summary": summary,
        }
        self.write_json("done.json", record)

    def differs(
        self,
        fingerprint: Mapping[str, object],
        *,
        force: bool,
        reviewed: bool = False,
        told: Callable[[], Mapping[str, str]] = dict,
    ) -> bool:
        """Whether results of another fingerprint are here that may be removed.

        Args:
            fingerprint: That of the results that are wanted.
            force: Whether any may be removed.
            reviewed: Whether those may that differ by people's corrections alone, or by results of
                stages that are made anew for them.
            told: What changed, in words, by keys of the fingerprint whose values are hashes.

        Raises:
            RunError: They may not be removed, or the folder holds foreign files.
        """
        if (self.path / "fingerprint.json").is_file():
            changed = changed_keys(self.fingerprint, fingerprint)
            force = force or (reviewed and self.differs_by_review(fingerprint))
            if changed and not force:
                words = told()
                keys = [line.partition(":")[0] for line in changed]
                lines = [words.get(key, line) for key, line in zip(keys, changed, strict=True)]
                what = "of other data" if words.keys() >= set(keys) else "with other settings"
                raise RunError(
                    f"stage {self.path.name!r} in {self.path.parent} was made {what} "
                    f"({'; '.join(lines)}); give --force to do it anew, or another --out"
                )
            return bool(changed)
        if self.path.is_dir() and any(not is_part(entry) for entry in self.path.iterdir()):
            raise RunError(
                f"{self.path} holds files that weakseg did not write; choose another --out"
            )
        return False

    def differs_by_review(self, fingerprint: Mapping[str, object]) -> bool:
        """Whether results are here that differ by people's corrections, and by nothing else."""
        if not (self.path / "fingerprint.json").is_file():
            return False
        changed = changed_keys(self.fingerprint, fingerprint)
        before, after = self.fingerprint.get("needs", {}), fingerprint.get("needs", {})
        expected = before.keys() == after.keys()  # type: ignore[attr-defined]
        own = ("review.", "needs.") if expected else ("review.",)
        return bool(changed) and all(key.startswith(own) for key in changed)

    def set_networks_aside(self) -> None:
        """Keeps what training ended with as `EARLIER`, where `empty` leaves it."""
        if not self.done:  # what an interrupted training would begin with is aside already
            return
        for path in self.path.rglob("*.safetensors"):
            if EARLIER not in path.name:
                path.replace(path.with_name(f"{EARLIER}{path.name}"))

    def empty(self, *, keep: str = "") -> None:
        """Removes all files of the kinds that weakseg writes, but for the fingerprint.

        Args:
            keep: What the names of files begin with that stay, too; nothing if empty.
        """
        # The mark goes last: a folder emptied by half is still known to be ours.
        (self.path / "done.json").unlink(missing_ok=True)
        for folder, _, names in os.walk(self.path, topdown=False):
            for name in names:
                file = Path(folder, name)
                kept = bool(keep) and name.startswith(keep)
                if file.suffix in _WRITTEN and file != self.path / "fingerprint.json" and not kept:
                    file.unlink()
            if Path(folder) != self.path and not any(Path(folder).iterdir()):
                Path(folder).rmdir()


def _spent_before(path: Path) -> float:
    """Seconds of interrupted calls; none if that cannot be read, for they are for information."""
    if not path.is_file():
        return 0.0
    try:
        seconds = read_json(path).get("seconds", 0)
    except RunError:
        return 0.0
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("weakseg", "torch", "timm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
