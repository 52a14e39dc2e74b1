"""What a YOLO data set is made of: class names and parts, by `data.yaml`, `obj.data` or lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.faults import Fault, FaultKind, listed
from weakseg.plain_yaml import PlainYamlError, parse_yaml
from weakseg.sources.annotation_files import ends, files_below
from weakseg.sources.image_index import Listing, Missing
from weakseg.sources.text import read_list
from weakseg.types import DataError

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels.names")
"""Lists of class names that tools write, in the order in which they are looked for."""

_YAML = (".yaml", ".yml")
_DARKNET = ".data"
_LARGEST = 1 << 20  # bytes of a configuration
_NUMBER = re.compile("[0-9]{1,9}")
_PARTS = ("train", "val", "valid", "test")


@dataclass
class Config:
    """What a data set is made of.

    Attributes:
        file: What tells it.
        folder: Where the data set is.
        names: Class numbers and names.
        parts: The parts, each with the folders and lists of its images that are there.
        pose: Whether label files hold key points.
        problems: What leaves nothing to read.
        faults: What else is wrong, and notes.
    """

    file: Path
    folder: Path
    names: tuple[tuple[int, str], ...] = ()
    parts: dict[str, list[Path]] = field(default_factory=dict)
    pose: bool = False
    problems: list[Fault] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def members(self, listing: Listing) -> dict[str, frozenset[Path]]:
        """The images of each part.

        Args:
            listing: All images below the folder.
        """
        return {name: frozenset(self._images(name, listing)) for name in self.parts}

    def take_names(self) -> None:
        """Takes the class names from the lists that other tools write."""
        found = [
            path
            for name in NAME_FILES
            for path in files_below(self.folder, name)
            if path.name.casefold() == name
        ]
        told: dict[tuple[tuple[int, str], ...], Path] = {}
        for path in found:
            told.setdefault(self._name_list(path), path)
        if len(told) > 1:
            files = listed([str(path.relative_to(self.folder)) for path in told.values()])
            self._problem(found[0], f"{files} name different classes", "keep the right one")
        elif not told:
            self._problem(
                self.folder,
                "label files of YOLO, but nothing that names their classes",
                "name the folder that has data.yaml, or write the names into classes.txt in the "
                "order of their numbers",
            )
        for names, path in told.items():
            self.names, self.file = names, path

    def compare_lists(self) -> None:
        """Notes a `classes.txt` that names the classes in another order."""
        path = self.folder / NAME_FILES[0]
        if self.problems or not path.is_file():
            return
        told = [name for _, name in read_list(path)[0]]
        if told != [name for _, name in self.names]:
            self._fault(
                "annotation",
                path,
                f"names other classes, or in another order, than {self.file.name!r}, by which the "
                "class numbers are read",
                f"correct {self.file.name!r} if the numbers are those of {path.name!r}",
                note=True,
            )

    def _name_list(self, path: Path) -> tuple[tuple[int, str], ...]:
        lines, faults = read_list(path)
        self.faults += faults
        gaps = [
            number
            for (number, _), place in zip(lines, range(1, len(lines) + 1), strict=True)
            if number != place
        ]
        if gaps:
            self._problem(
                path,
                "an empty line among the class names, so that their numbers are unsure",
                "remove it, or name the class that belongs there",
            )
        if not lines:
            self._problem(path, "names no class", "write the names in the order of their numbers")
        return tuple(enumerate(name for _, name in lines))

    def _images(self, part: str, listing: Listing) -> Iterator[Path]:
        lost: list[str] = []
        for place in self.parts[part]:
            if place.is_dir():
                for paths in listing.images.values():
                    yield from (path for path in paths if path.is_relative_to(place))
                continue
            for _, line in read_list(place)[0]:
                target = listing.resolve(line, hint=False)[1]
                if isinstance(target, Missing):
                    lost.append(line)
                else:
                    yield target
        if lost:
            self._fault(
                "split",
                self.parts[part][0],
                f"{len(lost)} lines name no image: {listed(lost, 2)}",
                "add the images, or remove the lines",
            )

    def _problem(self, file: Path, found: str, remedy: str) -> None:
        self.problems.append(Fault(kind="annotation", file=str(file), found=found, remedy=remedy))

    def _fault(
        self, kind: FaultKind, file: Path, found: str, remedy: str, *, note: bool = False
    ) -> None:
        self.faults.append(
            Fault(
                kind=kind,
                file=str(file),
                found=found,
                remedy=remedy,
                severity="note" if note else "fault",
            )
        )


def config_file(source: Path) -> Path | None:
    """The `data.yaml` or `obj.data` of a source: itself, or in the folder.

    Raises:
        DataError: There are several.
    """
    if source.is_file():
        return source if _tells_classes(source) else None
    files = [path for path in sorted(source.iterdir()) if path.is_file() and _tells_classes(path)]
    usual = [path for path in files if path.stem.casefold() == "data"]
    found = usual or files
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{source}: has {names}; name the one to read as the source")
    return found[0] if found else None


def read_config(path: Path) -> Config:
    """Reads `data.yaml` or `obj.data`.

    Args:
        path: The file.

    Returns:
        What it says; `problems` where it cannot be used.
    """
    config = Config(path, path.parent)
    if path.suffix.lower() == _DARKNET:
        _read_darknet(config)
        return config
    try:
        content = parse_yaml(path.read_bytes())
    except PlainYamlError as error:
        reason = " ".join(str(error).split())[:120]
        config._problem(path, f"not YAML that can be read ({reason})", "correct the file")
        return config
    except OSError as error:
        config._problem(path, f"cannot be read ({error.strerror})", "make the file readable")
        return config
    if not isinstance(content, dict):
        config._problem(path, "not YAML of a data set", "write names, train and val into it")
        return config
    root = content.get("path")
    if isinstance(root, str) and (path.parent / root).is_dir():
        config.folder = (path.parent / root).resolve()
    config.pose = "kpt_shape" in content
    _take_yaml_names(config, content)
    for name in _PARTS:
        value = content.get(name)
        values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        _take_part(config, name, [str(item) for item in values])
    return config


def _tells_classes(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in (*_YAML, _DARKNET) or path.stat().st_size > _LARGEST:
        return False
    text = ends(path)
    if suffix == _DARKNET:
        return bool(re.search(rb"(?m)^\s*names\s*=", text))
    keys = {match.decode() for match in re.findall(rb"(?m)^['\"]?(\w+)['\"]?\s*:", text)}
    return "names" in keys and bool(keys & {*_PARTS, "nc"}) and "masks_dir" not in keys


def _take_yaml_names(config: Config, content: dict[str, Any]) -> None:
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        config._problem(config.file, "names is no list of classes", "list the class names")
        return
    pairs: list[tuple[int, str]] = []
    for key, name in names.items():
        number = int(key) if isinstance(key, str) and _NUMBER.fullmatch(key) else key
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            config._problem(config.file, f"the class number {number!r}", "number classes from 0")
        elif not isinstance(name, str | int) or isinstance(name, bool) or not str(name).strip():
            config._problem(
                config.file,
                f"the name of class {number} is read as {name!r} by the rules of YAML",
                "put the name into quotes",
            )
        else:
            pairs.append((number, str(name).strip()))
    config.names = tuple(sorted(pairs))
    told = [name for _, name in pairs]
    doubled = sorted({name for name in told if told.count(name) > 1})
    if doubled:
        config._fault(
            "annotation",
            config.file,
            f"several classes have the same name: {listed(doubled)}",
            "give each its own name, or leave one if they are the same",
        )
    count = content.get("nc")
    if isinstance(count, int) and count != len(pairs) and not config.problems:
        config._fault(
            "annotation",
            config.file,
            f"nc is {count}, but {len(pairs)} classes are named",
            "correct nc or names: class numbers may be shifted",
        )


def _read_darknet(config: Config) -> None:
    lines, faults = read_list(config.file)
    config.faults += faults
    pairs = [line.split("=", 1) for _, line in lines if "=" in line]
    values = {key.strip().casefold(): value.strip() for key, value in pairs}
    names = _locate(config, values.get("names", ""))
    if names is None or names.is_dir():
        found = f"names is {values.get('names', '')!r}, which is not here"
        config._problem(config.file, found, "put the list of class names beside it")
    else:
        config.names = config._name_list(names)
    for name in _PARTS:
        if name in values:
            _take_part(config, name, [values[name]])


def _take_part(config: Config, name: str, values: list[str]) -> None:
    places = [(value, _locate(config, value)) for value in values if value.strip()]
    there = [place for _, place in places if place is not None]
    if there:
        config.parts[name] = there
    for value, place in places:
        if place is None:
            config._fault(
                "split",
                config.file,
                f"{name} is {value!r}, which is not in {config.folder.name!r}",
                "nothing has to be done if that part is not wanted; else correct the path",
                note=True,
            )


def _locate(config: Config, value: str) -> Path | None:
    """A folder or list of the data set by a path that may be of another place.

    Roboflow writes `../train/images` of a folder below; others write absolute paths. So the longest
    end of the path that is in the folder is taken.
    """
    parts = [part for part in value.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for first in range(len(parts)):
        place = config.folder.joinpath(*parts[first:])
        if place.exists():
            return place
    return None
