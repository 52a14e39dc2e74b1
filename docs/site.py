"""What the site holds beyond the pages of `docs/`: settings, figures, examples; called by mkdocs.

Links are written as they are right in the repository; `on_page_markdown` makes them right on the
site, where `docs/` is the top.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from weakseg.config.run_config import PRESETS, RunConfig
from weakseg.pipeline import STAGES

ROOT = Path(__file__).parents[1]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages that lie elsewhere in the repository, and their place on the site."""

FOLDERS = {"benchmarks/results/": "results/", "examples/": "examples/", "docs/": ""}
"""Folders of the repository that are on the site, and where."""

_TYPES: Mapping[object, str] = {
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    str: "text",
    type(None): "`null`",
}

_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are generated or lie outside of `docs/`."""
    added = {site: (ROOT / path).read_text("utf-8") for path, site in PAGES.items()}
    added["settings.md"] = settings_page()
    figures = ["# Figures", "", "What the programs in `benchmarks/` measured.", ""]
    for path in sorted((ROOT / "benchmarks/results").glob("*.md")):
        text = added[f"results/{path.name}"] = path.read_text("utf-8")
        figures.append(f"- [{text.splitlines()[0].removeprefix('# ')}]({path.name})")
    added["results/index.md"] = "\n".join(figures)
    for path in sorted((ROOT / "examples").glob("*.py")):
        added[f"examples/{path.name}"] = path.read_text("utf-8")
    for name, content in added.items():
        files.append(File.generated(config, name, content=content))
    for pattern in ("*.jpg", "*.svg"):
        for path in sorted((ROOT / "benchmarks/results").glob(pattern)):
            name = f"results/{path.name}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, site: str) -> str:
    """The text of a page with its relative links as the site needs them.

    Args:
        markdown: The text, links as they are right in the repository.
        site: The page's place on the site, as `results/crf.md`.
    """
    source = repository_path(site)

    def linked(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = PAGES.get(path)
        for folder, on_site in FOLDERS.items():
            if path.startswith(folder):
                place = on_site + path.removeprefix(folder)
        if place is None:
            return match[0]
        relative = posixpath.relpath(place, posixpath.dirname(site) or ".")
        return f"{match[1]}{relative}{match[3] or ''}{match[4]}"

    return _LINK.sub(linked, markdown)


def repository_path(site: str) -> str:
    """Where a page of the site lies in the repository."""
    for path, place in PAGES.items():
        if site == place:
            return path
    for folder, on_site in FOLDERS.items():
        if on_site and site.startswith(on_site):
            return folder + site.removeprefix(on_site)
    return f"docs/{site}"


def settings_page() -> str:
    """Every setting with its default, range, presets and stages, as a page."""
    lines = [
        "# Every setting",
        "",
        "Written from the settings' own declarations when the site is built. Give one as",
        "`--set section.key=value`, some in a YAML file (`--config FILE`), or in Python as",
        '`overrides=["section.key=value"]`; later ones win. `weakseg run --print-config` prints',
        "what a run would have. *Presets*: what they have instead of the default.",
        "",
        "## Of the whole run",
        "",
        *_table(RunConfig, ""),
    ]
    for name, field in RunConfig.model_fields.items():
        if section := _model(field.annotation):
            readers = [stage.name for stage in STAGES if _reads(stage.reads, name)]
            by = ", ".join(f"`{reader}`" for reader in readers)
            lines += ["", f"## {name}", "", f"{_sentence(field)} Read by: {by}.", ""]
            lines += _table(section, f"{name}.")
    return "\n".join(lines) + "\n"


def _reads(declared: tuple[str, ...], section: str) -> bool:
    return any(name == section or name.startswith(f"{section}.") for name in declared)


def _sentence(field: FieldInfo) -> str:
    text = (field.description or "").rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _table(model: type[BaseModel], prefix: str) -> list[str]:
    rows = [
        f"| `{key}` | {_code(default)} | {kind} | {field.description} | {_presets(key, default)} |"
        for key, field, default, kind in _rows(model, prefix)
    ]
    head = "| setting | default | values | what it does | presets |"
    return [head, "|---|---|---|---|---|", *rows]


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo, object, str]]:
    """Key, declaration, default and values of every setting, those of inner sections included."""
    for name, field in model.model_fields.items():
        key, default = f"{prefix}{name}", field.get_default(call_default_factory=True)
        section = _model(field.annotation)
        if section is None:
            yield key, field, default, _kind(field)
            continue
        if not prefix:  # the sections of a run have tables of their own
            continue
        if default is None:
            yield key, field, None, "section or `null`"
        for inner, declared, own, kind in _rows(section, f"{key}."):
            # The default of a section may differ from what its own declarations say.
            path = inner.removeprefix(f"{key}.").split(".")
            yield inner, declared, own if default is None else reduce(getattr, path, default), kind


def _model(annotation: object) -> type[BaseModel] | None:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _kind(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([_type(field.annotation), *limits])


def _type(annotation: object) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(_code(part) for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is Annotated:
        return _type(parts[0])
    return _TYPES[annotation]


def _presets(key: str, default: object) -> str:
    found = {name: _value(values, key.split(".")) for name, values in PRESETS.items()}
    unlike = {name: value for name, value in found.items() if value not in (None, default)}
    return ", ".join(f"{name} {_code(value)}" for name, value in unlike.items())


def _value(values: Mapping[str, Any], path: list[str]) -> Any:
    """What a preset sets a key to, lists as tuples; None: nothing."""
    found: Any = values
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):
        return None
    return tuple(found) if isinstance(found, list) else found


def _code(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
