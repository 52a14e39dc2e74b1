"""What can befall a stage that is no fault of weakseg: images that go, processes that are ended."""

from __future__ import annotations

import gc
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from weakseg.faults import FileError
from weakseg.processors import free_memory
from weakseg.training.memory import is_out_of_memory
from weakseg.types import RunError, Sample

_DEAD = ("is killed by signal", "exited unexpectedly")
_GIGABYTE = 1e9


class ReaderEndedError(RunError):
    """A process that reads images was ended from outside.

    Attributes:
        found: What happened, without the remedy.
    """

    def __init__(self, stage: str, found: str, remedy: str) -> None:
        super().__init__(f"stage {stage!r}: {found}; {remedy}")
        self.found = found


@contextmanager
def outside_faults_told(stage: str, samples: Iterable[Sample], workers: str) -> Iterator[None]:
    """Turns what is no fault of weakseg into an error that says how to go on.

    Args:
        stage: What is running.
        samples: Its images.
        workers: The setting of how many processes read for it, as `fit.workers`.

    Raises:
        FileError: An image that was fine when it was checked is missing or damaged.
        ReaderEndedError: A process that reads images was ended.
        RunError: Memory does not suffice.
    """
    try:
        yield
    except FileError as error:
        if error.path not in {sample.image for sample in samples}:
            raise
        remedy = (
            "put the file back as it was and give the same command again, or give it with "
            "--skip-bad, which goes on without it"
        )
        raise FileError(error.path, error.kind, error.found, remedy) from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise _no_memory(stage, workers) from error
        text = " ".join(str(error).split())
        if "DataLoader worker" not in text or not any(sign in text for sign in _DEAD):
            raise
        _let_go(error)
        told = text.partition(" It is possible")[0].rstrip(".")
        raise ReaderEndedError(stage, _ended(told), _lower(workers)) from None
    except ConnectionResetError as error:  # in the middle of a batch
        _let_go(error)
        raise ReaderEndedError(stage, _ended(str(error)), _lower(workers)) from None
    except MemoryError as error:
        raise _no_memory(stage, workers) from error


def _ended(told: str) -> str:
    return (
        "a process that reads images was ended from outside, mostly for want of memory "
        f"({told}; {_free()})"
    )


def _no_memory(stage: str, workers: str) -> RunError:
    return RunError(
        f"stage {stage!r}: there is not enough memory ({_free()}); end other programs, give "
        f"--device cpu if it is the GPU's, or {_lower(workers)}"
    )


def _let_go(error: BaseException) -> None:
    """End the loader whose process died, which the error's frames keep alive.

    Until then torch's handler raises the error anew, anywhere, whenever another child ends.
    """
    ours = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if ours else None
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__
    gc.collect()
    if handler is not None:
        signal.signal(signal.SIGCHLD, handler)


def _free() -> str:
    free = free_memory()
    return "free memory unknown" if free is None else f"{free / _GIGABYTE:.1f} GB are free"


def _lower(workers: str) -> str:
    return (
        f"lower --set {workers}=1 (0 reads in the main process) and give the same command again, "
        "which goes on from here"
    )
