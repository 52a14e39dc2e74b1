"""Puts a plan together: rules by the data, measured costs, what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count

from weakseg.config.layers import Layer, assemble
from weakseg.config.run_config import RunConfig
from weakseg.pipeline import STAGES
from weakseg.planning.budget import fitted
from weakseg.planning.choices import Choice, as_layer
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import MachineCosts
from weakseg.planning.machine_rules import machine_choices
from weakseg.planning.measuring import MEASUREMENTS, measured_costs
from weakseg.planning.plan_file import Machine, Plan, reasoned
from weakseg.planning.size_rules import size_choices, usual_side
from weakseg.planning.size_trial import nothing_to_try, tried_size
from weakseg.planning.stage_costs import most_gigabytes, stage_costs, total_minutes
from weakseg.planning.training_rules import seen_share, step_choices
from weakseg.runs.disk_need import disk_need
from weakseg.runs.processes import process_count
from weakseg.types import Catalog

Progress = Callable[[int, int], object] | None
Counted = Callable[[str], AbstractContextManager[Progress]]

_SHARE_TO_TRY = 0.25
"""Share of the run's time that trying sizes may take."""

_BUSY = 1.5
"""How much longer than alone measurements take from which on the plan says so."""


@contextmanager
def not_counted(_: str) -> Iterator[Progress]:
    """No progress is shown."""
    yield None


def rule_choices(facts: DataFacts, side: int, why: str) -> list[Choice]:
    """What follows from the data and the size that is worked on.

    Args:
        facts: The data.
        side: Long side that is worked on, in pixels.
        why: Why this side.
    """
    chosen = size_choices(side, facts, why)
    config = assemble(RunConfig, [as_layer(chosen, "the plan")])
    views, masks = config.augment, config.segment.augment
    chosen += step_choices(
        facts,
        seen_share(views.crop, views.long_side, facts.aspect),
        seen_share(masks.crop, masks.long_side, facts.aspect),
    )
    return [*chosen, *_usual(facts)]


def _usual(facts: DataFacts) -> list[Choice]:
    """What is the same for all data, and what gray images want."""
    chosen = [
        Choice("refine.kind", "irn", "a CRF behind the walk adds nothing to it, but time"),
    ]
    if facts.gray:
        chosen.append(
            Choice(
                "segment.augment.color",
                0.0,
                "gray images: brightness is all that they show, and is not varied",
            )
        )
    return chosen


def plan_of(
    choices: Sequence[Choice],
    facts: DataFacts,
    costs: MachineCosts,
    catalog: Catalog,
    *,
    over: Sequence[Layer] = (),
    notes: Sequence[str] = (),
) -> Plan:
    """A plan of settings that are chosen, with what the run will take.

    Args:
        choices: The settings; of each the last one counts.
        facts: The data.
        costs: What this machine needs.
        catalog: The samples.
        over: Settings that come before the plan's.
        notes: What else is to be known.
    """
    config = assemble(RunConfig, [as_layer(choices, "the plan"), *over])
    names = [
        stage.name
        for stage in STAGES
        if stage.when(config) and (facts.tried or not stage.validation)
    ]
    stages = stage_costs(config, facts, costs, ["check", *names])
    free = None if costs.free_bytes is None else round(costs.free_bytes / 1e9, 1)
    return Plan(
        data=facts,
        machine=Machine(
            device=costs.device,
            processors=costs.processors,
            free_gigabytes=free,
            bf16=costs.bf16,
            training_images_per_second=round(costs.training_speed(), 1),
        ),
        minutes=total_minutes(stages),
        gigabytes=most_gigabytes(stages),
        disk_gigabytes=round(sum(disk_need(config, catalog, names).values()) / 1e9, 2),
        stages=stages,
        notes=(*notes, *_told(costs, most_gigabytes(stages))),
        settings=reasoned(choices),
    )


def make_plan(
    catalog: Catalog,
    validation: Catalog | None = None,
    *,
    over: Sequence[Layer] = (),
    minutes: float | None = None,
    costs: MachineCosts | None = None,
    counted: Counted = not_counted,
) -> Plan:
    """Makes a plan for a data set and this machine.

    Args:
        catalog: The samples, which were checked.
        validation: The split that the segmentation network is tried on.
        over: Settings that come before the plan's.
        minutes: What the run may take; None: what it needs.
        costs: What this machine needs, if it was measured before; None: it is measured.
        counted: From a label to a context with `progress(done, total)`, or None.

    Raises:
        ConfigError: A setting in `over` is unknown or wrong, there is no such device, or nothing
            fits the minutes.
        FileError: An image cannot be read.
    """
    facts = DataFacts.of(catalog, validation)
    side = usual_side(facts)
    choices = rule_choices(facts, side, "")

    def measured() -> MachineCosts:
        config = assemble(RunConfig, [as_layer(choices, "the plan"), *over])
        return measured_for(catalog, facts, config, counted)

    known = costs or measured()

    def planned(choices: Sequence[Choice], notes: Sequence[str] = ()) -> Plan:
        return plan_of(choices, facts, known, catalog, over=over, notes=notes)

    usual = planned(choices).minutes
    given = usual if minutes is None else min(minutes, usual)
    trial, why = None, nothing_to_try(facts, over)
    if not why:
        with counted("try sizes") as progress:
            time = 60 * _SHARE_TO_TRY * given
            trial, why = tried_size(catalog, facts, known, over, seconds=time, progress=progress)
    side = trial.side if trial else side
    choices = rule_choices(facts, side, f"images are {facts.long_side} pixels long; {why}")
    if trial and trial.stride != RunConfig().backbone.output_stride:
        choices.append(Choice("backbone.output_stride", trial.stride, why))
        known = measured()
    choices += machine_choices(known, processes=process_count())
    if minutes is None:
        return planned(choices)
    choices, cut = fitted(choices, facts, minutes, lambda some: planned(some).minutes)
    return planned(choices, [f"to fit {minutes:g} minutes: {', '.join(cut)}"] if cut else [])


def measured_for(
    catalog: Catalog, facts: DataFacts, config: RunConfig, counted: Counted = not_counted
) -> MachineCosts:
    """What this machine needs at the sizes of some settings, see `measured_costs`."""
    done = count(1)
    with counted("measure") as progress:
        return measured_costs(
            catalog,
            facts,
            config,
            advance=lambda: progress(next(done), MEASUREMENTS) if progress else None,
        )


def _told(costs: MachineCosts, gigabytes: float) -> list[str]:
    notes = []
    if costs.hindered > _BUSY:
        notes.append(
            "other programs kept this machine's processors busy while it was measured; the times "
            f"are without them, with them they would be about {costs.hindered:.0f} times as long"
        )
    if costs.free_bytes is not None and gigabytes * 1e9 > costs.free_bytes + costs.base_bytes:
        notes.append(
            f"about {gigabytes:.1f} GB of memory are needed and {costs.free_bytes / 1e9:.1f} are "
            "free: a smaller cams.long_side needs less"
        )
    return notes
