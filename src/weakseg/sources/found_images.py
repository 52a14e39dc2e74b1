"""What a command line names: images one by one, or shards, which are files that hold many."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weakseg.data.decode import SUFFIXES
from weakseg.sources.addresses import below_url, is_url, root_parts, url_parts
from weakseg.sources.image_index import scan
from weakseg.sources.image_lists import LISTS, named_urls, read_image_list
from weakseg.sources.image_shards import SHARDS, ImageShard, shard_stem
from weakseg.sources.named_images import NamedImage, stem
from weakseg.types import DataError


@dataclass(frozen=True)
class FoundImages:
    """What was found; one of both is empty.

    Attributes:
        images: Images that are files, in the order in which they were named, each once.
        shards: Files that hold many images, as Parquet files and tars.
    """

    images: list[NamedImage]
    shards: list[ImageShard]


def find_all(paths: Sequence[Path | str], *, outside: Path) -> FoundImages:
    """The images that files, folders, patterns, lists and URLs stand for.

    Args:
        paths: What was named. A folder that holds Parquet files or tars stands for these.
        outside: Files below this folder are left out: it is where results go.

    Raises:
        ConfigError: A package is missing that a URL needs.
        DataError: Something does not exist or holds no image, two results would have the same
            name, or there are both: shards, and images that are files.
    """
    shards: dict[str, ImageShard] = {}
    others: list[Path | str] = []
    for one in paths:
        found = list(_shards(one, outside.resolve()))
        if not found:
            others.append(one)
        for shard in found:
            if shards.setdefault(shard.target, shard).address != shard.address:
                raise DataError(
                    f"{shard.address}: its masks would overwrite those of "
                    f"{shards[shard.target].address}; give the folder that holds both, or label "
                    "them into two folders"
                )
    if shards and others:
        raise DataError(
            f"{others[0]} holds no Parquet file and no tar, but other arguments do; label files "
            "that are images and files that hold many into two folders"
        )
    return FoundImages([] if shards else find_images(paths, outside=outside), [*shards.values()])


def find_images(paths: Sequence[Path | str], *, outside: Path) -> list[NamedImage]:
    """The images that files, folders (with their sub-folders), patterns, lists and URLs stand for.

    Folders are searched as those of a source are: hidden files, truth (`masks`) and
    annotations are passed over. Patterns may hold `*`, `?`, `[…]` and `**`; a file of exactly that
    name comes first. Lists are described at `read_image_list`.

    Args:
        paths: What was named.
        outside: Images below this folder are left out: it is where results go.

    Returns:
        The images in the order in which they were named, folders sorted, each once.

    Raises:
        ConfigError: A package is missing that a URL needs.
        DataError: Something does not exist or holds no image, or two images have the same name.
    """
    found: list[NamedImage] = []
    names: dict[str, str] = {}
    known: set[str] = set()
    for one in paths:
        is_empty = True
        for image in _images(one, outside.resolve()):
            is_empty = False
            if image.address in known:
                continue
            known.add(image.address)
            found.append(image)
            other = names.setdefault(image.name, image.address)
            if other != image.address:
                raise DataError(
                    f"{image.address}: its mask would overwrite that of {other}; rename one of "
                    "them, give the folder that holds both, or label them into two folders"
                )
        if is_empty:
            raise DataError(f"{one}: there is no such file, or no image in such a folder or list")
    return found


def _images(one: Path | str, hidden: Path) -> Iterator[NamedImage]:
    text = str(one)
    if text.lower().endswith(LISTS) and (is_url(text) or Path(text).is_file()):
        yield from read_image_list(text)
    elif is_url(text):
        yield from named_urls(text)
    else:
        for path, name in _local(Path(one), hidden):
            yield NamedImage(os.path.abspath(path), name)  # noqa: PTH100  a third of the time


def _local(named: Path, hidden: Path) -> Iterator[tuple[Path, str]]:
    """Image files and what to call their results."""
    if named.is_dir():
        yield from _below(named, named, hidden)
    elif named.exists():
        yield named, stem(named.name)
    elif glob.has_magic(str(named)):
        constant = next(i for i, part in enumerate(named.parts) if glob.has_magic(part))
        root = Path(*named.parts[:constant])
        for match in sorted(root.glob(str(Path(*named.parts[constant:])))):
            if any(part.startswith(".") for part in match.relative_to(root).parts):
                continue
            if match.is_dir():
                if named.name != "**":
                    yield from _below(match, root, hidden)
            elif (
                match.suffix.lower() in SUFFIXES
                and match.is_file()
                and not match.resolve().is_relative_to(hidden)
            ):
                yield match, stem(match.relative_to(root).as_posix())


def _below(folder: Path, root: Path, hidden: Path) -> Iterator[tuple[Path, str]]:
    real = folder.resolve()
    everywhere = Path(real.anchor)  # links may lead anywhere: files are only read
    may_be_hidden = hidden.is_relative_to(real) or real.is_relative_to(hidden)
    for paths in scan(folder, everywhere).images.values():
        for path in paths:
            if not (may_be_hidden and path.resolve().is_relative_to(hidden)):
                yield path, stem(path.relative_to(root).as_posix())


def _shards(one: Path | str, hidden: Path) -> Iterator[ImageShard]:
    """The shards that a path or URL names, or that are in such a folder."""
    text = str(one)
    if is_url(text):
        name = "".join(url_parts(text)[-1:])
        if Path(name).suffix.lower() in SUFFIXES or text.lower().endswith(LISTS):
            return
        root = root_parts(text)
        for url in below_url(text):
            if url.lower().endswith(SHARDS):
                parts = url_parts(url)
                below = parts[len(root) :] if parts[: len(root)] == root else parts
                yield ImageShard(url, shard_stem("/".join(below or parts[-1:])))
        return
    path = Path(one)
    if path.is_dir():
        for file in sorted(_walked(path)):
            if not file.resolve().is_relative_to(hidden):
                yield ImageShard(
                    str(file.absolute()), shard_stem(file.relative_to(path).as_posix())
                )
    elif path.is_file() and text.lower().endswith(SHARDS):
        yield ImageShard(str(path.absolute()), shard_stem(path.name))
    elif not path.exists() and glob.has_magic(text) and text.lower().endswith(SHARDS):
        constant = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        root_path = Path(*path.parts[:constant])
        for file in sorted(root_path.glob(str(Path(*path.parts[constant:])))):
            yield ImageShard(
                str(file.absolute()), shard_stem(file.relative_to(root_path).as_posix())
            )


def _walked(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SHARDS) and not name.startswith("."):
                yield Path(place, name)
