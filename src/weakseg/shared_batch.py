"""What depends on all images of a batch: the same however many processes and pieces share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_processes = 1
"""How many processes share the batch that is being computed."""


@contextmanager
def shared_batch(*, seed: int, first: int, count: int, processes: int = 1) -> Iterator[None]:
    """While a network sees some of a batch's images, the others of which other processes may see.

    In the block, dropout draws by the image's number in the batch. If processes share the batch,
    batch norms take their statistics over all of its images, and `shared_total` and `shared_mean`
    look at all processes. All of them must be in such a block at once.

    Args:
        seed: Of what is drawn for this batch.
        first: The number of the first image in the whole batch, from 0.
        count: How many images the network sees here.
        processes: How many processes share the batch, in parts of one length.
    """
    global _processes  # noqa: PLW0603 one batch is computed at a time
    before, _processes = _processes, processes
    try:
        with _AsOneBatch(seed, first, count, processes):
            yield
    finally:
        _processes = before


def shared_total(own: Tensor, *, least: float) -> Tensor:
    """What a mean over a shared batch divides each process's own sum by.

    The mean over processes of `own sum / shared_total` is the sum over all of them divided by the
    total over all of them. In one process it is the total itself.

    Args:
        own: Totals of this process's images, of any shape, without gradient.
        least: The least that the total over all processes counts as.
    """
    return shared_mean(own).clamp_min(least / _processes)


def shared_mean(own: Tensor) -> Tensor:
    """The mean over the processes that share the batch, of any shape, without gradient."""
    if _processes == 1:
        return own
    total = own.detach().clone()
    distributed.all_reduce(total)
    return total / _processes


def sharing_processes() -> int:
    """How many processes share the batch that is being computed."""
    return _processes


class _AsOneBatch(TorchFunctionMode):
    """Takes the place of dropout and batch norm, see `shared_batch`."""

    def __init__(self, seed: int, first: int, count: int, processes: int) -> None:
        super().__init__()
        self.seed, self.first, self.count = seed, first, count
        self.normed_together = processes > 1
        self.calls = 0

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        own = self._OWN.get(func)
        if own is not None:
            result = own(self, *args, **(kwargs or {}))
            if result is not None:
                return result
        return func(*args, **(kwargs or {}))

    def _dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor | None:
        return self._dropped(x, p, training, x.shape[1:])

    def _dropout2d(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor | None:
        if x.ndim != 4:
            return None
        return self._dropped(x, p, training, (x.shape[1], 1, 1))

    def _dropped(self, x: Tensor, p: float, training: bool, shape: Sequence[int]) -> Tensor | None:
        """The input with a share p of what there is of each image set to 0, the rest enlarged."""
        if not training or not 0 < p < 1 or not x.ndim or len(x) % self.count:
            return None
        rows, self.calls = len(x) // self.count, self.calls + 1
        drawn = []
        for number in range(self.first * rows, self.first * rows + len(x)):
            seed = hash((self.seed, self.calls, number)) & (2**63 - 1)
            generator = torch.Generator(x.device).manual_seed(seed)
            drawn.append(torch.rand(tuple(shape), generator=generator, device=x.device))
        return x * (torch.stack(drawn) >= p).to(x.dtype).div_(1 - p)

    def _batch_norm(  # noqa: PLR0917 torch calls it so
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor | None:
        """Batch norm with the statistics of all processes' images, in float32."""
        if not training or not self.normed_together:
            return None
        over = [0, *range(2, x.ndim)]
        count = x.numel() // x.shape[1] * _processes
        if count == 1:
            raise ValueError(f"expected more than 1 value per channel, got {tuple(x.shape)}")
        shape = [1, -1, *[1] * (x.ndim - 2)]
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            mean: Tensor = _Summed.apply(values.sum(over)) / count
            centred = values - mean.view(shape)
            variance: Tensor = _Summed.apply(centred.square().sum(over)) / count
            if running_mean is not None and running_var is not None:
                with torch.no_grad():
                    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                    unbiased = variance * (count / (count - 1))
                    running_var.lerp_(unbiased.to(running_var.dtype), momentum)
            scale = torch.rsqrt(variance + eps)
            if weight is not None:
                scale = scale * weight.float()
            y = centred * scale.view(shape)
            if bias is not None:
                y = y + bias.float().view(shape)
            return y.to(x.dtype)

    _OWN: Mapping[Any, Any] = {
        functional.dropout: _dropout,
        functional.dropout2d: _dropout2d,
        functional.batch_norm: _batch_norm,
    }


class _Summed(torch.autograd.Function):
    """The sum over all processes; each one's gradient is the sum of all of theirs."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total
