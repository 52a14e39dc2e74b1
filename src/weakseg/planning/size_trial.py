"""Which working size is worth its time: asked of the tags of images held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weakseg.config.layers import Layer, assemble
from weakseg.config.run_config import RunConfig
from weakseg.ops.evidence import SIGNIFICANT, average_precision
from weakseg.planning.choices import Choice, as_layer
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import MachineCosts
from weakseg.planning.size_rules import crop_of, sides_to_try, size_choices
from weakseg.planning.tag_trial import HELD_OUT, parted, tag_scores, trial_settings, true_tags
from weakseg.processors import one_thread
from weakseg.types import Catalog

FEWEST = 5
"""Images of a class of usual frequency that have to be held out for anything to be told."""

_RESAMPLES = 1000
"""Draws of the images held out, by which chance is known."""

_STRIDES = (16, 8)
"""Output strides to try at the size that is taken; half the stride costs up to four times."""

_COSTLIER = 4

_RATES = (1.0, 0.5, 0.25)
"""Multiples of the learning rate: a network that says the same of all images has diverged, which
tells nothing of a size."""

GIVEN = ("cams.long_side", "augment.crop", "augment.long_side", "dry_run")
"""Settings that leave nothing to try if they are given; a dry run is to be short."""


@dataclass(frozen=True)
class Trial:
    """What tags held out say of a size.

    Attributes:
        side: Long side that is worked on, in pixels.
        stride: Output stride of the backbone.
        scores: Of the images held out, float32 [N,K].
    """

    side: int
    stride: int
    scores: Tensor

    @property
    def told(self) -> str:
        """The size in words."""
        return f"{self.side} pixels" + (f" at stride {self.stride}" if self.stride != 16 else "")


def nothing_to_try(facts: DataFacts, over: Sequence[Layer]) -> str:
    """Why no sizes are tried, in words; empty if they are.

    Args:
        facts: The data.
        over: Settings that come before the plan's.
    """
    sides = sides_to_try(facts)
    if len(sides) < 2:
        return "there is no other size to try, for none is larger than the images are"
    if facts.class_share * facts.images < FEWEST * HELD_OUT:
        return "there are too few images to hold some out, by whose tags sizes could be compared"
    for key in GIVEN:
        if any(_has(layer, key) for layer in over):
            return f"{key} is given"
    return ""


def _has(layer: Layer, key: str) -> bool:
    inside: object = layer.values
    for name in key.split("."):
        if not isinstance(inside, dict) or name not in inside:
            return False
        inside = inside[name]
    return True


def trial_seconds(side: int, facts: DataFacts, costs: MachineCosts, stride: int = 16) -> float:
    """About how long a size takes to be tried.

    Args:
        side: Long side, in pixels.
        facts: The data.
        costs: What this machine needs.
        stride: Output stride.
    """
    fit = trial_settings()
    views = fit.batch_size * (fit.steps or 0)
    ratio = (crop_of(side, facts.aspect) / costs.crop) ** 2
    looked = facts.images / HELD_OUT * (side**2 / facts.aspect) / costs.pixels
    seconds = views * costs.tag_training.seconds * ratio + looked * costs.exact_maps / 2
    return seconds * (_COSTLIER if stride < 16 else 1)


@one_thread()
def chance_of_no_gain(better: Tensor, than: Tensor, tags: Tensor, seed: int = 0) -> float:
    """In how many draws of the images one set of scores is no better than another.

    Paired bootstrap of the mean average precision: images are drawn with replacement.

    Args:
        better: Scores [N,K].
        than: Scores [N,K] of the same images.
        tags: bool [N,K].
        seed: Of the draws.

    Returns:
        The share of the draws, 0..1.
    """
    generator = torch.Generator().manual_seed(seed)
    lost = 0
    for _ in range(_RESAMPLES):
        drawn = torch.randint(len(tags), (len(tags),), generator=generator)
        first, second = (mean_precision(each[drawn], tags[drawn]) for each in (better, than))
        lost += not first > second
    return lost / _RESAMPLES


def mean_precision(scores: Tensor, tags: Tensor) -> float:
    """Mean average precision over the classes that some image has, 0..1."""
    found: Tensor = average_precision(scores, tags).nanmean()
    return float(found)


def worth_it(trials: Sequence[Trial], tags: Tensor) -> tuple[Trial, str]:
    """The size to take, the cheapest unless a dearer one is better beyond chance, and why.

    Args:
        trials: The cheaper ones first; at least one.
        tags: What the images held out show, bool [N,K].
    """
    taken = trials[0]
    told = [f"{100 * mean_precision(taken.scores, tags):.1f}% at {taken.told}"]
    for trial in trials[1:]:
        chance = chance_of_no_gain(trial.scores, taken.scores, tags)
        share = 100 * mean_precision(trial.scores, tags)
        if chance < SIGNIFICANT:
            taken = trial
            told.append(f"{share:.1f}% at {trial.told}, which is more")
        else:
            told.append(f"{share:.1f}% at {trial.told}, not more beyond chance ({chance:.2f})")
    held = f"mean average precision of the tags of {len(tags)} images held out"
    return taken, f"{held}: {'; '.join(told)}"


def tried_size(
    catalog: Catalog,
    facts: DataFacts,
    costs: MachineCosts,
    over: Sequence[Layer],
    *,
    seconds: float,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Trial | None, str]:
    """Tries the sizes there is time for.

    Args:
        catalog: The samples.
        facts: What they are like.
        costs: What this machine needs.
        over: Settings that come before the plan's.
        seconds: How long all trials together may take, about.
        progress: Called as `progress(done, total)` after each step.

    Returns:
        The size to take, or None where none could be tried; and why.
    """
    sides = list(sides_to_try(facts))
    needed = [trial_seconds(side, facts, costs) for side in sides]
    while sides and sum(needed) > seconds:
        sides.pop()
        needed.pop()
    if len(sides) < 2:
        return None, f"to try two sizes takes more than the {seconds / 60:.1f} minutes there are"
    learnt, held = parted(catalog)
    tags = true_tags(held, facts.classes)
    steps = trial_settings().steps or 0
    done, planned = 0, len(sides) + 1

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, planned * steps)

    def tried(side: int, stride: int) -> Trial:
        chosen = [*size_choices(side, facts, ""), Choice("backbone.output_stride", stride, "")]
        config = assemble(RunConfig, [as_layer(chosen, "the plan"), *over])
        for rate in _RATES:
            scores = tag_scores(learnt, held, config, advance, rate=rate)
            if bool((scores != scores[:1]).any()):
                break
        return Trial(side, stride, scores)

    taken, why = worth_it([tried(side, _STRIDES[0]) for side in sides], tags)
    left = seconds - sum(needed)
    if trial_seconds(taken.side, facts, costs, _STRIDES[1]) > left or any(
        _has(layer, "backbone.output_stride") for layer in over
    ):
        return taken, why
    finer, told = worth_it([taken, tried(taken.side, _STRIDES[1])], tags)
    return finer, f"{why}; {told}"
