"""Where the files of an image lie in a run, and what keeps folders from growing beyond measure.

Usually a file has its image's id: `masks/dog/001.png`. Where that would put more than `MOST_FILES`
files into one folder, a run is made with folders in between: `masks/shard-3f2/dog/001.png`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from weakseg.files import write_json

LAYOUT = "shard-folders.json"
"""The file of a run, or of a folder of labels, by which it is known to have shard folders."""

MOST_FILES = 100_000
"""Most images of one folder whose files lie in one folder, too; more make file systems slow."""

_SHARD = re.compile(r"shard-[0-9a-f]{3}/(.+)", re.DOTALL)


def image_file(run: Path, folder: str, sample_id: str, suffix: str) -> Path:
    """Where a file of an image lies.

    Args:
        run: The run's folder.
        folder: Which of its folders: `masks`, or deeper, `segment/round-1/labels`.
        sample_id: The image.
        suffix: What the file's name ends with: `.png`.

    Example:
        >>> image_file(Path("runs/cats"), "masks", "dog/001", ".png").as_posix()
        'runs/cats/masks/dog/001.png'
    """
    return run / folder / relative_file(sample_id, suffix, shards=has_shard_folders(run))


def relative_file(image_id: str, suffix: str, *, shards: bool) -> str:
    """The path of an image's file below its folder, with a shard folder or without.

    Example:
        >>> relative_file("dog/001", ".png", shards=True)
        'shard-754/dog/001.png'
    """
    if not shards:
        return f"{image_id}{suffix}"
    digest = hashlib.sha1(image_id.encode(errors="surrogateescape"), usedforsecurity=False)
    return f"shard-{digest.hexdigest()[:3]}/{image_id}{suffix}"


def without_shard(relative: str) -> str:
    """A path below a folder of images' files, as it would be without shard folders."""
    found = _SHARD.fullmatch(relative)
    return found.group(1) if found else relative


def has_shard_folders(run: Path) -> bool:
    """Whether a run, or a folder of labels, was made with shard folders."""
    return (run / LAYOUT).is_file()


def needs_shard_folders(ids: Iterable[str]) -> bool:
    """Whether files that have these names would be too many for a folder."""
    counts = Counter(image_id.rpartition("/")[0] for image_id in ids)
    return max(counts.values(), default=0) > MOST_FILES


def make_shard_folders(run: Path) -> None:
    """Notes that files lie in shard folders from now on; none may be there yet."""
    write_json(run / LAYOUT, {"shards": 4096, "by": "the first three digits of the id's SHA-1"})
