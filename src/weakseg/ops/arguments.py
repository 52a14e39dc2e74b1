"""What callers may hand to public functions: tensors, arrays and images, checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator
from torch import Tensor


class PillowImage(Protocol):
    """A Pillow image, which ops never import."""

    def convert(self, mode: str) -> Any:
        """The same image in another mode."""

    def getbands(self) -> tuple[str, ...]:
        """The names of its channels."""


RGBImage = Tensor | npt.NDArray[np.uint8] | PillowImage


def rgb_image(image: Any) -> Tensor:
    """One RGB image as a tensor.

    Args:
        image: Tensor uint8 [3,H,W], array uint8 [H,W,3], or Pillow image of any mode (its EXIF
            orientation is not applied: masks belong to the pixels as they are).

    Returns:
        uint8 [3,H,W].

    Raises:
        ValueError: It is none of these.
    """
    if hasattr(image, "convert") and hasattr(image, "getbands"):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        image = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if (
        not isinstance(image, Tensor)
        or image.ndim != 3
        or image.shape[0] != 3
        or image.dtype != torch.uint8
        or 0 in image.shape
    ):
        raise ValueError(
            "expected an RGB image with pixels: a tensor uint8 [3,H,W], an array uint8 [H,W,3] or "
            f"a Pillow image, got {described(image)}"
        )
    return image


def finite_maps(value: Any, name: str) -> Tensor:
    """A tensor or array of finite numbers.

    Args:
        value: Tensor or array, of any shape.
        name: What it is, for the error: `maps`.

    Returns:
        The tensor.

    Raises:
        ValueError: It is neither, or holds NaN or infinity.
    """
    found = as_tensor(value, name)
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise ValueError(
            f"expected {name} of finite numbers, got {described(found)} with NaN or infinity; "
            "find out where they come from"
        )
    return found


def as_tensor(value: Any, name: str) -> Tensor:
    """A tensor or an array of numbers as a tensor.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        raise ValueError(f"expected {name} as tensor or array, got {described(value)}")
    return value


def described(value: Any) -> str:
    """What something is, for an error: its kind, shape and type of numbers."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__}"


def one_of(table: Mapping[str, object]) -> AfterValidator:
    """For settings: a name that must be a row of a table.

    Args:
        table: Its rows, by name.
    """

    def known(name: str) -> str:
        if name not in table:
            raise ValueError(f"expected one of {', '.join(table)}, got {name!r}")
        return name

    return AfterValidator(known)
