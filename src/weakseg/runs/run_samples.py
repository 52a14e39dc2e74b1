"""The samples of a run while it works: some may be lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weakseg.faults import listed
from weakseg.runs.contents import Contents
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.types import Catalog


@dataclass
class RunSamples:
    """What a run works on.

    Attributes:
        run: The run's folder.
        contents: Hashes of the files, and which images were left out.
        uncorrected: The samples with the tags of the source.
        catalog: The same with people's corrections, without what was lost since the run began.
        source: Where they come from.
        split: The source's split.
        skipped: Ids of images left out because they were bad when the source was checked.
        checked: Hash of what was checked.
    """

    run: RunDir
    contents: Contents
    uncorrected: Catalog
    catalog: Catalog
    source: Path | str
    split: str | None
    skipped: Sequence[str]
    checked: str

    def save(self) -> None:
        """Keeps all of it in the run's folder."""
        self.contents.save()
        self.run.save_catalog(
            self.catalog,
            source=self.source,
            split=self.split,
            skipped=sorted({*self.skipped, *self.contents.left_out}),
            checked=self.checked,
            uncorrected=self.uncorrected,
        )

    def lose(self, lost: Sequence[str], why: str) -> Catalog:
        """Leaves out images that cannot be read any more, and keeps that.

        Args:
            lost: Their ids.
            why: Where they were missed, and what was found.

        Returns:
            The samples that are left.
        """
        self.contents.leave_out(self.uncorrected, lost, why)
        kept = [sample.id for sample in self.catalog if sample.id not in self.contents.left_out]
        self.catalog = self.catalog.subset(kept)
        self.save()
        return self.catalog

    def changes(self, validation: Catalog | None) -> dict[str, str]:
        """What changed of the samples since the run was made, by keys of fingerprints.

        Args:
            validation: The second split.
        """
        found = self.contents.changes(self.uncorrected, self.run.load_catalog(source_tags=True))
        if validation and (self.run.path / VALIDATION).is_file():
            second = self.contents.changes(validation, self.run.load_catalog(VALIDATION))
            if second:
                found["validation"] = "; ".join(second.values())
        return found

    def left_out_told(self) -> str:
        """Which images were left out, in a sentence; empty if none were."""
        names = sorted(self.contents.left_out)
        if not names:
            return ""
        one = len(names) == 1
        return (
            f"{len(names)} {'image' if one else 'images'} that this run began with could not be "
            f"read any more and {'is' if one else 'are'} left out: {listed(names)}; another --out "
            "takes what is there now"
        )
