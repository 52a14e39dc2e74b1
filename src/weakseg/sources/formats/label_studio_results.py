"""Label Studio's results: what was marked in an image, as tags and marks."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from weakseg.sources.marks import Mark, Marked, numbers, side

_CHOICES, _LABELS = "choices", "labels"
_SHAPES = ("rectangle", "polygon", "brush", "ellipse", "keypoint", "bitmask", "vector")


def labels_of(result: dict[str, Any]) -> list[str] | None:
    """The labels of a region, or None if the result has none."""
    value = result.get("value")
    if not isinstance(value, dict):
        return None
    for key, names in value.items():
        if key.endswith(_LABELS) and isinstance(names, list):
            return [str(name) for name in names]
    return None


def choices_of(result: dict[str, Any]) -> list[str]:
    """The choices of a result; none if it has none."""
    value = result.get("value")
    names = value.get(_CHOICES) if isinstance(value, dict) else None
    names = [names] if isinstance(names, str) else names
    return [str(name) for name in names] if isinstance(names, list) else []


def all_names(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Every label and choice of some results."""
    for result in results:
        yield from labels_of(result) or ()
        yield from choices_of(result)


def take_results(
    item: Marked,
    results: Sequence[dict[str, Any]],
    controls: dict[str, set[str]],
    ignored: dict[str, int],
) -> Iterator[str]:
    """Makes marks and tags of the results.

    Args:
        item: The image; gets marks, tags and size.
        results: What was marked in it, as Label Studio has it.
        controls: Gets the names that each control gave.
        ignored: Gets how many results of other types there are.

    Yields:
        What is wrong with some.
    """
    labelled = {r.get("id") for r in results if r.get("id") and labels_of(r) is not None}
    for result in results:
        value = result.get("value")
        labels, choices = labels_of(result), choices_of(result)
        control = str(result.get("from_name") or result.get("type"))
        size = result.get("original_height"), result.get("original_width")
        if all(map(side, size)):
            item.size = size  # type: ignore[assignment]
        if result.get("image_rotation"):
            item.exact = False
        if labels is not None:
            assert isinstance(value, dict)
            try:
                pixels = _pixels(value, item.size) if len(labels) == 1 else ()
            except ValueError as error:
                pixels = ()
                yield str(error)
            item.marks += [Mark(name, *pixels) for name in labels or [""]]
            controls.setdefault(control, set()).update(labels)
        elif choices and (result.get("id") in labelled or _is_region(value)):
            _count(ignored, "choices about single regions")
        elif choices:
            item.tags += choices
            controls.setdefault(control, set()).update(choices)
        elif result.get("type") in _SHAPES and result.get("id") not in labelled:
            item.marks.append(Mark(""))
        elif result.get("type") not in _SHAPES:
            _count(ignored, str(result.get("type")))


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def _is_region(value: Any) -> bool:
    return isinstance(value, dict) and bool({"x", "points", "rle"} & value.keys())


def _pixels(value: dict[str, Any], size: tuple[int, int] | None) -> tuple[()] | tuple[str, Any]:
    """Form and shape of what a region encloses; nothing of rectangles, points and lines.

    Raises:
        ValueError: The region is damaged.
    """
    if "rle" in value:
        try:
            return "brush_rle", bytes(value["rle"])
        except (TypeError, ValueError):
            raise ValueError("a brush whose run lengths are no list of bytes") from None
    if size is None:
        return ()
    height, width = size
    if "points" in value:
        points = numbers(value["points"])
        if points is None or len(points) % 2:
            raise ValueError("a polygon whose points are no pairs of numbers")
        if value.get("closed") is False or len(points) < 6:
            return ()
        sides = (width / 100, height / 100)
        return "polygons", [array("d", (p * sides[k % 2] for k, p in enumerate(points)))]
    if "radiusX" in value:
        keys = ("x", "y", "radiusX", "radiusY")
        ellipse = numbers([*(value.get(key) for key in keys), value.get("rotation") or 0], 5)
        if ellipse is None:
            raise ValueError("an ellipse whose centre and radii are no numbers")
        x, y, along, across, degrees = ellipse
        scaled = (x * width / 100, y * height / 100, along * width / 100, across * height / 100)
        return "ellipse", (*scaled, degrees)
    return ()
