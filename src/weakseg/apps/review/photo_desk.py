"""What a reviewer does to one image: look, judge, draw, tag, undo. No web in here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from weakseg.apps.report.facts import Facts, read_facts
from weakseg.data.decode import image_size
from weakseg.data.images import read_mask, read_sample
from weakseg.ops.cams import grid_size, working_size
from weakseg.ops.regions import boundary_regions
from weakseg.ops.scribbles import BESIDE, OBJECT, complete_scribbles
from weakseg.runs.image_files import image_file
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.review_dir import TRUE_STATES, Review, ReviewDir, State
from weakseg.types import BACKGROUND, IGNORE, DataError, RunError, Sample, WeaksegError

MAX_PIXELS = 16_000_000
"""A mask of more pixels is shown and drawn on a coarser grid; the rest of it stays as it is."""

_EDGE_SIDE = 512
"""Long side of a photo whose own edges stand in for boundaries that no stage has learnt."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Patch:
    """A rectangle of a mask as it was drawn anew.

    Attributes:
        x: Its left, in pixels of the grid on which the mask is shown.
        y: Its top.
        labels: uint8 [h,w].
    """

    x: int
    y: int
    labels: Bytes


class PhotoDesk:
    """The images of a run with what the run made of them and what people said since.

    Attributes:
        facts: Of the run.
        reviews: What people said.
        who: The reviewer's name.
    """

    def __init__(self, run: Path, who: str) -> None:
        self.facts: Facts = read_facts(run)
        if not self.facts.has("masks"):
            raise RunError(
                f"{run} has no masks yet; give the same `weakseg run` command again to finish it"
            )
        self.who = who
        self.reviews = ReviewDir(run, self.facts.catalog.classes)
        self.reviews.sweep()
        self.boundary = lru_cache(maxsize=16)(self._boundary)
        self._lock = threading.Lock()

    def sample(self, sample_id: str) -> Sample:
        """An image of the run.

        Raises:
            DataError: The run has no such image.
        """
        try:
            return self.facts.catalog[sample_id]
        except KeyError:
            raise DataError(f"the run has no image {sample_id!r}") from None

    def mask_of_run(self, sample: Sample) -> Tensor:
        """The mask that the run made, uint8 [H,W]."""
        path = image_file(self.facts.path, "masks", sample.id, ".png")
        try:
            return read_mask(path)
        except DataError as error:
            raise RunError(f"{error}; give `weakseg run` again to make it") from None

    def tags_of_run(self, sample: Sample) -> list[str]:
        """The names of the classes that the run was told are in the image."""
        return [self.facts.catalog.classes[tag] for tag in sorted(sample.tags)]

    def masks(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """The mask that holds now, and that from before anybody said anything."""
        found, made = self.reviews.load(sample.id), self.mask_of_run(sample)
        if found is None:
            return made, made
        before = self.reviews.mask(sample.id, found.original.mask)
        return self._shown(sample, found, made), before

    def _shown(self, sample: Sample, found: Review, made: Tensor) -> Tensor:
        """The mask that people drew; the run's newer one where nobody said that theirs is true."""
        if found.now.state in TRUE_STATES or found.now.mask != found.original.mask:
            return self.reviews.mask(sample.id, found.now.mask)
        return made

    def tags(self, sample: Sample, found: Review | None) -> list[str]:
        """The tags that hold now."""
        return list(found.now.tags) if found else self.tags_of_run(sample)

    def judge(self, sample: Sample, version: int | None, state: State) -> Review:
        """Accepts or rejects the mask that is shown, or leaves it open again."""
        with self._lock:
            found = self.reviews.load(sample.id)
            made = self.mask_of_run(sample)
            mask = made if found is None else self._shown(sample, found, made)
            return self._change(sample, version, action=state, state=state, mask=mask)

    def draw(self, sample: Sample, version: int | None, patch: Patch, action: str) -> Review:
        """Puts a rectangle in place of what was there; the mask is true from then on.

        Classes that are drawn become tags.

        Raises:
            DataError: The rectangle leaves the mask, or holds labels that stand for no class.
        """
        with self._lock:
            found, made = self.reviews.load(sample.id), self.mask_of_run(sample)
            mask = made if found is None else self._shown(sample, found, made)
            drawn = self._patched(mask, patch)
            names = self.facts.catalog.classes
            there = [names[k - 1] for k in torch.unique(drawn).tolist() if BACKGROUND < k < IGNORE]
            known = self.tags(sample, found)
            tags = [name for name in names if name in known or name in there]
            return self._change(
                sample, version, action=action, state="corrected", mask=drawn, tags=tags
            )

    def _patched(self, mask: Tensor, patch: Patch) -> Tensor:
        height, width = patch.labels.shape
        step = grid_step(mask)
        coarse = mask[::step, ::step]
        if not (
            0 <= patch.x <= patch.x + width <= coarse.shape[1]
            and 0 <= patch.y <= patch.y + height <= coarse.shape[0]
        ):
            raise DataError(
                f"a rectangle {width}×{height} at {patch.x},{patch.y} leaves the mask of "
                f"{coarse.shape[1]}×{coarse.shape[0]}; look at the image anew"
            )
        strange = patch.labels[(patch.labels > len(self.facts.catalog.classes))]
        if strange.size and (strange != IGNORE).any():
            raise DataError(f"label {strange.min()} stands for no class; look at the image anew")
        labels = torch.from_numpy(patch.labels.copy())
        here = (slice(patch.y, patch.y + height), slice(patch.x, patch.x + width))
        changed = labels != coarse[here]
        place = tuple(slice(part.start * step, part.stop * step) for part in here)
        part = mask[place]
        fine, where = (
            x.repeat_interleave(step, 0).repeat_interleave(step, 1)[
                : part.shape[0], : part.shape[1]
            ]
            for x in (labels, changed)
        )
        drawn = mask.clone()
        drawn[place] = torch.where(where, fine, part)
        return drawn

    def tag(self, sample: Sample, version: int | None, names: Sequence[str]) -> Review:
        """Says which classes are in the image; pixels of others become background.

        Raises:
            DataError: A name is no class of the run.
        """
        classes = self.facts.catalog.classes
        if unknown := [name for name in names if name not in classes]:
            raise DataError(f"{unknown[0]!r} is none of the run's classes")
        with self._lock:
            found, made = self.reviews.load(sample.id), self.mask_of_run(sample)
            mask = made if found is None else self._shown(sample, found, made)
            kept = [BACKGROUND, IGNORE, *(classes.index(name) + 1 for name in names)]
            gone = ~torch.isin(mask, torch.tensor(kept, dtype=mask.dtype))
            drawn = mask.masked_fill(gone, BACKGROUND) if bool(gone.any()) else None
            ordered = [name for name in classes if name in names]
            return self._change(sample, version, action="tags", tags=ordered, mask=drawn)

    def undo(self, sample: Sample, version: int | None) -> Review:
        """Goes back to what was before the last change."""
        return self.reviews.undo(sample.id, version)

    def redo(self, sample: Sample, version: int | None) -> Review:
        """Goes forth to what was undone last."""
        return self.reviews.redo(sample.id, version)

    def _change(
        self,
        sample: Sample,
        version: int | None,
        *,
        action: str,
        state: State | None = None,
        tags: Sequence[str] | None = None,
        mask: Tensor | None = None,
    ) -> Review:
        def before() -> tuple[list[str], Tensor]:
            return self.tags_of_run(sample), self.mask_of_run(sample)

        return self.reviews.change(
            sample.id,
            version,
            before,
            who=self.who,
            action=action,
            state=state,
            tags=tags,
            mask=mask,
        )

    def regions(self, sample: Sample) -> Tensor:
        """The numbers of the pieces between boundaries, int64 [h,w] on the boundaries' grid."""
        return boundary_regions(self.boundary(sample))

    def complete(self, sample: Sample, scribbles: Bytes, label: int) -> Bytes:
        """Where an object is that a person scribbled on, on the grid on which the mask is shown.

        Pixels of other classes count as beside it, and so does the photo's frame where nothing is
        scribbled beside it.

        Args:
            sample: The image.
            scribbles: uint8 [h,w], of any size: `OBJECT`, `BESIDE`, 0 elsewhere.
            label: The object's label.

        Returns:
            uint8 [h,w]: 1 where the object is.

        Raises:
            DataError: Nothing is scribbled on the object.
        """
        boundary, (mask, _) = self.boundary(sample), self.masks(sample)
        size = (boundary.shape[0], boundary.shape[1])
        given = torch.from_numpy(scribbles.copy()).float()
        parts = torch.stack([given == OBJECT, given == BESIDE]).float()[None]
        on, beside = functional.adaptive_max_pool2d(parts, size)[0] > 0
        if not bool(on.any()):
            raise DataError("nothing is scribbled on the object")
        others = (mask != label) & (mask != BACKGROUND) & (mask != IGNORE)
        if bool(others.any()):
            share = functional.adaptive_avg_pool2d(others.float()[None, None], size)[0, 0]
            beside |= (share == 1) & ~on
        if not bool(beside.any()):
            beside[[0, -1]] = True
            beside[:, [0, -1]] = True
        seeds = torch.where(on, OBJECT, torch.where(beside, BESIDE, 0)).to(torch.uint8)
        if not bool((seeds == BESIDE).any()):  # the object fills the frame
            return np.ones(mask[:: grid_step(mask), :: grid_step(mask)].shape, np.uint8)
        walk = self.facts.context.config.walk
        lead = complete_scribbles(seeds, boundary, radius=walk.radius, beta=walk.beta)
        shown = mask[:: grid_step(mask), :: grid_step(mask)].shape
        fine = functional.interpolate(lead[None, None], shown, mode="bilinear")[0, 0]
        inside: Bytes = (fine > 0).to(torch.uint8).numpy()
        return inside

    def _boundary(self, sample: Sample) -> Tensor:
        if self.facts.has("walk"):
            try:
                kept = ImageMaps.load(self.facts.path, "walk", sample.id)
            except WeaksegError:
                kept = None
            if kept is not None and kept.boundary is not None:
                return kept.boundary
        return _edges(sample)


def grid_step(mask: Tensor) -> int:
    """Every how many pixels of a mask are shown and drawn on, in either direction."""
    step = 1
    while mask.numel() > MAX_PIXELS * step**2:
        step += 1
    return step


def _edges(sample: Sample) -> Tensor:
    """How much neighbouring pixels of a photo differ, 0..1 [h,w] on a grid of stride 4."""
    height, width = image_size(sample.image)
    long_side = min(_EDGE_SIDE, max(height, width))
    size = working_size(height, width, long_side)
    photo = read_sample(sample, max_side=long_side).float() / 255
    grid = grid_size(*size)
    small = functional.interpolate(photo[None], grid, mode="area")[0]
    padded = functional.pad(small[None], (1, 1, 1, 1), mode="replicate")[0]
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return (2 * (across.square() + down.square()).sum(dim=0).sqrt()).clamp(0, 1)
