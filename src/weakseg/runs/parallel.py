"""Work on images one by one, several processes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from weakseg.data.loading import KeptErrors, raised
from weakseg.processors import available_processors

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Results(Dataset[Any]):
    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.function, self.items = function, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.items[index])


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """The function's results in the items' order, computed ahead by one process a processor.

    Two processes of one thread each do more than two threads on one image: they never wait for each
    other.

    Args:
        function: A function of a module, or an object that can be pickled; computes on the CPU.
        items: Its arguments.
        workers: Processes; 0 computes here, one item after the other; None: one a processor.
    """
    workers = available_processors() if workers is None else workers
    if workers < 2 or len(items) < 2:
        yield from map(function, items)
        return
    results = DataLoader(
        KeptErrors(_Results(function, items)),
        batch_size=None,
        num_workers=min(workers, len(items)),
        collate_fn=_as_it_is,
        prefetch_factor=2,
        worker_init_fn=_one_thread,
    )
    yield from raised(results)


def _as_it_is(result: Any) -> Any:
    return result


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
