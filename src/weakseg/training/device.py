"""Where and in which precision networks compute: learning, and looking only."""

from __future__ import annotations

import os
import warnings
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from weakseg.types import ConfigError

Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]


def device_for(device: torch.device | str) -> torch.device:
    """The device of a name.

    Args:
        device: `auto` (CUDA, then MPS, then the CPU), or any device of torch. Of the GPUs of a
            machine each process of a launcher has its own.

    Raises:
        ConfigError: torch knows no such device, this machine has none, or a launcher started more
            processes than there are GPUs.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name, found in there.items() if found), "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device: expected auto, cpu, cuda or mps, got {device!r}") from None
    if not there.get(chosen.type, True):
        raise ConfigError(f"device: this machine has no {chosen.type}; use auto or cpu")
    if str(chosen) == "cuda" and "LOCAL_RANK" in os.environ:
        number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= count:
            raise ConfigError(
                f"device: process {number + 1} of this machine has no GPU left, it has {count}; "
                "start one process a GPU, or use cpu"
            )
        return torch.device("cuda", number)
    return chosen


def accelerator_for(device: Device, precision: Precision, accumulate: int = 1) -> Accelerator:
    """The engine of training: where and in which precision a network learns.

    Args:
        device: `auto` takes CUDA, then MPS, then the CPU.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device has instructions for it, else
            fp32.
        accumulate: Pieces that a batch is computed in.

    Raises:
        ConfigError: This machine has no such device.
    """
    place = device_for(device)
    bf16 = _takes_bf16(place, precision)
    # What accelerate keeps of an earlier training in this process would refuse another precision,
    # and would stay on its device.
    kept = PartialState._shared_state.get("device")
    moves = kept is not None and torch.device(kept).type != place.type
    AcceleratorState._reset_state(reset_partial_state=moves)
    # Depthwise kernels have one layout by two descriptions, of which torch's DDP warns.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if bf16 else "no",
        gradient_accumulation_steps=accumulate,
    )


class Inference:
    """Where and in which precision a network predicts without learning.

    Args:
        device: `auto` takes CUDA, then MPS, then the CPU; or any device of torch.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device has instructions for it, else
            fp32.

    Raises:
        ConfigError: This machine has no such device.

    Attributes:
        device: Where to compute.
        bf16: Whether `autocast` takes bf16 where it does little harm.

    Example:
        >>> inference = Inference("cpu", "fp32")
        >>> with inference.autocast():
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """

    def __init__(self, device: torch.device | str, precision: Precision) -> None:
        self.device = device_for(device)
        self.bf16 = _takes_bf16(self.device, precision)

    def autocast(self) -> torch.autocast:
        """The context in which to call a network."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def _takes_bf16(device: torch.device, precision: Precision) -> bool:
    return precision == "bf16" or (precision == "auto" and _has_bf16(device))


def _has_bf16(device: torch.device) -> bool:
    """Whether a device, a CUDA device or a CPU, has instructions for bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    kinds = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, kind, bool)() for kind in kinds)
