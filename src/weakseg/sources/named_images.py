"""Images named on a command line: files, folders and patterns, each with a name for its result."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from weakseg.data.decode import SUFFIXES
from weakseg.sources.image_index import scan
from weakseg.types import DataError


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image file and what to call its result.

    Attributes:
        path: The file.
        name: Its path below the folder that was given (of a file given by itself, its name),
            without suffix, with `/` between its parts.
    """

    path: Path
    name: str


def find_images(paths: Sequence[Path | str], *, outside: Path) -> list[NamedImage]:
    """The images that files, folders (with their sub-folders) and patterns stand for.

    Folders are searched as those of a source are: hidden files, truth (`masks`) and
    annotations are passed over. Patterns may hold `*`, `?`, `[…]` and `**`; a file of exactly that
    name comes first.

    Args:
        paths: What was named.
        outside: Images below this folder are left out: it is where results go.

    Returns:
        The images in the order in which they were named, folders sorted, each once.

    Raises:
        DataError: Something does not exist or holds no image, or two images have the same name.
    """
    found: dict[Path, NamedImage] = {}
    names: dict[str, Path] = {}
    hidden = outside.resolve()
    for one in paths:
        images = [
            image for image in _images(Path(one)) if not image.path.resolve().is_relative_to(hidden)
        ]
        if not images:
            raise DataError(f"{one}: there is no such file, or no image below such a folder")
        for image in images:
            if image.path.absolute() in found:
                continue
            other = names.setdefault(image.name, image.path)
            if other is not image.path:
                raise DataError(
                    f"{image.path}: its mask would overwrite that of {other}; rename one of them, "
                    "give the folder that holds both, or label them into two folders"
                )
            found[image.path.absolute()] = image
    return list(found.values())


def _images(named: Path) -> Iterator[NamedImage]:
    if named.is_dir():
        yield from _below(named, named)
    elif named.exists():
        yield NamedImage(named, _name(named.name))
    elif glob.has_magic(str(named)):
        constant = next(i for i, part in enumerate(named.parts) if glob.has_magic(part))
        root = Path(*named.parts[:constant])
        for match in sorted(root.glob(str(Path(*named.parts[constant:])))):
            if any(part.startswith(".") for part in match.relative_to(root).parts):
                continue
            if match.is_dir():
                if named.name != "**":
                    yield from _below(match, root)
            elif match.suffix.lower() in SUFFIXES and match.is_file():
                yield NamedImage(match, _name(match.relative_to(root).as_posix()))


def _below(folder: Path, root: Path) -> Iterator[NamedImage]:
    everywhere = Path(folder.resolve().anchor)  # links may lead anywhere: files are only read
    for paths in scan(folder, everywhere).images.values():
        for path in paths:
            yield NamedImage(path, _name(path.relative_to(root).as_posix()))


def _name(relative: str) -> str:
    path = Path(relative)
    kept = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return normalize("NFC", kept.as_posix())
