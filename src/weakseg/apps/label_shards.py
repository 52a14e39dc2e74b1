"""Labelling images whatever holds them: files, what is fetched from URLs, shards."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from weakseg.apps.mask_shards import MaskRow, MasksAs, made_of, writing_masks
from weakseg.data.masks import mask_png
from weakseg.faults import Fault, FileError
from weakseg.predict import Labeler, Tags
from weakseg.sources.image_shards import ImageShard, ShardImage, read_shard
from weakseg.sources.named_images import NamedImage
from weakseg.types import DataError

FILES_TOGETHER = 1000
"""Images that are files whose masks go into one shard."""


@dataclass(frozen=True)
class LabeledImage:
    """What became of one image.

    Attributes:
        number: Its place among the images that were given.
        image: The image.
        mask: uint8 [H,W]; None if it cannot be read.
        maps: As `Labeled` has them, if they were asked for.
        fault: Why it cannot be read, or None.
    """

    number: int
    image: ShardImage
    mask: Tensor | None
    maps: Tensor | None
    fault: Fault | None


def label_each(
    labeler: Labeler,
    images: Iterable[ShardImage],
    tags: Sequence[Tags] | None = None,
    *,
    maps: bool = False,
) -> Iterator[LabeledImage]:
    """The masks of any number of images, as they are ready.

    What is not a file is one for as long as it is read, so that the same decoders see all.

    Args:
        labeler: The model at work.
        images: Taken a few hundred at a time.
        tags: For each image the classes that may be in it, see `Labeler.stream`.
        maps: Whether to give class probabilities, too.

    Raises:
        DataError: `images` does, or a tag is no class of the model.
    """
    given: dict[int, tuple[int, ShardImage, Path]] = {}
    bad: deque[LabeledImage] = deque()
    allowed: deque[Tags] = deque()
    with tempfile.TemporaryDirectory(prefix="weakseg-") as folder:

        def files() -> Iterator[Path]:
            count = 0
            for number, image in enumerate(images):
                if image.fault is not None:
                    bad.append(LabeledImage(number, image, None, None, image.fault))
                    continue
                path = image.path or Path(folder, str(number))
                if image.path is None:
                    path.write_bytes(image.data or b"")
                kept = ShardImage(image.given, image.name, image.where, image.path)
                given[count] = number, kept, path
                count += 1
                if tags is not None:
                    allowed.append(tags[number])
                yield path

        def names() -> Iterator[Tags]:
            while allowed:
                yield allowed.popleft()

        for labeled in labeler.stream(files(), None if tags is None else names(), maps=maps):
            while bad:
                yield bad.popleft()
            number, image, path = given.pop(labeled.number)
            if image.path is None:
                path.unlink()
            fault = None if labeled.error is None else _fault(labeled.error, image)
            yield LabeledImage(number, image, labeled.mask, labeled.maps, fault)
        yield from bad


def _fault(error: FileError, image: ShardImage) -> Fault:
    return Fault(
        kind=error.kind,
        file=image.where,
        found=error.found,
        remedy=error.remedy,
        samples=(image.given,),
    )


def shards_of(images: Sequence[NamedImage]) -> list[ImageShard]:
    """Images that are files, some together, for masks that are kept in shards."""
    starts = range(0, len(images), FILES_TOGETHER)
    return [
        ImageShard("", f"part-{n:05}", tuple(images[start : start + FILES_TOGETHER]))
        for n, start in enumerate(starts)
    ]


def is_labelled(shard: ImageShard, out: Path, kind: MasksAs) -> bool:
    """Whether the masks of this very shard are there."""
    there = made_of(out, shard.target, kind)
    try:
        return there is not None and bool(there == shard.made_of())
    except DataError:  # it is told when it is read
        return False


def label_shard(
    labeler: Labeler, shard: ImageShard, out: Path, kind: MasksAs
) -> tuple[int, list[Fault]]:
    """Writes the masks of a shard's images, in its order; see `writing_masks`.

    Args:
        labeler: The model at work.
        shard: The images.
        out: The folder of results.
        kind: How the masks are kept.

    Returns:
        How many masks were made, and the faults of images that could not be read; or the fault of
        a shard that cannot be read, of which nothing is written.

    Raises:
        ConfigError: A package is missing that the shard needs.
        RunError: The masks cannot be written.
    """
    made, faults, ready = 0, list[Fault](), dict[int, tuple[MaskRow, Fault | None]]()
    following = 0
    try:
        with writing_masks(out, shard.target, kind, shard.made_of()) as add:
            for one in label_each(labeler, read_shard(shard)):
                mask = None if one.mask is None else mask_png(one.mask, labeler.class_names)
                told = None if one.fault is None else f"{one.fault.found}; {one.fault.remedy}"
                row = MaskRow(one.image.given, one.image.name, mask, told)
                ready[one.number] = row, one.fault
                while following in ready:
                    row, fault = ready.pop(following)
                    following += 1
                    add(row)
                    made += row.mask is not None
                    faults += [fault] if fault else []
    except DataError as error:
        where = shard.address or shard.target
        found = str(error).removeprefix(f"{where}: ")
        remedy = "replace it, and give the same command again"
        return 0, [Fault(kind="image_format", file=where, found=found, remedy=remedy)]
    return made, faults
