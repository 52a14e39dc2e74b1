"""Any image file to an upright tensor (RGB, unless asked otherwise), any mask file to indices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as geometry

from weakseg.data.decode import (
    has_alpha,
    image_size,
    mask_indices,
    opened,
    orientation_of,
    upright_size,
)
from weakseg.faults import FileError
from weakseg.types import Sample

__all__ = ["image_size", "image_tensor", "read_image", "read_mask", "require_channels"]

_BITS = (8, 10, 12, 14, 16, 24, 32)


def read_image(
    path: Path | str,
    *,
    max_side: int | None = None,
    ignore_alpha: bool = False,
    channels: int = 3,
) -> Tensor:
    """Reads any image, upright, with 8 bits a channel: RGB, or as many channels as are asked for.

    Turned upright by its EXIF orientation; the first frame of several. Gray becomes three equal
    channels. Transparent pixels are laid over white; bands beyond the third that a TIFF does not
    call transparency are left out. CMYK is read by Adobe's (inverted) convention. Gray of more than
    8 bits is scaled by its range: the smallest of 8, 10, 12, 14 or 16 bits that holds its largest
    value becomes 0..255, so that 12-bit data in 16-bit files does not come out black.

    Args:
        path: The file; at most `weakseg.data.decode.max_pixels` pixels.
        max_side: The long side that is wanted (pixels, ≥ 1). JPEGs at least twice as long are
            decoded at 1/2, 1/4 or 1/8 of their size, which takes about half the time; the result
            is still at least this long and is not resized to it. None: full size.
        ignore_alpha: Leave the fourth channel out, as of images whose "alpha" is another band.
        channels: 3: RGB. 1: gray, of colours their luminance. Others: the file's own channels as
            they are, which must be as many (a fourth is no transparency then).

    Returns:
        uint8 [channels, H, W]; its memory is as the decoder leaves it, usually channels last.

    Raises:
        DataError: The file is missing, empty, no image, too large, truncated or damaged.
        ValueError: `max_side` is below 1.

    Example:
        >>> read_image("cat.jpg").shape  # doctest: +SKIP
        torch.Size([3, 375, 500])
    """
    if max_side is not None and max_side < 1:
        raise ValueError(f"expected max_side ≥ 1, got {max_side}")
    path = Path(path)
    with opened(path) as image:
        orientation = orientation_of(image)
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            height, width = upright_size(image)
            if max_side is not None and max(height, width) >= 2 * max_side:
                # Both sides must reach what is asked for; the short one is not to hold it back.
                side = max(image.size)
                wanted = [max(1, length * max_side // side) for length in image.size]
                image.draft(image.mode, (wanted[0], wanted[1]))
        if channels not in (1, 3) and _bands(image) != channels:
            raise _other_channels(path, _bands(image), channels)
        pixels = torch.from_numpy(_pixels(image, ignore_alpha, channels)).permute(2, 0, 1)
    return _turned(pixels, orientation)


def read_sample(sample: Sample, *, max_side: int | None = None, channels: int = 3) -> Tensor:
    """A sample's image as its source wants it read; see `read_image`."""
    return read_image(
        sample.image, max_side=max_side, ignore_alpha=sample.ignore_alpha, channels=channels
    )


def require_channels(samples: Iterable[Sample], channels: int) -> None:
    """Refuse images that have not as many channels as a network takes; reads their headers only.

    Args:
        samples: The images.
        channels: How many; 1 and 3 suit every image.

    Raises:
        DataError: The first image that has another number.
    """
    if channels in (1, 3):
        return
    for sample in samples:
        with opened(sample.image) as image:
            found = _bands(image)
        if found != channels:
            raise _other_channels(sample.image, found, channels)


def _bands(image: Image.Image) -> int:
    """How many channels an image has to be taken as they are; CMYK's are colours, as RGB's."""
    return 3 if image.mode == "CMYK" else len(image.getbands())


def _other_channels(path: Path, found: int, wanted: int) -> FileError:
    return FileError(
        path,
        "image_channels",
        f"{found} channels instead of the {wanted} that backbone.in_chans asks for",
        "remove it, or set backbone.in_chans to 3 (RGB) or 1 (gray), which every image can be "
        "read as",
    )


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image uint8 [C,H,W] brought to a height and width, bilinear, blurred where it shrinks."""
    if tuple(image.shape[-2:]) == size:
        return image
    scaled: Tensor = geometry.resize(image, list(size), antialias=True)
    return scaled


def image_tensor(image: Image.Image, *, ignore_alpha: bool = False, channels: int = 3) -> Tensor:
    """An opened Pillow image as `read_image` would read its file.

    Args:
        image: Any image; its EXIF orientation is applied.
        ignore_alpha: As for `read_image`.
        channels: As for `read_image`.

    Returns:
        uint8 [channels, H, W].

    Raises:
        ValueError: The image has another number of channels.
    """
    if channels not in (1, 3) and _bands(image) != channels:
        raise ValueError(
            f"expected an image of {channels} channels, got {_bands(image)} ({image.mode})"
        )
    pixels = torch.from_numpy(_pixels(image, ignore_alpha, channels)).permute(2, 0, 1)
    return _turned(pixels, orientation_of(image))


def read_mask(path: Path | str) -> Tensor:
    """Reads a mask file's class indices.

    Args:
        path: A palette, gray or black-and-white image in a lossless format: index 0 background,
            k the k-th class, 255 ignored. Colours of a palette do not matter.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: The file cannot be read, has several channels, is a JPEG, or exceeds 255.

    Example:
        >>> read_mask("cat.png").unique()  # doctest: +SKIP
        tensor([  0,   1, 255], dtype=torch.uint8)
    """
    return torch.from_numpy(mask_indices(Path(path)))


def _pixels(image: Image.Image, ignore_alpha: bool, channels: int) -> npt.NDArray[np.uint8]:
    """The pixels of an opened image as [H, W, channels]."""
    if channels == 3:
        return _rgb(image, ignore_alpha)
    if channels == 1:
        return np.array(Image.fromarray(_rgb(image, ignore_alpha)).convert("L"))[:, :, None]
    return np.array(image).reshape(image.height, image.width, channels)


def _rgb(image: Image.Image, ignore_alpha: bool) -> npt.NDArray[np.uint8]:
    """The pixels of an opened image as [H, W, 3]."""
    if image.mode.startswith("I") or image.mode == "F":
        gray = _scaled(np.asarray(image))
        return np.repeat(gray[:, :, None], 3, axis=2)
    if has_alpha(image):
        image.load()
        rgba = image.convert("RGBA")
        if ignore_alpha:
            return np.array(rgba)[..., :3]
        white = Image.new("RGBA", rgba.size, "white")
        return np.array(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _scaled(gray: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Gray of any range as 0..255, [H, W] to [H, W].

    Whole numbers by the bits they need; fractions in 0..1 by 255; anything else (negative,
    fractions of other ranges) from its smallest to its largest value.
    """
    values = np.nan_to_num(gray.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0:
        values, high = values - low, high - low
        top = high
    elif np.issubdtype(gray.dtype, np.integer):
        top = next(2.0**bits - 1 for bits in _BITS if high < 2.0**bits)
    else:
        top = 1.0 if high <= 1 else max(high, 255.0)
    return np.round(values * (255.0 / (top or 1.0))).clip(0, 255).astype(np.uint8)


def _turned(pixels: Tensor, orientation: int) -> Tensor:
    """Applies an EXIF orientation (1..8) to [C, H, W]."""
    if orientation >= 5:  # 5..8 are 1, 4, 2, 3 of the transposed image, in TIFF's numbering
        pixels = pixels.transpose(1, 2)
    mirrored = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation)
    return pixels if mirrored is None else pixels.flip(mirrored)
