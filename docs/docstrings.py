"""How docstrings are read for the site: their examples are code."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class ExamplesAreCode(Extension):
    """`Example:` is a section of code, as `Examples:` is; else `>>>` would be a quotation."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called of every object that is loaded."""
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
