"""The colours of mask indices, without torch: who only checks a source does not wait for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def voc_colours() -> npt.NDArray[np.uint8]:
    """The colour of every index in PASCAL VOC's masks.

    Bit 3j of an index is bit 7−j of its red, bit 3j+1 of its green, bit 3j+2 of its blue.

    Returns:
        uint8 [256,3], RGB.

    Example:
        >>> voc_colours()[[0, 1, 15, 255]].tolist()
        [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index, channel = np.arange(256)[:, None], np.arange(3)
    colour = np.zeros((256, 3), np.int64)
    for j in range(3):
        colour |= ((index >> (3 * j + channel)) & 1) << (7 - j)
    return colour.astype(np.uint8)
