"""What a stage is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weakseg import progress
from weakseg.runs.corrections import NO_CORRECTIONS, Corrections
from weakseg.runs.processes import first_process
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.runs.stage_progress import noted
from weakseg.types import Catalog

if TYPE_CHECKING:
    from rich.console import Console

    from weakseg.config.run_config import RunConfig


@dataclass(frozen=True)
class StageContext:
    """What a stage is given.

    Attributes:
        config: The settings that the stage's row in the pipeline's table declares, and no others;
            all of them for who reads a finished run.
        catalog: The samples.
        run: The run's folder, to read other stages' results: `context.run.stage("cams")`.
        dir: The stage's own folder, to write to.
        console: Where to print.
        validation: A second split, on which the segmentation network is tried.
        corrections: What people corrected of the masks; the catalog bears their tags.
    """

    config: RunConfig
    catalog: Catalog
    run: RunDir
    dir: StageDir
    console: Console
    validation: Catalog | None = None
    corrections: Corrections = NO_CORRECTIONS

    @classmethod
    def silent(
        cls,
        config: RunConfig,
        catalog: Catalog,
        run: RunDir,
        folder: StageDir,
        corrections: Corrections = NO_CORRECTIONS,
    ) -> StageContext:
        """A context that prints nothing, for processes that work along or only read."""
        from rich.console import Console  # noqa: PLC0415

        console = Console(quiet=True)
        return cls(config, catalog, run, folder, console, corrections=corrections)

    @classmethod
    def reading(cls, run: RunDir) -> StageContext:
        """A context of a run that is there, to read its stages' results with its own settings.

        Raises:
            ConfigError: Its `config.yaml` is missing, or of another version.
            RunError: It is no run, or damaged.
        """
        from weakseg.config.run_config import load_config  # noqa: PLC0415

        catalog = run.load_catalog()
        config = load_config(file=run.path / "config.yaml")
        return cls.silent(config, catalog, run, StageDir(run.path))

    def __reduce__(self) -> tuple[Any, ...]:
        # For processes that work along: a console has locks, which cannot be handed over.
        return StageContext.silent, (
            self.config,
            self.catalog,
            self.run,
            self.dir,
            self.corrections,
        )

    def say(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def track(
        self, label: str, total: int, *, done: int = 0, unit: str = "images"
    ) -> Iterator[progress.Advance]:
        """A progress bar for the block: `with context.track("cams", 10) as advance: advance()`.

        The stage's folder tells the same to `weakseg status`.

        Args:
            label: What is being done.
            total: Pieces of work in all.
            done: Pieces already there from an interrupted run.
            unit: Name of a piece, for the speed.
        """
        if not total:  # nothing is this process's
            yield _unseen
            return
        with progress.track(self.console, label, total, done=done, unit=unit) as shown:
            if not first_process():
                yield shown
                return
            with noted(self.dir.path, shown, label, total=total, done=done, unit=unit) as advance:
                yield advance


def _unseen(n: int = 1, **fields: object) -> None:
    """An `Advance` that nobody sees."""
