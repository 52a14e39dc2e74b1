"""A batch's gradient, computed in smaller pieces where memory does not suffice for larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from weakseg.processors import free_memory
from weakseg.shared_batch import shared_batch
from weakseg.training.memory import is_out_of_memory, release_memory
from weakseg.types import RunError

_TOO_FEW = "more than 1 value per channel"
"""What a batch norm says of a piece of one image."""


class Pieces:
    """Adds up the gradient of a step; pieces for which memory does not suffice are halved.

    The gradient stays the mean over the step's images. What is computed image by image is the same;
    batch norms take their means over the images of a piece, as with `FitSettings.accumulate`.

    Args:
        task: What learns; see `weakseg.training.fit.Task`.
        accelerator: The engine.
        say: Called with a sentence when pieces are halved.

    Attributes:
        parts: How many parts each piece is computed in.
    """

    def __init__(
        self, task: nn.Module, accelerator: Accelerator, say: Callable[[str], object] | None
    ) -> None:
        self.task, self.accelerator, self.say = task, accelerator, say
        self.parts = 1
        self._step: list[tuple[Any, int, int]] = []

    def add(self, batch: Any, seed: int, number: int = 0, first: bool = True) -> dict[str, float]:
        """Add a piece's gradient to those of the step.

        Dropout draws by the image's number in the step, so that pieces and processes draw what the
        whole batch would.

        Args:
            batch: A tensor, or several in a list, with the images along their first dimension.
            seed: Of what is random in the network in this step.
            number: The piece's place in the step, those of all processes counted from 0.
            first: Whether it is the first of its step here, before which there is no gradient.

        Returns:
            What the task returned, the mean over the piece's images.

        Raises:
            RunError: Memory does not suffice for a single image; or processes work together, which
                have to compute in equal pieces.
        """
        self._step = [*([] if first else self._step), (batch, seed, number)]
        pending = self._step[-1:]
        while True:
            failed = False
            try:
                for one, own, place in pending:
                    logged = self._backward(one, own, place)
            except (RuntimeError, MemoryError, ValueError) as error:
                lone = self.parts > 1 and _TOO_FEW in str(error)
                if not lone and not is_out_of_memory(error):
                    raise
                if lone or self.parts >= _length(batch) or self.accelerator.num_processes > 1:
                    raise self._too_large(batch) from error
                failed = True
            if not failed:
                return logged
            # Out here the error no longer holds the tensors that were computed so far.
            self._halve(batch)
            pending = self._step

    def _halve(self, batch: Any) -> None:
        self.parts = min(2 * self.parts, _length(batch))
        for parameter in self.task.parameters():
            parameter.grad = None
        release_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.say is not None:
            self.say(
                f"memory does not suffice for {_length(batch)} images at once: batches are "
                f"computed in {self.parts} times as many pieces from here on"
            )

    def _backward(self, batch: Any, seed: int, number: int) -> dict[str, float]:
        torch.manual_seed((seed + number * 10**12) % 2**63)
        logged: dict[str, float] = {}
        place = number * _length(batch)
        for part, share in _parts(batch, self.parts):
            count = _length(part)
            with shared_batch(
                seed=seed, first=place, count=count, processes=self.accelerator.num_processes
            ):
                losses: Mapping[str, Tensor] = self.task(part)
            place += count
            loss = losses["loss"]
            self.accelerator.backward(loss if share == 1 else loss * share)
            for name, value in losses.items():
                logged[name] = logged.get(name, 0.0) + share * float(value.detach())
        return logged

    def _too_large(self, batch: Any) -> RunError:
        free = free_memory()
        room = "" if free is None else f" ({free / 1e9:.1f} GB of main memory are free)"
        together = self.accelerator.num_processes > 1
        count = _length(batch) if together else -(-_length(batch) // self.parts)
        remedy = "raise this stage's fit.accumulate, " if together else ""
        return RunError(
            f"training: memory does not suffice for {count} image{'s' * (count != 1)} at once{room}"
            f"; {remedy}lower its augment.crop, take a smaller backbone (backbone.name), or end "
            "other programs, and give the same command again"
        )


def _length(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    return _length(batch[0]) if isinstance(batch, list | tuple) and batch else 1


def _parts(batch: Any, count: int) -> Iterator[tuple[Any, float]]:
    """Parts of a batch, as equal as can be, and the share of its images that each has."""
    length = _length(batch)
    if count == 1 or length == 1:
        yield batch, 1.0
        return
    bounds = [length * k // count for k in range(count + 1)]
    for start, end in pairwise(bounds):
        if end > start:
            whole = isinstance(batch, Tensor)
            part = batch[start:end] if whole else [value[start:end] for value in batch]
            yield part, (end - start) / length
