import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.data.truth import true_mask
from weakseg.sources.check import check_catalog
from weakseg.sources.source import open_catalog

SMALL = ("few_images", "no_tags", "class_unused", "tag_once")
"""Kinds of faults and notes that sources of two or three images are told."""


class Folder:
    """A source that is being made, and what is read from it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def photo(self, name: str, width: int = 12, height: int = 10, *, turned: bool = False) -> Path:
        """Writes an image; `turned`: stored sideways, upright by its EXIF orientation."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (width, height) if turned else (height, width)
        pixels = np.random.default_rng(sum(map(ord, name))).integers(0, 255, (*size, 3))
        exif = Image.Exif()
        if turned:
            exif[0x0112] = 6
        Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif)
        return path

    def text(self, name: str, content) -> Path:
        """Writes a text file; what is no text as JSON."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def open(self, name: str = "", **options):
        return open_catalog(self.root / name, **options)

    def tags(self, name: str = "", **options) -> dict[str, set[str]]:
        catalog = self.open(name, **options)
        return {s.id: {catalog.classes[k] for k in s.tags} for s in catalog}

    def truth(self, sample_id: str, name: str = ""):
        """The true mask as a list of rows, or None."""
        catalog = self.open(name)
        mask = true_mask(catalog[sample_id], catalog.classes)
        return None if mask is None else mask.tolist()

    def check(self, name: str = "", **options):
        """Faults and notes, without those of small sources."""
        report = check_catalog(self.root / name, **options).without(*SMALL)
        return [str(f) for f in report.faults], [str(f) for f in report.notes]


@pytest.fixture
def made(tmp_path) -> Folder:
    root = tmp_path / "source"
    root.mkdir()
    return Folder(root)
