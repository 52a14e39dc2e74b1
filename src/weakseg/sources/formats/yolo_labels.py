"""A YOLO label file: its lines, and the true mask of its polygons."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.data.decode import image_size
from weakseg.data.truth import Indices, Region, RegionMask

_SLACK = 0.01  # shares of the image that a shape may stick out: tools round
_MANY = 1 << 20  # class numbers are below this


@dataclass(slots=True)
class Rows:
    """What a label file says.

    Attributes:
        classes: The class numbers.
        rows: Class numbers and corners (shares, one after the other) of polygons.
        others: How many lines are no polygons.
        outside: Whether a number is no share of the image.
        scored: Whether a line has a box and one more number, as predictions have.
        wrong: The line that cannot be read, and why.
    """

    classes: set[int] = field(default_factory=set)
    rows: list[tuple[int, list[float]]] = field(default_factory=list)
    others: int = 0
    outside: bool = False
    scored: bool = False
    wrong: tuple[int, str] | None = None


def read_rows(path: Path) -> Rows:
    """The lines of a label file."""
    found = Rows()
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        found.wrong = (1, f"cannot be read ({error.strerror or error})")
        return found
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            first, *values = map(float, words)
        except ValueError:
            first, values = -1.0, []
        if not 0 <= first < _MANY or first != int(first) or len(values) < 4:
            text = line[:40].decode(errors="replace")
            found.wrong = (number, f"not a class number and shares: {text!r}")
            return found
        found.classes.add(int(first))
        polygon = len(values) >= 6 and len(values) % 2 == 0
        # Key points have other numbers behind the box.
        shares = values if polygon else values[:4]
        found.outside |= not all(-_SLACK <= value <= 1 + _SLACK for value in shares)
        found.scored |= len(values) == 5
        if polygon:
            found.rows.append((int(first), values))
        else:
            found.others += 1
    return found


@dataclass(frozen=True)
class YoloMask:
    """A true mask by the polygons of a label file, which is read when the mask is.

    The smaller of two polygons that overlap lies over the larger, as in Ultralytics' own masks.

    Attributes:
        file: The label file.
        image: The image, whose size (once upright) the polygons are shares of.
        names: The class names by their numbers.
    """

    file: Path
    image: Path
    names: tuple[tuple[int, str], ...]

    def read(self, classes: Sequence[str]) -> Indices:
        """The mask uint8 [H,W]."""
        return self._drawn().read(classes)

    def digest(self) -> str:
        """A hash of what is drawn."""
        text = f"{image_size(self.image)}{self.names}".encode()
        return hashlib.sha256(text + self.file.read_bytes()).hexdigest()[:16]

    def _drawn(self) -> RegionMask:
        height, width = size = image_size(self.image)
        names = dict(self.names)
        shapes = [
            (number, np.asarray(values, np.float64).reshape(-1, 2) * (width, height))
            for number, values in read_rows(self.file).rows
        ]
        shapes.sort(key=lambda shape: -_area(shape[1]))
        regions = [Region(names.get(k, ""), "polygons", [points]) for k, points in shapes]
        return RegionMask(self.file, size, tuple(regions))


def _area(points: npt.NDArray[np.float64]) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
