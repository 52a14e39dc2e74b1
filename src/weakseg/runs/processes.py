"""Which of a launcher's processes this is."""

from __future__ import annotations

import os


def first_process() -> bool:
    """Whether this is the only process, or the first of a launcher's: the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes of a launcher work on the run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
