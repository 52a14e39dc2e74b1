"""A plan as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weakseg.planning.plan_file import Plan
from weakseg.progress import clock_text


def show_plan(plan: Plan, console: Console) -> None:
    """Prints what a plan chose and why, and what the run will take.

    Args:
        plan: The plan.
        console: Where to print.
    """
    data, machine = plan.data, plan.machine
    _line(
        console,
        f"{data.images} images of about {data.long_side}×{data.short_side} pixels"
        f"{', gray' * data.gray}, {data.classes} classes, {data.tags} tags, {data.untagged} images "
        f"without; {machine.processors} processors, {machine.device}, "
        f"{machine.training_images_per_second:.0f} images a second in training",
    )
    chosen = Table(title="Settings", title_justify="left", show_lines=False)
    for heading in ("setting", "value", "why"):
        chosen.add_column(heading, overflow="fold")
    for settings, value, why in _together(plan):
        chosen.add_row(Text("\n".join(settings)), Text(value), Text(why))
    console.print(chosen)
    stages = Table(title="Expected", title_justify="left")
    stages.add_column("stage")
    for heading in ("time", "memory"):
        stages.add_column(heading, justify="right")
    for own in plan.stages:
        stages.add_row(own.stage, clock_text(60 * own.minutes), f"{own.gigabytes:.1f} GB")
    total = (clock_text(60 * plan.minutes), f"{plan.gigabytes:.1f} GB")
    stages.add_section()
    stages.add_row("in all", *total)
    console.print(stages)
    for text in (*plan.notes, f"the run writes about {plan.disk_gigabytes:.1f} GB"):
        _line(console, f"note: {text}")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _together(plan: Plan) -> list[tuple[list[str], str, str]]:
    """Settings of one value and reason in one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for key, own in plan.settings.items():
        value = "null" if own.value is None else str(own.value)
        rows.setdefault((value, own.why), []).append(key)
    return [(keys, value, why) for (value, why), keys in rows.items()]
