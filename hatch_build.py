"""What the package's page shows: README and the project's addresses."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

HOME = "WEAKSEG_HOME"
"""Environment variable with the repository's address, set where a release is built."""

_OURS = r"(?![a-z]+:|#)([^)\s]+)"
_PICTURE, _LINK = re.compile(rf"(!\[[^\]]*\]\(){_OURS}"), re.compile(rf"(\]\(){_OURS}")
"""Markdown that names a file of the repository."""


def absolute(text: str, home: str, tag: str) -> str:
    """README with links and pictures that work from anywhere.

    Args:
        text: Markdown, its links relative to the repository.
        home: The repository's address.
        tag: Of the release.
    """
    text = _PICTURE.sub(rf"\1{home}/raw/{tag}/\2", text)
    return _LINK.sub(rf"\1{home}/blob/{tag}/\2", text)


class PackagePage(MetadataHookInterface):
    """Gives the package its long description and its addresses."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Adds `readme`, and `urls` where the repository's address is known."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        home = os.environ.get(HOME, "").rstrip("/")
        urls = {}
        if home:
            text = absolute(text, home, f"v{metadata['version']}")
            urls = {
                "Homepage": home,
                "Documentation": f"{home}/tree/v{metadata['version']}/docs",
                "Changelog": f"{home}/blob/v{metadata['version']}/CHANGELOG.md",
                "Issues": f"{home}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls
