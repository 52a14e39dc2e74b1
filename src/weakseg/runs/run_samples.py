"""The samples of a run while it works: some may be lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weakseg.faults import listed
from weakseg.runs.contents import Contents
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.types import Catalog


@dataclass(frozen=True)
class Validation:
    """A second split of the source, on which the segmentation network is tried.

    Attributes:
        catalog: Its samples.
        split: Its name.
        skipped: Ids of images left out because they are bad.
        checked: Hash of what was checked.
    """

    catalog: Catalog
    split: str
    skipped: Sequence[str] = ()
    checked: str = ""


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
        validation: The second split, if there is one.
    """

    run: RunDir
    contents: Contents
    uncorrected: Catalog
    catalog: Catalog
    source: Path | str
    split: str | None
    skipped: Sequence[str]
    checked: str
    validation: Validation | None = None

    def save(self) -> None:
        """Keeps all of it in the run's folder."""
        self.contents.save()
        self.run.save_catalog(
            self.catalog,
            source=self.source,
            split=self.split,
            skipped=sorted({*self.skipped, *self.contents.lost()}),
            checked=self.checked,
            uncorrected=self.uncorrected,
        )
        if (second := self.validation) is not None:
            lost = self.contents.lost(validation=True)
            self.run.save_catalog(
                second.catalog,
                source=self.source,
                split=second.split,
                skipped=sorted({*second.skipped, *lost}),
                checked=second.checked,
                name=VALIDATION,
            )

    def lose(self, lost: Sequence[str], why: str) -> Catalog:
        """Leaves out images that cannot be read any more, and keeps that.

        Args:
            lost: Their ids, of the run's own samples or of the second split.
            why: Where they were missed, and what was found.

        Returns:
            The run's own samples that are left.
        """
        if (second := self.validation) is not None:
            theirs = [sample.id for sample in second.catalog if sample.id in lost]
            self.contents.leave_out(second.catalog, theirs, why, validation=True)
            others = [sample.id for sample in second.catalog if sample.id not in lost]
            self.validation = replace(second, catalog=second.catalog.subset(others))
            lost = [name for name in lost if name not in theirs]
        self.contents.leave_out(self.uncorrected, lost, why)
        kept = [sample.id for sample in self.catalog if sample.id not in self.contents.left_out]
        self.catalog = self.catalog.subset(kept)
        self.save()
        return self.catalog

    def changes(self) -> dict[str, str]:
        """What changed of the samples since the run was made, by keys of fingerprints."""
        found = self.contents.changes(self.uncorrected, self.run.load_catalog(source_tags=True))
        if self.validation is not None and (self.run.path / VALIDATION).is_file():
            had = self.run.load_catalog(VALIDATION)
            if second := self.contents.changes(self.validation.catalog, had):
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
