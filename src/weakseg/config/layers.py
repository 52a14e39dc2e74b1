"""Settings laid over each other (preset, file, command line), checked, and written as YAML."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from weakseg.plain_yaml import PlainYamlError, parse_yaml
from weakseg.types import ConfigError

Model = TypeVar("Model", bound=BaseModel)

_LONGEST = 4_000_000
"""Most bytes of a file that are read; `parse_yaml` refuses what is longer than a million."""

_DEEPEST = 16
"""Most parts of a key; settings have at most four."""


@dataclass(frozen=True)
class Layer:
    """Some settings and where they come from.

    Attributes:
        values: Nested settings, as in YAML; later layers win over earlier ones.
        place: What to call this layer in an error, as `--set fit.epochs=5`.
    """

    values: Mapping[str, object]
    place: str


def read_layer(path: Path) -> Layer:
    """Reads a YAML file of settings.

    Raises:
        ConfigError: The file is missing, no YAML, or no mapping.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1).decode("utf-8-sig")
        values = parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; give a YAML file of settings") from None
    except PlainYamlError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise ConfigError(f"{where}: {error.found}; correct the file") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `section: …` lines, found {_shown(values)}")
    return Layer(values, str(path))


def assignment_layer(text: str) -> Layer:
    """Reads `section.key=value`; the value is YAML, as `fit.epochs=5` or `cams.scales=[0.5, 1]`.

    Raises:
        ConfigError: There is no `=` or no key, or the value is no YAML.
    """
    place = f"--set {_shortened(text)}"
    key, sign, value = text.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts) or len(parts) > _DEEPEST:
        raise ConfigError(f"{place}: expected section.key=value, as fit.epochs=5")
    try:
        nested: object = parse_yaml(value)
    except PlainYamlError as error:
        raise ConfigError(
            f"{place}: cannot read the value: {error.found}; put lists in [ ]"
        ) from None
    for part in reversed(parts):
        nested = {part: nested}
    assert isinstance(nested, dict)
    return Layer(nested, place)


def assemble(model: type[Model], layers: Sequence[Layer]) -> Model:
    """Lays settings over each other and checks them.

    Args:
        model: The pydantic model of all settings; nested models are sections.
        layers: What is set, the later over the earlier; what none sets has its default.

    Returns:
        The checked settings.

    Raises:
        ConfigError: A key is unknown or a value of the wrong kind; one line names them all.
    """
    merged: dict[str, Any] = {}
    places: dict[str, str] = {}
    for layer in layers:
        for path, value in _leaves(model, layer.values):
            _check_known(model, path, value, layer.place)
            section = merged
            for part in path[:-1]:
                if not isinstance(section.get(part), dict):
                    section[part] = {}
                section = section[part]
            section[path[-1]] = value
            places[".".join(path)] = layer.place
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("; ".join(_described(error, places))) from None


def _described(error: ValidationError, places: Mapping[str, str]) -> Iterator[str]:
    seen = set()
    for fault in error.errors(include_url=False):
        parts = [str(part) for part in fault["loc"]]
        # A choice of types adds the type's name to the place, an element its number: the key is
        # the longest start that was set.
        starts = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        key = next((start for start in starts if start in places), ".".join(parts))
        if key in seen:
            continue
        seen.add(key)
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if fault["type"] != "value_error":  # our own checks say what they got
            message += f", got {_shown(fault['input'])}"
        # A check of several settings together has the places of all of its section.
        below = {place for name, place in places.items() if name.startswith(f"{key}.")}
        where = places.get(key) or ", ".join(sorted(below))
        yield f"{key or 'settings'}: {message}" + (f" ({where})" if where else "")


def _shown(value: object) -> str:
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a field may hold: its own, or those of an optional or a choice."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for item in get_args(annotation):
            yield from _sections(item)


def _inside(models: Sequence[type[BaseModel]], name: str) -> list[type[BaseModel]]:
    return [
        section
        for model in models
        if name in model.model_fields
        for section in _sections(model.model_fields[name].annotation)
    ]


def _leaves(
    model: type[BaseModel], values: Mapping[str, object]
) -> Iterator[tuple[tuple[str, ...], object]]:
    def walk(
        models: Sequence[type[BaseModel]], values: Mapping[str, object], prefix: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], object]]:
        for name, value in values.items():
            path = (*prefix, str(name))
            inner = _inside(models, str(name))
            if isinstance(value, Mapping) and inner:
                yield from walk(inner, value, path)
            elif value is None and inner and prefix == ():
                continue  # `fit:` with nothing below it
            else:
                yield path, value

    yield from walk([model], values, ())


def _check_known(model: type[BaseModel], path: Sequence[str], value: object, place: str) -> None:
    models: Sequence[type[BaseModel]] = [model]
    for name in path[:-1]:
        models = _inside(models, name)
    if any(path[-1] in section.model_fields for section in models):
        return
    key = ".".join(path)
    while isinstance(value, Mapping) and len(value) == 1:  # an unknown section: what is below it?
        ((inner, value),) = value.items()
        key = f"{key}.{inner}"
    near = _nearest(list(all_keys(model)), key)
    hint = f"did you mean {near!r}?" if near else "--print-config shows all settings"
    raise ConfigError(f"unknown setting {key!r} ({place}); {hint}")


def _nearest(known: Sequence[str], key: str) -> str | None:
    """The known key that is spelt most alike, or that is the same below another section."""
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    ends = {name.rpartition(".")[2]: name for name in known}
    close = (
        difflib.get_close_matches(key, same, n=1, cutoff=0.0)
        or difflib.get_close_matches(key, known, n=1, cutoff=0.75)
        or [ends[end] for end in difflib.get_close_matches(last, ends, n=1, cutoff=0.75)]
    )
    return close[0] if close else None


def all_keys(model: type[BaseModel]) -> dict[str, str]:
    """All settings with their descriptions: `{"fit.epochs": "passes over the images", …}`.

    Sections are named too, as `fit`.
    """
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        keys[name] = field.description or ""
        for section in _sections(field.annotation):
            for inner, description in all_keys(section).items():
                keys[f"{name}.{inner}"] = description
    return keys


def to_yaml(settings: BaseModel) -> str:
    """All settings as YAML, each with its description as a comment; `read_layer` reads it back."""
    return "".join(_yaml_lines(settings, 0))


def _yaml_lines(settings: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    dumped = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        note = f"  # {field.description}" if field.description else ""
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:{note}\n"
            yield from _yaml_lines(value, depth + 1)
        else:
            # As an item of a list: a document of a scalar alone would end in `...`.
            text = yaml.safe_dump([dumped[name]], default_flow_style=True, width=10**6)
            text = text.strip().removeprefix("[").removesuffix("]")
            yield f"{indent}{name}: {text}{note}\n"
