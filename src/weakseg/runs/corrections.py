"""What a run takes from its reviews: corrected tags, true masks, masks not to learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from weakseg.data.images import image_size, read_mask
from weakseg.data.masks import mask_classes
from weakseg.metrics.scores import size_text, top_label
from weakseg.runs.image_files import image_file
from weakseg.runs.review_dir import REVIEW, TRUE_STATES, ReviewDir
from weakseg.types import BACKGROUND, IGNORE, Catalog, RunError, Sample


@dataclass(frozen=True)
class Corrections:
    """What people corrected, as it was when the run began.

    Attributes:
        tags: By image, its tags from 0, where they are not the source's.
        masks: By image, the file of its true mask.
        rejected: Images whose masks are wrong: nothing learns from them.
        strangers: Images that were reviewed but are none of the run's.
    """

    tags: Mapping[str, frozenset[int]] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()
    strangers: tuple[str, ...] = ()

    def applied(self, catalog: Catalog) -> Catalog:
        """The catalog with the corrected tags."""
        return Catalog(
            catalog.classes,
            tuple(
                replace(sample, tags=self.tags[sample.id]) if sample.id in self.tags else sample
                for sample in catalog
            ),
        )

    def mask_now(self, sample: Sample, made: Path) -> Tensor:
        """The mask that holds now, uint8 [H,W], before the next run and after it.

        It is the true one that people accepted or drew, and where they left it unknown the one that
        was made; else the one that was made, without the classes that people said are not in the
        image.

        Args:
            sample: The image.
            made: The file of the mask that was made for it.

        Raises:
            DataError: The file cannot be read.
        """
        if sample.id in self.masks:
            return self.completed(sample.id, lambda: self._without_wrong_tags(sample, made))
        return self._without_wrong_tags(sample, made)

    def _without_wrong_tags(self, sample: Sample, made: Path) -> Tensor:
        labels = read_mask(made)
        if sample.id not in self.tags:
            return labels
        kept = [BACKGROUND, IGNORE, *(tag + 1 for tag in self.tags[sample.id])]
        gone = ~torch.isin(labels, torch.tensor(kept, dtype=labels.dtype))
        return labels.masked_fill(gone, BACKGROUND)

    def completed(self, sample_id: str, made: Callable[[], Tensor]) -> Tensor:
        """The true mask of an image, uint8 [H,W], its unknown pixels as a made one has them.

        Args:
            sample_id: An image that has a true mask.
            made: Gives the other mask [H,W]; asked only if pixels are unknown.
        """
        labels = read_mask(self.masks[sample_id])
        unknown = labels == IGNORE
        return torch.where(unknown, made(), labels) if bool(unknown.any()) else labels

    def since(self, masks: Path) -> str:
        """What people corrected after the masks of a folder were made, in words; empty if nothing.

        Args:
            masks: The folder of the run's masks; tags are compared with the run's.
        """
        newer = [
            key
            for key, path in self.masks.items()
            if (made := image_file(masks.parent, masks.name, key, ".png")).is_file()
            and _differ(read_mask(path), read_mask(made))
        ]
        counts = ((len(newer), "masks"), (len(self.tags), "images' tags"))
        return " and ".join(f"{count} {what}" for count, what in counts if count)

    def learnt_from(
        self, samples: Sequence[Sample], masks: Sequence[Path], weight: int
    ) -> tuple[list[Sample], list[Path]]:
        """What a network is to see in an epoch, where people said something.

        Args:
            samples: The images.
            masks: The file that each would be learnt with.
            weight: How often an image with a true mask is seen in an epoch.

        Returns:
            Images and files: true masks in place of others and `weight` times, rejected ones not at
            all. If all are rejected, nothing is left out.
        """
        kept = [
            (sample, self.masks.get(sample.id, path))
            for sample, path in zip(samples, masks, strict=True)
            if sample.id not in self.rejected
        ]
        seen = [pair for pair in kept for _ in range(weight if pair[0].id in self.masks else 1)]
        if not seen:
            return list(samples), list(masks)
        return [sample for sample, _ in seen], [path for _, path in seen]

    @property
    def summary(self) -> Mapping[str, int]:
        """Counts of corrected and rejected masks, where there are some, for a stage's record."""
        counts = {"corrected": len(self.masks), "rejected": len(self.rejected)}
        return {name: count for name, count in counts.items() if count}

    def tags_digest(self) -> str:
        """A hash of the corrected tags; empty if there are none."""
        return _hash(f"{key} {sorted(tags)}" for key, tags in sorted(self.tags.items()))

    def masks_digest(self) -> str:
        """A hash of the true and the rejected masks; empty if there are none."""
        true = [f"{key} {path.name}" for key, path in sorted(self.masks.items())]
        return _hash([*true, *(f"{key} rejected" for key in sorted(self.rejected))])


def _differ(true: Tensor, made: Tensor) -> bool:
    """Whether a mask is not as a true one [H,W] says, wherever that says something."""
    return true.shape != made.shape or bool(((true != made) & (true != IGNORE)).any())


NO_CORRECTIONS = Corrections()


def read_corrections(run: Path, catalog: Catalog) -> Corrections | None:
    """Reads what people corrected in a run, and looks at every mask once.

    Args:
        run: The run's folder.
        catalog: Its samples with the tags of the source.

    Returns:
        The corrections; None if the run has no reviews at all.

    Raises:
        RunError: A file is damaged, or does not fit the image or the classes.
    """
    if not (run / REVIEW / "entries").is_dir():
        return None
    reviews = ReviewDir(run, catalog.classes)
    index = {name: k for k, name in enumerate(catalog.classes)}
    known = {sample.id for sample in catalog}
    tags: dict[str, frozenset[int]] = {}
    masks: dict[str, Path] = {}
    rejected, strangers = set(), []
    for sample_id in reviews.ids():
        if sample_id not in known:
            strangers.append(sample_id)
            continue
        sample, found = catalog[sample_id], reviews.load(sample_id)
        if found is None:  # removed this moment
            continue
        if unknown := [name for name in found.now.tags if name not in index]:
            raise RunError(
                f"{reviews.path}: {sample_id} has the tag {unknown[0]!r}, which is none of the "
                f"run's classes ({', '.join(catalog.classes)}); review the image again"
            )
        names = frozenset(index[name] for name in found.now.tags)
        if names != sample.tags:
            tags[sample_id] = names
        if found.now.state == "rejected":
            rejected.add(sample_id)
        elif found.now.state in TRUE_STATES:
            masks[sample_id] = _checked_mask(reviews, sample, found.now.mask)
    return Corrections(tags, masks, frozenset(rejected), tuple(strangers))


def _checked_mask(reviews: ReviewDir, sample: Sample, digest: str) -> Path:
    path, mask = (
        reviews.mask_file(sample.id, digest),
        reviews.mask(sample.id, digest),
    )
    height, width = image_size(sample.image)
    if tuple(mask.shape) != (height, width):
        raise RunError(
            f"{path} is {size_text(mask)}, but its image is {width}×{height}; was the image "
            "exchanged? Undo the correction, or put the image back"
        )
    if mask_classes(path) != reviews.classes or top_label(mask) > len(reviews.classes):
        raise RunError(
            f"{path} was drawn for other classes than the run's ({', '.join(reviews.classes)}); "
            "undo the correction, or give the classes back their order by classes.txt"
        )
    return path


def _hash(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
