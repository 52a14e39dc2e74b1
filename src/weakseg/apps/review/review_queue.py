"""In which order images are looked at: all of a run, by doubt or by file, filtered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from weakseg.apps.report.doubts import Doubt, Judge, LikelyWrong, ranked
from weakseg.apps.review.photo_desk import PhotoDesk
from weakseg.runs.review_dir import Review, State
from weakseg.types import Sample, WeaksegError

STATES: tuple[State, ...] = get_args(State)
ORDERS = ("doubt", "file")


@dataclass(frozen=True)
class Row:
    """An image in the queue.

    Attributes:
        id: The image.
        state: Of its mask.
        tags: Names of its classes.
        doubts: Reasons to look at it, the strongest first.
    """

    id: str
    state: State
    tags: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()


@dataclass
class ReviewQueue:
    """All images of a run, what people said of them, and how doubtful their masks are.

    Attributes:
        desk: The run.
        looked_at: How many images' doubts are known.
        damaged: How many more could not be looked at, because a map or mask is missing.
    """

    desk: PhotoDesk
    looked_at: int = 0
    damaged: int = 0
    _doubts: dict[str, tuple[Doubt, ...]] = field(default_factory=dict)
    _ranks: dict[str, float] = field(default_factory=dict)
    _reviews: dict[str, tuple[int, Review | None]] = field(default_factory=dict)
    _faults: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, stop: threading.Event | None = None) -> None:
        """Finds the doubts of all images; may take minutes for very many.

        Args:
            stop: Ends the work when it is set.
        """
        facts = self.desk.facts
        found: dict[str, dict[str, Doubt]] = {}
        wrong: dict[str, Mapping[int, LikelyWrong]] = {}
        judge = Judge(facts)
        for sample in facts.catalog:
            if stop is not None and stop.is_set():
                return
            try:
                judged = judge.of(sample)
                found[sample.id] = judged.doubts
                wrong[sample.id] = judged.wrong
            except WeaksegError:
                self.damaged += 1
            self.looked_at += 1
        ranks, doubts = ranked(found, wrong)
        with self._lock:
            self._ranks, self._doubts = ranks, doubts

    @property
    def ready(self) -> bool:
        """Whether all images have been looked at."""
        return self.looked_at >= len(self.desk.facts.catalog)

    def rows(
        self,
        order: str = "doubt",
        *,
        tag: str = "",
        state: str = "",
        text: str = "",
    ) -> list[Row]:
        """Images in their order.

        Args:
            order: One of `ORDERS`.
            tag: Only images with this class.
            state: Only those in this state.
            text: Only those whose id holds this text, in any case.
        """
        self.refresh()
        rows = (self.row(sample) for sample in self.desk.facts.catalog)
        wanted = text.casefold()
        chosen = [
            row
            for row in rows
            if (not tag or tag in row.tags)
            and (not state or row.state == state)
            and wanted in row.id.casefold()
        ]
        if order == "doubt":
            chosen.sort(key=lambda row: -self._ranks.get(row.id, 0.0))
        return chosen

    def row(self, sample: Sample) -> Row:
        """One image as it was when `refresh` was last called."""
        found = self._reviews.get(sample.id, (0, None))[1]
        tags = tuple(self.desk.tags(sample, found))
        state: State = found.now.state if found else "open"
        return Row(sample.id, state, tags, self._doubts.get(sample.id, ()))

    def counts(self) -> Mapping[str, int]:
        """How many images are in each state."""
        states = Counter(self.row(sample).state for sample in self.desk.facts.catalog)
        return {state: states[state] for state in STATES}

    def refresh(self) -> None:
        """Reads again the reviews that changed, by whomever."""
        root = self.desk.reviews.path / "entries"
        with self._lock:
            seen: dict[str, tuple[int, Review | None]] = {}
            for path in root.rglob("*.json"):
                key = path.relative_to(root).as_posix().removesuffix(".json")
                try:
                    time = path.stat().st_mtime_ns
                    known = self._reviews.get(key)
                    same = known is not None and known[0] == time
                    seen[key] = known if same and known else (time, self.desk.reviews.load(key))
                    self._faults.pop(key, None)
                except (OSError, WeaksegError) as error:
                    self._faults[key] = str(error)
            self._reviews = seen

    @property
    def faults(self) -> Sequence[str]:
        """What is wrong with reviews that cannot be read."""
        return list(self._faults.values())
