"""Images read by other threads while a network works, in batches of one size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from weakseg.data.image_inputs import GivenImage, given_pixels, given_size
from weakseg.faults import FileError
from weakseg.processors import available_processors

_WINDOW = 256
"""Images whose sizes are looked at in one go, to find such of equal size."""

_AHEAD = 2
"""Batches that are read while the network works."""

Size = tuple[int, int]


class ReadImage(NamedTuple):
    """An image of a batch, or one that cannot be read.

    Attributes:
        number: Its place among the images that were given.
        size: Its own height and width, upright (pixels); 0 if it cannot be opened.
        pixels: uint8 [C,h,w] in the size of its batch, or why it cannot be read.
    """

    number: int
    size: Size
    pixels: Tensor | FileError


def read_in_batches(
    images: Iterable[GivenImage],
    seen: Callable[[Size], Size],
    most: Callable[[Size], int],
    *,
    ignore_alpha: bool = False,
    channels: int = 3,
) -> Iterator[list[ReadImage]]:
    """Reads images and brings together such of one size.

    Threads read, not processes: decoders release Python's lock, and nothing has to be copied from
    one process to another.

    Args:
        images: Taken some hundred at a time; of those the largest come first.
        seen: From an image's own size to the one it is resized to.
        most: How many images of such a size make a batch.
        ignore_alpha: As for `read_image`.
        channels: As for `read_image`.

    Yields:
        Batches; all their images that could be read have one size.

    Raises:
        ValueError: An array is no image.
    """
    read = partial(given_pixels, ignore_alpha=ignore_alpha, channels=channels)
    waiting: deque[list[tuple[int, Size, Future[Tensor]]]] = deque()
    pool = ThreadPoolExecutor(max(1, min(8, available_processors() - 1)), "weakseg-read")
    try:
        for jobs in _planned(images, seen, most, channels):
            if isinstance(jobs, ReadImage):
                yield [jobs]
                continue
            waiting.append([(i, full, pool.submit(read, one, seen(full))) for i, full, one in jobs])
            if len(waiting) > _AHEAD:
                yield _results(waiting.popleft())
        while waiting:
            yield _results(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _planned(
    images: Iterable[GivenImage],
    seen: Callable[[Size], Size],
    most: Callable[[Size], int],
    channels: int,
) -> Iterator[list[tuple[int, Size, GivenImage]] | ReadImage]:
    """What to read together: indices, sizes, images. What cannot even be opened comes by itself."""
    numbered = enumerate(images)
    while window := list(islice(numbered, _WINDOW)):
        groups: dict[Size, list[tuple[int, Size, GivenImage]]] = {}
        for number, image in window:
            try:
                full = given_size(image, channels)
            except FileError as error:
                yield ReadImage(number, (0, 0), error)
                continue
            groups.setdefault(seen(full), []).append((number, full, image))
        for size, group in sorted(groups.items(), key=lambda item: -item[0][0] * item[0][1]):
            step = max(1, most(size))
            yield from (group[start : start + step] for start in range(0, len(group), step))


def _results(jobs: list[tuple[int, Size, Future[Tensor]]]) -> list[ReadImage]:
    batch = []
    for number, size, future in jobs:
        try:
            batch.append(ReadImage(number, size, future.result()))
        except FileError as error:
            batch.append(ReadImage(number, size, error))
    return batch
