"""What other processes read, and what went wrong there, brought to the process that asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset, default_collate

from weakseg.types import WeaksegError


class Failure:
    """An error in the place of an item or a batch.

    Attributes:
        error: What was raised.
    """

    def __init__(self, error: WeaksegError) -> None:
        self.error = error


class KeptErrors(Dataset[Any]):
    """A data set whose items are what another's are, or the `Failure` to make them.

    A loader's process hands on the text of an error only, with a traceback and without its kind if
    that takes more than a text; as an item it arrives as it was. `raised` raises it.

    Args:
        items: The data set.
    """

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.items[key]
        except WeaksegError as error:
            return Failure(error)


def collated(items: Sequence[Any]) -> Any:
    """Items as a batch; the first failure, if there is one."""
    failures = (item for item in items if isinstance(item, Failure))
    return next(failures, None) or default_collate(list(items))


def raised(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches of a loader of `KeptErrors`.

    Raises:
        WeaksegError: The failure that one of them is.
    """
    for batch in batches:
        if isinstance(batch, Failure):
            raise batch.error
        yield batch
