"""The report's first part: every image with its mask, in one list that is filtered in the page.

What the list needs to know of an image stands in the page, in a line. Pictures do as long as there
is room; those of larger runs lie in a folder beside it, some images a file, and the page loads the
files of what is looked at. They are scripts, not JSON: browsers load nothing else from the disk.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from weakseg.apps.report.doubts import KINDS, Survey
from weakseg.apps.report.facts import Facts
from weakseg.apps.report.pictures import Card, brief_card, colour, mask_files
from weakseg.files import replacing, sweep
from weakseg.runs.corrections import Corrections
from weakseg.runs.image_files import has_shard_folders, image_file, relative_file
from weakseg.runs.parallel import parallel_map
from weakseg.runs.review_dir import ReviewDir
from weakseg.runs.run_dir import VALIDATION
from weakseg.types import RunError, Sample

MOST = 50_000
"""Most images of a report; of more, the most doubtful and the first."""

PER_FILE = 48
"""Images in a file of pictures: about half a megabyte."""

FOLDER = "report"
"""Below a run's: pictures that the page has no room for."""

_ROW_BYTES = 120
"""What an image takes in the page without its pictures, about."""

_WITH_MAPS = 400
"""All images of so small a run have their maps, too; of larger ones those that have cards."""

_MANY = 500
"""From so many images on, several processes make the pictures."""


@dataclass(frozen=True)
class Shown:
    """An image in the viewer.

    Attributes:
        sample: The image.
        stage: Whose mask of it is shown: `masks`, or `validate` of an image of the second split.
    """

    sample: Sample
    stage: str = "masks"


@dataclass(frozen=True)
class Viewer:
    """What the page is told.

    Attributes:
        data: All of it, as JSON.
        images: How many images are in it.
        left_out: How many more the run has.
        beside: The folder of further pictures, as a path below the run's; empty: there is none.
    """

    data: str
    images: int
    left_out: int
    beside: str


def make_viewer(
    facts: Facts,
    survey: Survey | None,
    corrections: Corrections,
    carded: Mapping[str, str],
    *,
    budget: int,
    advance: Callable[[], None] = lambda: None,
) -> Viewer:
    """All images for the page, and beside it the pictures that it has no room for.

    Args:
        facts: Of a run whose stage `masks` is finished.
        survey: The doubts; None if the images were not looked at.
        corrections: What people corrected; their masks are shown.
        carded: By image, the id in the page of its photo, where it has a card there.
        budget: Most bytes of all this in the page.
        advance: Called after each picture that is made.

    Raises:
        RunError: The folder cannot be written, or a review is damaged.
    """
    everything = _shown(facts, survey)
    shown = everything[:MOST]
    rest = [s for s in shown if s.stage != "masks" or s.sample.id not in carded]
    cards = _cards(facts, [s.sample for s in rest], corrections, advance)
    inline, left = _fitting(cards, budget - _ROW_BYTES * len(shown))
    beside = ""
    if left is not None:
        beside = f"{FOLDER}/{_stamp(facts, rest, corrections)}"
        _write_beside(facts.path / beside, left)
    numbers = {id(s): number for number, s in enumerate(rest)}
    states, in_shards = _states(facts), has_shard_folders(facts.path)
    rows = []
    for s in shown:
        own, key = s.stage == "masks", s.sample.id
        number = numbers.get(id(s))
        reasons = survey.reasons.get(key, ()) if survey and own else ()
        rows.append(
            [
                key,
                sorted(corrections.tags.get(key, s.sample.tags) if own else s.sample.tags),
                0 if own else 1,
                states.get(key, "open") if own else "open",
                [[doubt.kind, str(doubt.text)] for doubt in reasons],
                carded[key] if number is None else _place(number, len(inline)),
                *([relative_file(key, "", shards=True).removesuffix(key)] if in_shards else []),
            ]
        )
    data = {
        "beside": beside,
        "classes": [
            {"name": name, "colour": list(colour(k))}
            for k, name in enumerate(facts.catalog.classes)
        ],
        "kinds": KINDS,
        "splits": [facts.split, facts.validation_split],
        "images": rows,
        "pictures": [_record(card) for card in inline],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Viewer(_in_script(text), len(shown), len(everything) - len(shown), beside)


def to_draw(facts: Facts, carded: int) -> int:
    """How many pictures `make_viewer` makes, if so many images have a card."""
    images = len(facts.catalog) + len(_validation(facts))
    return max(0, min(images, MOST) - carded)


def remove_others(run: Path, beside: str) -> None:
    """Removes the pictures of earlier reports: the page that is there now asks only for its own."""
    root = run / FOLDER
    sweep(root, tensors=False)
    with suppress(OSError):
        for path in list(root.iterdir()):
            if path.is_dir() and f"{FOLDER}/{path.name}" != beside:
                shutil.rmtree(path)
        if not beside:
            root.rmdir()


def _shown(facts: Facts, survey: Survey | None) -> list[Shown]:
    """All images that have masks, the doubtful first, then those of the second split."""
    ranks = survey.ranks if survey else {}
    own = sorted(facts.catalog, key=lambda sample: -ranks.get(sample.id, 0.0))
    return [*map(Shown, own), *(Shown(sample, "validate") for sample in _validation(facts))]


def _validation(facts: Facts) -> list[Sample]:
    """Images of the second split that have masks."""
    if not facts.has("validate"):
        return []
    try:
        catalog = facts.context.run.load_catalog(VALIDATION)
    except RunError:
        return []
    return [s for s in catalog if image_file(facts.path, "validate", s.id, ".png").is_file()]


def _states(facts: Facts) -> dict[str, str]:
    """What people said of masks, by image."""
    reviews = ReviewDir(facts.path, facts.catalog.classes)
    found = ((key, reviews.load(key)) for key in reviews.ids())
    return {key: review.now.state for key, review in found if review is not None}


@dataclass(frozen=True)
class _Draw:
    """Makes an image's small pictures."""

    facts: Facts
    corrections: Corrections
    maps: bool

    def __call__(self, sample: Sample) -> Card | None:
        return brief_card(self.facts, sample, self.corrections, maps=self.maps)


def _cards(
    facts: Facts, samples: Sequence[Sample], corrections: Corrections, advance: Callable[[], None]
) -> Iterator[Card | None]:
    workers = facts.context.config.fit.workers if len(samples) >= _MANY else 0
    draw = _Draw(facts, corrections, _has_maps(facts))
    for card in parallel_map(draw, samples, workers=workers):
        advance()
        yield card


def _has_maps(facts: Facts) -> bool:
    return len(facts.catalog) <= _WITH_MAPS


def _fitting(
    cards: Iterator[Card | None], budget: int
) -> tuple[list[Card | None], Iterator[Card | None] | None]:
    """As many as there is room for, and all further ones, or None if there are no more."""
    inline: list[Card | None] = []
    for card in cards:
        budget -= card.bytes if card else 8
        if budget < 0:
            return inline, chain([card], cards)
        inline.append(card)
    return inline, None


def _place(number: int, inline: int) -> str:
    """Where an image's pictures are: in the page, or in which file and where in it."""
    if number < inline:
        return f"i{number}"
    file, place = divmod(number - inline, PER_FILE)
    return f"{file}.{place}"


def _record(card: Card | None) -> list[Any] | None:
    """An image's photo and its layers, each with its title; None if it cannot be read."""
    if card is None:
        return None
    return [card.photo, [[panel.title, panel.layer] for panel in card.panels[1:]]]


def _write_beside(folder: Path, cards: Iterable[Card | None]) -> None:
    """Writes the files of pictures; what is there already was made of the same files."""
    if folder.is_dir():
        return
    cards, number = iter(cards), 0
    with replacing(folder, folder=True) as part:
        while some := [_record(card) for card in islice(cards, PER_FILE)]:
            text = json.dumps(some, separators=(",", ":"))
            (part / f"{number}.js").write_text(f"weaksegPictures({number},{text});\n", "utf-8")
            number += 1


def _stamp(facts: Facts, shown: Sequence[Shown], corrections: Corrections) -> str:
    """A hash of what pictures are made of, by the files' sizes and times."""
    made = hashlib.sha256(f"weakseg-pictures-1 {_has_maps(facts)} {facts.finished}\n".encode())
    for each in shown:
        files = [each.sample.image, *(path for _, path in mask_files(facts, each.sample))]
        if each.sample.id in corrections.masks:
            files.append(corrections.masks[each.sample.id])
        tags = sorted(corrections.tags.get(each.sample.id, ()))
        made.update(f"{each.stage} {each.sample.id} {tags}\n".encode())
        for path in files:
            try:
                told = path.stat()
                made.update(f"{path} {told.st_size} {told.st_mtime_ns}\n".encode())
            except OSError:
                made.update(b"none\n")
    return made.hexdigest()[:12]


def _in_script(text: str) -> str:
    """JSON as it may stand inside a script element."""
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
