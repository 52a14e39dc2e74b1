"""The run directory, the only thing stages share.

RUN/config.yaml  catalog.json  <stage>/{fingerprint.json, …, done.json}; where the files of an image
lie in a stage is said by `weakseg.runs.image_files`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from weakseg.faults import unprintable
from weakseg.files import (
    is_part,
    is_running,
    read_json,
    sweep,
    sweep_here,
    write_atomic,
    write_long_json,
)
from weakseg.runs.file_lock import not_inherited, take_lock
from weakseg.runs.image_files import LAYOUT, make_shard_folders, needs_shard_folders
from weakseg.runs.processes import first_process
from weakseg.runs.stage_dir import EARLIER, StageDir
from weakseg.types import Catalog, RunError, Sample, is_sample_id

FORMAT = "weakseg-run-1"
"""Mark in `catalog.json` by which a folder is known to be a run directory."""

CATALOG, VALIDATION = "catalog.json", "catalog_val.json"
"""What the run is about, and the second split on which its segmentation network is tried."""

PLAN = "plan.yaml"
"""The plan that a run was begun with, if it was not begun with a preset."""

_OWN_NAMES = {"contents.json", ".lock", "traceback.txt", "truth", PLAN, LAYOUT}


_PathText = Annotated[str, Field(pattern=r"^[^\x00]*$")]


class _SampleRow(BaseModel):
    id: str
    image: _PathText
    tags: list[str]
    source_tags: list[str] | None = None
    mask: _PathText | None = None
    ignore_alpha: bool = False


class _CatalogRecord(BaseModel):
    classes: list[str]
    skipped: list[str] = []


def _checked_record(path: Path, record: dict[str, Any]) -> _CatalogRecord:
    try:
        return _CatalogRecord.model_validate(record)
    except ValidationError as error:
        raise _damaged(path, _told(error)) from None


class _LeanRow(NamedTuple):
    """A row that is as it must be; a million of those that check it fill the memory."""

    id: str
    image: str
    tags: tuple[str, ...]
    source_tags: tuple[str, ...] | None
    mask: str | None
    ignore_alpha: bool


_VALID = object()
"""What is left of a row that is as it must be where nobody needs it."""


def _lean() -> Callable[[dict[str, Any]], object]:
    """What the objects of a catalog's file become: rows lean, equal tags one."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def become(value: dict[str, Any]) -> object:
        if (row := _row(value)) is None:
            return value
        tags = tuple(row.tags)
        tags = known.setdefault(tags, tags)
        told = None if row.source_tags is None else tuple(row.source_tags)
        return _LeanRow(row.id, row.image, tags, told, row.mask, row.ignore_alpha)

    return become


def _checked_only(value: dict[str, Any]) -> object:
    return value if _row(value) is None else _VALID


def _mark_only(value: dict[str, Any]) -> object:
    return value if "format" in value else None


def _row(value: dict[str, Any]) -> _SampleRow | None:
    """The row that an object is; None: it is another object, or faulty."""
    if "id" not in value:
        return None
    try:
        return _SampleRow.model_validate(value)
    except ValidationError:
        return None


def _require_rows(path: Path, given: object) -> None:
    """Refuses a catalog whose samples are not as they must be."""
    if not isinstance(given, list):
        raise _damaged(path, "samples: expected a list")
    for number, row in enumerate(given):
        if row is not _VALID and not isinstance(row, _LeanRow):
            try:
                _SampleRow.model_validate(row)
            except ValidationError as error:
                raise _damaged(path, f"samples.{number}.{_told(error)}") from None


def _told(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def _damaged(path: Path, found: str) -> RunError:
    return RunError(f"{path} is damaged: {found}; remove it and give `weakseg run` again")


class RunDir:
    """A run's folder.

    Example:
        >>> run = RunDir("runs/cats")
        >>> stage = run.open_stage("cams", {"version": 1, "cams": {"scales": [1.0]}})
        >>> if not stage.done:
        ...     stage.finish({"images": 0})

    Attributes:
        path: The folder; need not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    def check(self) -> None:
        """Raises what `create` would, and makes nothing."""
        try:
            names = {entry.name for entry in self.path.iterdir()} - _OWN_NAMES
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from None
        strange = sorted(name for name in names if not is_part(Path(name)))
        if strange and not self.is_run:
            raise RunError(
                f"{self.path} is no run of weakseg and is not empty (it holds {strange[0]!r}); "
                "choose another --out"
            )

    def create(self) -> None:
        """Makes the folder, or takes an earlier run's.

        Raises:
            RunError: The folder holds other things than a run, or cannot be made.
        """
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> RunError:
        reason = error.strerror or str(error)
        return RunError(f"cannot use {self.path} as run directory: {reason}; choose another --out")

    @property
    def is_run(self) -> bool:
        """Whether the folder is a run of weakseg."""
        path = self.path / CATALOG
        return path.is_file() and read_json(path, _mark_only).get("format") == FORMAT

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of this run while the block runs.

        The lock ends with the process, however it ends. Only the first of several processes that
        one launcher started takes it.

        Raises:
            RunError: Another process works in this run.
        """
        if not first_process():
            yield
            return
        self.create()
        path = self.path / ".lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not take_lock(handle):
                holder = path.read_text(encoding="utf-8", errors="replace").strip()
                raise RunError(
                    f"{self.path} is in use by {holder or 'another process'}; "
                    "wait until it ends, or choose another --out"
                )
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            self._sweep()
            with not_inherited(handle):
                yield
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    def worker(self) -> str:
        """Who works in this run, as `process 123 on host`; empty if nobody does.

        The lock is not touched. Of a process on another machine, only its name is known.
        """
        try:
            text = (self.path / ".lock").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""
        found = re.fullmatch(r"process ([0-9]{1,9}) on (.+)", text)
        if found is None:
            return ""
        is_here = found.group(2) == socket.gethostname()
        return "" if is_here and not is_running(int(found.group(1))) else text

    def _sweep(self) -> None:
        """Removes what killed processes left; below finished stages nothing is left any more."""
        sweep_here(self.path)
        sweep(self.path / "truth")
        sweep(self.path / "review")
        for mark in self.path.glob("*/fingerprint.json"):
            if (mark.parent / "done.json").is_file():
                sweep_here(mark.parent)
            else:
                sweep(mark.parent)

    def save_config(self, text: str) -> None:
        """Writes the run's settings (YAML) to `config.yaml`."""
        write_atomic(self.path / "config.yaml", text.encode())

    def save_plan(self, text: str) -> None:
        """Writes the plan that the run follows (YAML) to `plan.yaml`."""
        write_atomic(self.path / PLAN, text.encode())

    def save_catalog(
        self,
        catalog: Catalog,
        *,
        source: Path | str,
        split: str | None = None,
        skipped: Sequence[str] = (),
        checked: str = "",
        name: str = CATALOG,
        uncorrected: Catalog | None = None,
    ) -> None:
        """Writes what the run is about to `catalog.json`.

        Args:
            catalog: The samples that are used.
            source: Where they come from.
            split: The source's split, if one was asked for.
            skipped: Ids of images left out because they are bad.
            checked: Hash of what was checked, by which an unchanged source is known again.
            name: The file: `CATALOG` or `VALIDATION`.
            uncorrected: The same samples with the tags of the source, where people corrected them.
        """
        if not self._has_stages() and needs_shard_folders(sample.id for sample in catalog):
            make_shard_folders(self.path)
        names = catalog.classes
        told = catalog if uncorrected is None else uncorrected
        if [sample.id for sample in told] != [sample.id for sample in catalog]:
            told = Catalog(names, tuple(told[sample.id] for sample in catalog))
        rows = (
            {
                "id": sample.id,
                "image": sample.image.absolute(),
                "tags": [names[tag] for tag in sorted(sample.tags)],
                **(
                    {"source_tags": [names[tag] for tag in sorted(first.tags)]}
                    if first.tags != sample.tags
                    else {}
                ),
                "mask": sample.mask and sample.mask.absolute(),
                **({"ignore_alpha": True} if sample.ignore_alpha else {}),
            }
            for sample, first in zip(catalog, told, strict=True)
        )
        write_long_json(
            self.path / name,
            {
                "format": FORMAT,
                "source": Path(source).absolute(),
                "split": split,
                "classes": names,
                "skipped": skipped,
                "checked": checked,
                "samples": rows,
            },
        )

    def _has_stages(self) -> bool:
        return any(self.path.glob("*/fingerprint.json"))

    def load_catalog(self, name: str = CATALOG, *, source_tags: bool = False) -> Catalog:
        """Reads `catalog.json`, or another file of its kind.

        Args:
            name: The file.
            source_tags: Whether the tags are those of the source, without people's corrections.

        Raises:
            RunError: There is none, or it is damaged.
        """
        path = self.path / name
        record = self._record(path, _lean())
        rows = record.pop("samples", None)
        _require_rows(path, rows)
        classes = _checked_record(path, record).classes
        index = {name: k for k, name in enumerate(classes)}
        samples: dict[str, Sample] = {}
        known: dict[frozenset[int], frozenset[int]] = {}
        rows.reverse()
        while rows:
            row = rows.pop()
            if not is_sample_id(row.id) or unprintable(row.id):
                found = f"{row.id!r} is no path below a folder"
                raise _damaged(path, f"a sample's id leaves the run: {found}")
            if row.id in samples:
                raise _damaged(path, f"two samples have the id {row.id!r}")
            if unknown := [
                tag for tag in (*row.tags, *(row.source_tags or ())) if tag not in index
            ]:
                raise _damaged(path, f"{row.id!r} has the tag {unknown[0]!r}, which is no class")
            told = row.source_tags if source_tags and row.source_tags is not None else row.tags
            tags = frozenset(index[tag] for tag in told)
            samples[row.id] = Sample(
                id=row.id,
                image=Path(row.image),
                tags=known.setdefault(tags, tags),
                mask=Path(row.mask) if row.mask else None,
                ignore_alpha=row.ignore_alpha,
            )
        return Catalog(tuple(index), tuple(samples.values()))

    def catalog_record(self, name: str = CATALOG) -> dict[str, Any]:
        """What `catalog.json` says besides samples: `source`, `split`, `classes`, `skipped`, ….

        Raises:
            RunError: There is none, or it is damaged.
        """
        path = self.path / name
        record = self._record(path, _checked_only)
        _require_rows(path, record.pop("samples", None))
        _checked_record(path, record)
        return {"skipped": [], **record}

    def _record(self, path: Path, become: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        if not path.is_file():
            raise RunError(f"{self.path} is no run of weakseg: it has no {path.name}")
        return read_json(path, become)

    def stage(self, name: str) -> StageDir:
        """The folder of a finished stage, to read from.

        Raises:
            RunError: The stage is not finished.
        """
        stage = StageDir(self.path / name)
        _ = stage.record
        return stage

    def open_stage(
        self,
        name: str,
        fingerprint: Mapping[str, object],
        *,
        force: bool = False,
        reviewed: bool = False,
        keep_networks: bool = False,
    ) -> StageDir:
        """Opens a stage's folder to write to.

        Args:
            name: The stage.
            fingerprint: All that its result depends on, nested.
            force: Whether results of another fingerprint may be removed. Only files of the kinds
                that weakseg writes are.
            reviewed: Whether results may be removed that differ by people's corrections alone.
            keep_networks: Whether the networks among those stay, as `EARLIER`.

        Returns:
            The folder; `.done` tells whether anything is left to do.

        Raises:
            RunError: The folder holds results of another fingerprint, or foreign files.
        """
        stage = StageDir(self.path / name)
        if stage.differs(fingerprint, force=force, reviewed=reviewed):
            goes_on = keep_networks and reviewed and stage.differs_by_review(fingerprint)
            if goes_on:
                stage.set_networks_aside()
            stage.empty(keep=EARLIER if goes_on else "")
        if not stage.holds(fingerprint):
            stage.write_json("fingerprint.json", fingerprint)
        return stage

    def check_stage(
        self,
        name: str,
        fingerprint: Mapping[str, object],
        *,
        force: bool = False,
        reviewed: bool = False,
        told: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Raises what `open_stage` would, and writes nothing.

        Args:
            name: The stage.
            fingerprint: All that its result depends on, nested.
            force: Whether results of another fingerprint may be removed.
            reviewed: As for `StageDir.differs`.
            told: What changed, in words, by keys of the fingerprint whose values are hashes.
        """
        StageDir(self.path / name).differs(fingerprint, force=force, reviewed=reviewed, told=told)
