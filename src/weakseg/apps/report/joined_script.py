"""Modules of JavaScript as one script, for a page that is opened from the disk.

Browsers load no modules from there. Each becomes a function that returns what it exports.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import PurePosixPath

_IMPORT = re.compile(r'^import (\{[^}]+\}) from "\./([\w.]+)";$', re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.M)


def resource(name: str) -> str:
    """A text file of the pages that weakseg makes.

    Args:
        name: Its path below `weakseg/apps`.
    """
    return resources.files("weakseg.apps").joinpath(*name.split("/")).read_text("utf-8")


def joined_script(names: Sequence[str]) -> str:
    """Modules as one script; each may import by name from those before it.

    Args:
        names: Their paths below `weakseg/apps`.
    """
    parts = []
    for name in names:
        text = resource(name).strip()
        exported = ", ".join(_EXPORT.findall(text))
        text = _IMPORT.sub(
            lambda found: f"const {found[1]} = {_variable(found[2])};", _EXPORT.sub("", text)
        )
        parts.append(
            f"const {_variable(name)} = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();"
        )
    return "\n".join(parts)


def _variable(name: str) -> str:
    return "of_" + PurePosixPath(name).stem
