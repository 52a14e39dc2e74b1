"""Whether true masks mean by an index what the tags mean by a class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from weakseg.types import BACKGROUND, IGNORE

Key = TypeVar("Key")

_NAMED = 3
_LEAST = 3  # of one or two masks, wrong tags are as likely as wrong indices


@dataclass
class TruthAgreement:
    """Counts, image by image, which indices true masks hold and which classes are tagged.

    A single difference may be an object too small to be drawn, or a tag forgotten. Where most masks
    differ, the masks count their classes otherwise than the tags: from 0, in another order, by
    another list.

    Args:
        classes: Names of the classes 1..K.

    Attributes:
        images: How many masks were seen.
        untagged: Images whose mask shows a class that is not tagged, in the order seen.
        lacking: Images whose mask lacks a tagged class.
        differing: How many images are in either.

    Example:
        >>> agreement = TruthAgreement(["cat", "dog"])
        >>> for image, shown, tagged in (("a", {0, 2}, {1}), ("b", {0, 1}, {2})):
        ...     agreement.update(image, shown, tagged)
        >>> agreement.moved()
        {1: 2, 2: 1}
    """

    classes: Sequence[str]
    images: int = 0
    untagged: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    differing: int = 0
    _values: set[int] = field(default_factory=set, repr=False)
    _kinds: set[tuple[frozenset[int], frozenset[int]]] = field(default_factory=set, repr=False)
    _shown: dict[int, int] = field(default_factory=dict, repr=False)
    _tagged: dict[int, int] = field(default_factory=dict, repr=False)
    _together: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def update(self, image: str, shown: Collection[int], tagged: Collection[int]) -> None:
        """Adds one image.

        Args:
            image: Its id.
            shown: All indices in its true mask, 0 and 255 among them.
            tagged: The mask indices 1..K of its tags.
        """
        self.images += 1
        self._values.update(shown)
        objects, expected = set(shown) - {BACKGROUND, IGNORE}, set(tagged)
        if objects - expected:
            self.untagged.append(image)
        if expected - objects:
            self.lacking.append(image)
        self.differing += objects != expected
        self._kinds.add((frozenset(objects), frozenset(expected)))
        _count(self._shown, objects)
        _count(self._tagged, expected)
        _count(self._together, {(index, k) for index in objects for k in expected})

    @property
    def contradicts(self) -> bool:
        """Whether the masks' indices are others than the tags'.

        Most masks, at least three, differ and some show more than is tagged; or two differ and
        another order of the classes makes all masks agree.
        """
        if not self.untagged:
            return False
        most = self.differing >= _LEAST and 2 * self.differing > self.images
        return most or (self.differing > 1 and self._explained())

    def _explained(self) -> bool:
        """Whether masks and tags agree in all images once moved indices are put right."""
        moved = self.moved()
        return bool(moved) and all(
            {moved.get(index, index) for index in objects} == tagged
            for objects, tagged in self._kinds
        )

    @property
    def two_values(self) -> bool:
        """Whether all masks together hold only 0 and 255: a mask of one class, or of none."""
        return IGNORE in self._values and self._values <= {BACKGROUND, IGNORE}

    def moved(self) -> Mapping[int, int]:
        """Indices that lie where another class is tagged: index in the masks → mask index of tags.

        An index belongs to the class whose images it shares most (intersection over union of the
        images); it has moved if that is more than half, and more than with its own class.
        """
        found = {}
        for index in sorted(self._shown):
            overlap = {k: self._overlap(index, k) for k in sorted(self._tagged)}
            best = max(overlap, key=overlap.__getitem__, default=index)
            if best != index and overlap[best] > max(0.5, overlap.get(index, 0.0)):
                found[index] = best
        return found

    def _overlap(self, index: int, k: int) -> float:
        both = self._together.get((index, k), 0)
        return both / (self._shown[index] + self._tagged[k] - both)

    def findings(self) -> list[str]:
        """What there is to say, in words; empty if masks and tags agree."""
        texts = []
        if self.two_values:
            texts.append(
                f"all {self.images} true masks hold only 0 and {IGNORE}, which is 'ignored': "
                "no class can be scored"
            )
            return texts
        if self.untagged:
            texts.append(
                f"{len(self.untagged)} of {self.images} true masks show a class that is not "
                f"tagged ({_some(self.untagged)})"
            )
        if self.lacking:
            texts.append(
                f"{len(self.lacking)} of {self.images} true masks lack a tagged class "
                f"({_some(self.lacking)})"
            )
        moved = self.moved() if self.untagged else {}
        texts += [
            f"index {index} is in the masks of images tagged {self.classes[k - 1]!r}, "
            f"whose index is {k}"
            for index, k in moved.items()
        ]
        return texts


def _count(counts: dict[Key, int], keys: Collection[Key]) -> None:
    for key in keys:
        counts[key] = counts.get(key, 0) + 1


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
