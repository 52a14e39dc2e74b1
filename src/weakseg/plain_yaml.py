"""YAML of unknown origin, read as plain values: bounded in size, depth and numbers, no aliases."""

from __future__ import annotations

from typing import Any

import yaml

_LONGEST = 1_000_000
"""Most characters of a text: settings and lists of classes are far shorter."""

_DEEPEST = 32
_LONGEST_NUMBER = 100


class PlainYamlError(ValueError):
    """A text that is not read.

    Attributes:
        found: What was found.
        line: Where, from 1; None where that is not known.
    """

    def __init__(self, found: str, line: int | None = None) -> None:
        super().__init__(found if line is None else f"{found} (line {line})")
        self.found, self.line = found, line


def parse_yaml(text: str | bytes) -> Any:
    """What a YAML text says.

    Anchors and aliases are refused: a short text may unfold to more than fits into memory, or hold
    itself. Dates are texts.

    Args:
        text: The text; bytes are UTF-8, or UTF-16 with its mark.

    Returns:
        Mappings, lists, texts, numbers, truth values and None.

    Raises:
        PlainYamlError: It is no YAML, or too long, too deep, or has aliases.

    Example:
        >>> parse_yaml("fit: {epochs: 5}")
        {'fit': {'epochs': 5}}
    """
    if len(text) > _LONGEST:
        raise PlainYamlError(f"longer than {_LONGEST} characters")
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        found = getattr(error, "problem", None) or getattr(error, "reason", None) or "no YAML"
        raise PlainYamlError(str(found), mark.line + 1 if mark else None) from None
    except PlainYamlError:
        raise
    except Exception as error:  # values that contradict their tag, as `!!bool 7`, raise anything
        said = " ".join(str(error).split())[:80] or type(error).__name__
        raise PlainYamlError(f"a value that cannot be read ({said})") from None


class _PlainLoader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  as its parent has it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            sign = "an alias *" if isinstance(event, yaml.AliasEvent) else "an anchor &"
            raise PlainYamlError(f"{sign}{event.anchor[:40]}; write the value out instead", line)
        if self._depth == _DEEPEST:
            raise PlainYamlError(f"nested more than {_DEEPEST} deep", line)
        self._depth += 1
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and len(value) > _LONGEST_NUMBER:
            raise PlainYamlError(
                f"a number of {len(value)} characters, at most {_LONGEST_NUMBER} are read",
                node.start_mark.line + 1,
            )
        return value
