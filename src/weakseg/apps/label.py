"""Masks for new images as files: resumable, with a list of what could not be read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Literal, Unpack

from rich.console import Console

from weakseg.apps.cluster import Job, Work, map_on_ray
from weakseg.apps.label_folder import LabelFolder
from weakseg.apps.label_shards import is_labelled, label_each, label_shard, shards_of
from weakseg.apps.mask_shards import MASKS_AS, MasksAs
from weakseg.faults import Fault, listed
from weakseg.files import write_atomic
from weakseg.predict import Labeler, LabelOptions, model_folder
from weakseg.progress import track
from weakseg.runs.processes import first_process, gathered, own_share, wait_for_all
from weakseg.sources.found_images import find_all
from weakseg.sources.image_shards import TABLES, ImageShard, read_files
from weakseg.sources.name_index import NameIndex
from weakseg.sources.named_images import NamedImage
from weakseg.sources.tag_tables import read_tags
from weakseg.training.memory import kept_memory
from weakseg.types import ConfigError, DataError

_VERSION = 3  # raise it when the same model and image would give another mask


@dataclass(frozen=True)
class LabelSummary:
    """What became of the images.

    Attributes:
        out: Where the masks are.
        made: How many masks were made now.
        kept: How many were there already; of shards, how many shards' masks.
        bad: The images that could not be read.
        seconds: How long it took.
    """

    out: Path
    made: int
    kept: int
    bad: tuple[Fault, ...]
    seconds: float


Engine = Literal["here", "ray"]


def label_images(
    model: Path | str,
    images: Sequence[Path | str],
    out: Path | str,
    *,
    tags: Path | str | None = None,
    maps: bool = False,
    to: MasksAs | None = None,
    device: str = "auto",
    engine: Engine = "here",
    workers: int | None = None,
    console: Console | None = None,
    **options: Unpack[LabelOptions],
) -> LabelSummary:
    """Writes a mask for every image; see `weakseg.api.label`."""
    begun = time.monotonic()
    if to not in (None, *MASKS_AS):
        raise ConfigError(f"expected masks as {', '.join(MASKS_AS)}, got {to!r}")
    folder = LabelFolder(Path(out), maps)
    if first_process():
        folder.check()
    found = find_all(images, outside=folder.path)
    in_shards = bool(found.shards) or to not in (None, "png")
    if in_shards and (maps or tags is not None):
        what = found.shards[0].address if found.shards else f"--to {to}"
        raise DataError(
            f"{what}: maps are kept, and tags read, where images and masks are files; leave out "
            f"{'--maps' if maps else '--tags'}"
        )
    source = model_folder(model)
    labeler = Labeler.from_run(source, device, **options)
    named = found.images
    allowed = _tags_of(named, Path(tags), labeler) if tags is not None else [None] * len(named)
    if first_process():
        folder.open(
            {"model": _digest(source), "version": _VERSION, **labeler.settings},
            () if in_shards else (image.name for image in named),
        )
        names = "".join(f"{name}\n" for name in labeler.class_names)
        write_atomic(folder.path / "classes.txt", names.encode())
    wait_for_all()
    folder.read()
    work = _Work(folder, labeler, console if console and first_process() else Console(quiet=True))
    if engine == "ray":
        work.ray = partial(_worker, source, device, options, folder.path, maps=maps), workers
    if in_shards:
        made, kept, bad = work.shards(found.shards or shards_of(named), to)
    else:
        pairs = [pair for pair in zip(named, allowed, strict=True) if not folder.has(*pair)]
        made, kept, bad = work.images(pairs, len(named))
    made = sum(gathered(made))
    told = gathered([fault.model_dump() for fault in bad])
    faults = tuple(Fault.model_validate(fault) for part in told for fault in part)
    return LabelSummary(folder.path, made, kept, faults, time.monotonic() - begun)


Pair = tuple[NamedImage, tuple[str, ...] | None]
"""An image and its tags, where they are known."""


@dataclass
class _Work:
    """What is to be labelled where: here, or by Ray's workers."""

    folder: LabelFolder
    labeler: Labeler
    console: Console
    ray: tuple[Callable[[], Work], int | None] | None = None

    def images(self, pairs: Sequence[Pair], total: int) -> tuple[int, int, list[Fault]]:
        """Labels images; returns how many masks were made and kept, and the faults."""
        bad: dict[int, Fault] = {}
        kept = total - len(pairs)
        wait_for_all()  # all have seen what is there
        pairs = own_share(pairs)
        label = self._images_here if self.ray is None else self._images_on_ray
        with track(self.console, "label", kept + len(pairs), done=kept) as advance:
            for number, fault in label(pairs):
                if fault is not None:
                    bad[number] = fault
                advance()
        return len(pairs) - len(bad), kept, [bad[number] for number in sorted(bad)]

    def _images_here(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Fault | None]]:
        images, tags = (image for image, _ in pairs), [names for _, names in pairs]
        with kept_memory(), self.folder.writing(self.labeler.class_names) as write:
            for one in label_each(self.labeler, read_files(images), tags, maps=self.folder.maps):
                if one.mask is not None:
                    write(*pairs[one.number], one.mask, one.maps)
                yield one.number, one.fault

    def _images_on_ray(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Fault | None]]:
        assert self.ray is not None
        make, workers = self.ray
        jobs = (
            {"number": number, "address": image.address, "name": image.name, "tags": tags}
            for number, (image, tags) in enumerate(pairs)
        )
        with self.folder.recording() as record:
            for result in map_on_ray(make, jobs, batch=_BATCH, workers=workers):
                number, fault = result["number"], result["fault"]
                if fault is None:
                    record(self.folder.record_of(*pairs[number]))
                yield number, fault and Fault.model_validate(fault)

    def shards(
        self, shards: Sequence[ImageShard], to: MasksAs | None
    ) -> tuple[int, int, list[Fault]]:
        """Labels the images of shards; counts masks made, and shards kept."""
        total, made, bad = len(shards), 0, list[Fault]()
        pairs = [(shard, to or _as_it_comes(shard)) for shard in shards]
        missing = [pair for pair in pairs if not is_labelled(pair[0], self.folder.path, pair[1])]
        kept = total - len(missing)
        wait_for_all()  # all have seen what is there
        missing = list(own_share(missing))
        with track(self.console, "label", kept + len(missing), done=kept, unit="shards") as advance:
            for count, faults in self._shards(missing):
                made, bad = made + count, [*bad, *faults]
                advance()
        return made, kept, sorted(bad, key=lambda fault: str(fault.file))

    def _shards(
        self, pairs: Sequence[tuple[ImageShard, MasksAs]]
    ) -> Iterator[tuple[int, Sequence[Fault]]]:
        if self.ray is None:
            with kept_memory():
                for shard, to in pairs:
                    yield label_shard(self.labeler, shard, self.folder.path, to)
            return
        make, workers = self.ray
        jobs = ({"shard": asdict(shard), "to": to} for shard, to in pairs)
        for result in map_on_ray(make, jobs, batch=1, workers=workers, at_once=_SHARDS_AT_ONCE):
            yield result["made"], [Fault.model_validate(fault) for fault in result["faults"]]


def _as_it_comes(shard: ImageShard) -> MasksAs:
    return "parquet" if shard.address.lower().endswith(TABLES) else "tar"


_BATCH = 16
"""Images that a worker of Ray is given at once, and that are done again if it dies."""

_SHARDS_AT_ONCE = 1000
"""Shards that are handed to Ray at once: of files, each names a thousand."""


def _worker(model: Path, device: str, options: LabelOptions, out: Path, *, maps: bool) -> Work:
    """A worker's function: it labels images, or the images of shards."""
    labeler = Labeler.from_run(model, device, **options)
    folder = LabelFolder(out, maps)
    folder.classes = labeler.class_names

    def work(jobs: Sequence[Job]) -> list[Job]:
        return [on_shard(job) for job in jobs] if "shard" in jobs[0] else on_images(jobs)

    def on_shard(job: Job) -> Job:
        given = dict(job["shard"])
        files = tuple(NamedImage(**image) for image in given.pop("images"))
        made, faults = label_shard(labeler, ImageShard(**given, images=files), out, job["to"])
        return {"made": made, "faults": [fault.model_dump() for fault in faults]}

    def on_images(jobs: Sequence[Job]) -> list[Job]:
        images = [NamedImage(job["address"], job["name"]) for job in jobs]
        tags = [job["tags"] for job in jobs]
        results: list[Job] = []
        for one in label_each(labeler, read_files(images), tags, maps=maps):
            if one.mask is not None:
                folder.write_mask(images[one.number], one.mask, one.maps)
            fault = one.fault and one.fault.model_dump()
            results.append({"number": jobs[one.number]["number"], "fault": fault})
        return results

    return work


def _digest(folder: Path) -> str:
    """A hash of a model's files."""
    sha = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        with (folder / name).open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()[:16]


def _tags_of(
    found: Sequence[NamedImage], path: Path, labeler: Labeler
) -> list[tuple[str, ...] | None]:
    """The tags that a tags file has for each image."""
    file = read_tags(path)
    faults = [*file.fatal, *(fault for fault in file.faults if fault.severity == "fault")]
    if faults:
        raise DataError(str(faults[0]))
    index = NameIndex(found, name=lambda image: f"{image.name}{PurePath(image.address).suffix}")
    known: dict[str, tuple[str, ...]] = {}
    for row in file.rows:
        labeler.allowed(row.tags)
        names = {image.name for image in index.find(row.image).items}
        if len(names) > 1:
            raise DataError(
                f"{path}:{row.line}: {row.image!r} may be any of {listed(sorted(names))}; name the "
                "image by its path below the folder and with its suffix"
            )
        for name in names:
            if known.setdefault(name, row.tags) != row.tags:
                raise DataError(
                    f"{path}:{row.line}: {name!r} is named twice, with other tags; put all its "
                    "tags into one row"
                )
    missing = [image for image in found if image.name not in known]
    if missing:
        raise DataError(
            f"{path} has no row for {missing[0].address}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; add rows that name "
            "images by their path below the folder, or leave out --tags"
        )
    return [known[image.name] for image in found]
