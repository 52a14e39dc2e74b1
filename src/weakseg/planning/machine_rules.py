"""What follows from the machine: pieces of a batch, precision, reading processes."""

from __future__ import annotations

import math

from weakseg.planning.choices import Choice
from weakseg.planning.machine_costs import MachineCosts, TrainingCost
from weakseg.planning.training_rules import BATCH, SEGMENT_BATCH

_SHARE = 0.5
"""Share of the free memory that a batch may take: others want some, and it is an estimate."""

_FOR_RATE = "what the learning rate is for"
_SHARED = f"{_FOR_RATE}, in equal parts for all processes"

_READERS = 8
"""Processes that read by default, at most."""


def pieces(batch: int, view_bytes: float, free_bytes: int | None, least: int = 1) -> int:
    """How many pieces a batch is computed in so that one fits into memory.

    Args:
        batch: Images a step.
        view_bytes: What one of them takes.
        free_bytes: Memory that can be had; None: not known, and enough.
        least: Fewest images of a piece.
    """
    count = 1
    while (
        free_bytes is not None
        and batch // count * view_bytes > _SHARE * free_bytes
        and batch % (2 * count) == 0
        and batch // (2 * count) >= least
    ):
        count *= 2
    return count


def machine_choices(costs: MachineCosts, ratio: float = 1.0, processes: int = 1) -> list[Choice]:
    """Batches, precision and readers.

    Args:
        costs: What was measured.
        ratio: Pixels of the views over those of the views that were measured.
        processes: That share each batch.
    """
    words = "bf16, for which it has instructions" if costs.bf16 else "float32: it has no bf16"
    chosen = [Choice("precision", "auto", f"this machine's {costs.device} computes in {words}")]
    trainings = {
        "fit": (BATCH, costs.tag_training),
        "recalibrate.fit": (BATCH, costs.recalibration),
        "relate.fit": (BATCH, costs.relation_training),
        "segment.fit": (SEGMENT_BATCH, costs.mask_training),
    }
    for section, (usual, cost) in trainings.items():
        least = 2 if section == "segment.fit" else 1
        own = max(least, -(-usual // processes))
        count = pieces(own, ratio * cost.bytes, costs.free_bytes, least)
        batch, piece = own * processes, own // count
        told = f"{piece} images take {_gigabytes(piece * ratio * cost.bytes)}"
        if costs.free_bytes is not None:
            told += f", and {_gigabytes(costs.free_bytes)} are free"
        chosen += [
            Choice(f"{section}.batch_size", batch, _FOR_RATE if batch == usual else _SHARED),
            Choice(f"{section}.accumulate", count, told),
        ]
    workers, why = readers(costs.read_view, costs.tag_training, costs.processors)
    chosen += [Choice(f"{section}.workers", workers, why) for section in trainings]
    return chosen


def readers(read_seconds: float, training: TrainingCost, processors: int) -> tuple[int | None, str]:
    """How many processes read images for a training; None: as many as by default.

    Args:
        read_seconds: Seconds to read an image and cut a view of it.
        training: What the network needs for it.
        processors: That there are.
    """
    needed = max(1, math.ceil(read_seconds / max(training.seconds, 1e-9)))
    usual = min(_READERS, max(1, processors - 1))
    told = (
        f"reading a view takes {_milliseconds(read_seconds)}, learning from it "
        f"{_milliseconds(training.seconds)}"
    )
    if needed <= usual or processors - 1 <= usual:
        enough = "keeps up" if needed <= usual else "are all there are: smaller files would help"
        return None, f"{told}; {usual} reading process{'es' * (usual != 1)} {enough}"
    return min(needed, processors - 1), f"{told}; {needed} reading processes would keep up"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
