"""Images as a caller hands them over: a path, a Pillow image, an array or a tensor."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from weakseg.data.decode import image_size, upright_size
from weakseg.data.images import image_tensor, read_image

GivenImage = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | Tensor
"""A file; a Pillow image; an array uint8 [H,W,3] or [H,W]; a tensor uint8 [3,H,W] or [H,W]."""


def listed_images(images: GivenImage | Iterable[GivenImage]) -> Iterable[GivenImage]:
    """One image as a list of one; several as they are."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray):
        return [images] if images.ndim < 4 else list(images)
    return images


def given_size(image: GivenImage, channels: int = 3) -> tuple[int, int]:
    """Height and width of an image once upright, in pixels; of a file, from its header.

    Args:
        image: The image.
        channels: That an array or tensor must have.

    Raises:
        DataError: The file is missing, empty, no image or too large.
        ValueError: The array or tensor is no image.
    """
    if isinstance(image, str | os.PathLike):
        return image_size(Path(image))
    if isinstance(image, Image.Image):
        return upright_size(image)
    pixels = _channels_first(image, channels)
    return pixels.shape[1], pixels.shape[2]


def given_pixels(
    image: GivenImage, size: tuple[int, int], *, ignore_alpha: bool = False, channels: int = 3
) -> Tensor:
    """An image, upright and resized.

    Args:
        image: The image.
        size: Height and width to resize it to, in pixels.
        ignore_alpha: As for `read_image`.
        channels: As for `read_image`.

    Returns:
        uint8 [channels,h,w].

    Raises:
        DataError: The file cannot be read.
        ValueError: The array or tensor is no image.
    """
    if isinstance(image, str | os.PathLike):
        pixels = read_image(
            Path(image), max_side=max(size), ignore_alpha=ignore_alpha, channels=channels
        )
    elif isinstance(image, Image.Image):
        pixels = image_tensor(image, ignore_alpha=ignore_alpha, channels=channels)
    else:
        pixels = _channels_first(image, channels)
    return _resized(pixels, size)


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """[C,H,W] resized by Pillow, which programs without torch have, too.

    torch's own rounds otherwise in one of some hundred values; an exported model is to see the
    very same image.
    """
    if tuple(pixels.shape[1:]) == size:
        return pixels
    if len(pixels) != 3:
        bands = [Image.fromarray(band.contiguous().numpy()) for band in pixels]
        wanted = [b.resize((size[1], size[0]), Image.Resampling.BILINEAR) for b in bands]
        return torch.stack([torch.from_numpy(np.array(band)) for band in wanted])
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _channels_first(image: Tensor | npt.NDArray[Any], channels: int) -> Tensor:
    """An array [H,W,C] or tensor [C,H,W] as tensor; gray [H,W] where there are 1 or 3 channels."""
    axis = 0 if isinstance(image, Tensor) else 2
    gray = image.ndim == 2 and channels in (1, 3)
    if str(image.dtype).removeprefix("torch.") != "uint8" or not (
        gray or (image.ndim == 3 and image.shape[axis] == channels)
    ):
        shape = f"[{channels},H,W]" if isinstance(image, Tensor) else f"[H,W,{channels}]"
        expected = f"{'tensor' if isinstance(image, Tensor) else 'array'} uint8 {shape}"
        expected = {1: f"{expected} or [H,W]", 3: f"RGB {expected} or gray [H,W]"}.get(
            channels, expected
        )
        article = "an" if channels == 3 else "a"
        raise ValueError(f"expected {article} {expected}, got {image.dtype} {tuple(image.shape)}")
    pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if gray:
        return pixels.expand(channels, *pixels.shape)
    return pixels if isinstance(image, Tensor) else pixels.permute(2, 0, 1)
