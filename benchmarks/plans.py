"""What plans choose on data sets of several kinds, and how well they tell what a run will take.

    python benchmarks/plans.py --work DIR [--sets …] [--compare RUN …]

Of each set a plan (as `weakseg.plan` makes it), kept in DIR and read from there if it is there. The
machine is measured once, on the first set. `--compare` takes finished runs: what is expected of
each stage with the run's settings stands beside what it took. Writes `plans.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import weakseg
from surfaces import write_surfaces
from weakseg.config.layers import assemble
from weakseg.config.run_config import RunConfig, load_config
from weakseg.demo_data.data_set import write_demo
from weakseg.files import write_atomic
from weakseg.pipeline import STAGES
from weakseg.planning.choices import as_layer
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import MachineCosts
from weakseg.planning.make_plan import make_plan, measured_for, rule_choices
from weakseg.planning.plan_file import read_plan
from weakseg.planning.size_rules import usual_side
from weakseg.planning.stage_costs import stage_costs
from weakseg.runs.run_dir import VALIDATION, RunDir
from weakseg.sources.source import open_catalog

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
SETS = {
    "voc-animals": (DATA / "voc-animals", 1, None, "photographs of animals"),
    "voc-animals, within 6 minutes": (DATA / "voc-animals", 1, 6, "photographs of animals"),
    "voc-animals, every fifth": (DATA / "voc-animals", 5, None, "few photographs"),
    "coffee-leaves": (DATA / "coffee-leaves", 1, None, "small lesions on leaves"),
    "coffee-leaves, within 4 minutes": (DATA / "coffee-leaves", 1, 4, "small lesions on leaves"),
    "surfaces": (None, 1, None, "gray, drawn: small marks on metal"),
    "demo": (None, 1, None, "drawn creatures"),
    "demo, every fifth": (None, 5, None, "very few drawings"),
}
SHOWN = (
    "cams.long_side",
    "augment.crop",
    "backbone.output_stride",
    "fit.steps",
    "recalibrate.fit.steps",
    "relate.fit.steps",
    "segment.fit.steps",
    "segment.augment.color",
    "cams.scales",
    "spread.scales",
)


def images_of(name, folder):
    """The images of a set that are learnt from; drawn where they are not there."""
    path, step, _, _ = SETS[name]
    if path is None:
        kind = name.partition(",")[0]
        path = folder / f"{kind}-data"
        if not path.is_dir():
            part = folder / f"{kind}-part"
            shutil.rmtree(part, ignore_errors=True)
            write_surfaces(part) if kind == "surfaces" else write_demo(part, count=240, seed=0)
            part.rename(path)
    catalog = open_catalog(path, split="train")
    return catalog.subset([sample.id for sample in catalog.samples[::step]])


def costs_of_machine(folder):
    """What this machine needs, measured once."""
    path = folder / "costs.json"
    if not path.is_file():
        catalog = images_of(next(iter(SETS)), folder)
        facts = DataFacts.of(catalog)
        chosen = rule_choices(facts, usual_side(facts), "")
        config = assemble(RunConfig, [as_layer(chosen, "rules")])
        write_atomic(path, measured_for(catalog, facts, config).model_dump_json().encode())
    return MachineCosts.model_validate_json(path.read_bytes())


def planned(name, folder):
    """The plan of a set, made or read."""
    path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.yaml"
    if not path.is_file():
        costs, minutes = costs_of_machine(folder), SETS[name][2]
        make_plan(images_of(name, folder), costs=costs, minutes=minutes).save(path)
        print(name, "planned", flush=True)
    return read_plan(path)


def compared(run, folder):
    """Minutes of each stage of a finished run: expected, and taken."""
    directory = RunDir(run)
    there = (run / VALIDATION).is_file()
    second = directory.load_catalog(VALIDATION) if there else None
    facts = DataFacts.of(directory.load_catalog(), second)
    taken = {
        path.parent.name: json.loads(path.read_text())["seconds"] / 60
        for path in run.glob("*/done.json")
    }
    config = load_config(file=run / "config.yaml")
    names = [stage.name for stage in STAGES if stage.name in taken]
    expected = stage_costs(config, facts, costs_of_machine(folder), names)
    return {own.stage: (own.minutes, taken[own.stage]) for own in expected}


def choices_table(plans):
    """What was chosen, a set a column."""
    yield "| | " + " | ".join(plans) + " |"
    yield "| --- " * (len(plans) + 1) + "|"
    rows = {
        "what they are": lambda name, _: SETS[name][-1],
        "images, classes": lambda _, plan: f"{plan.data.images}, {plan.data.classes}",
        "size (pixels)": lambda _, plan: f"{plan.data.long_side}×{plan.data.short_side}",
        "gray": lambda _, plan: "yes" if plan.data.gray else "no",
        **{
            f"`{key}`": lambda _, plan, key=key: (
                str(plan.settings[key].value) if key in plan.settings else "–"
            )
            for key in SHOWN
        },
        "expected (minutes)": lambda _, plan: f"{plan.minutes:.0f}",
        "memory, disk (GB)": lambda _, plan: f"{plan.gigabytes:.1f}, {plan.disk_gigabytes:.1f}",
    }
    for title, cell in rows.items():
        yield f"| {title} | " + " | ".join(cell(*item) for item in plans.items()) + " |"


def compared_table(runs):
    """Expected and taken, a run a column."""
    yield "| stage | " + " | ".join(f"{name}: expected | taken" for name in runs) + " |"
    yield "| --- " * (2 * len(runs) + 1) + "|"
    stages = list(dict.fromkeys(stage for rows in runs.values() for stage in rows))
    for stage in stages:
        cells = (
            f"{rows[stage][0]:.1f} | {rows[stage][1]:.1f}" if stage in rows else "– | –"
            for rows in runs.values()
        )
        yield f"| {stage} | " + " | ".join(cells) + " |"
    sums = [[sum(own) for own in zip(*rows.values(), strict=True)] for rows in runs.values()]
    yield "| in all | " + " | ".join(f"{first:.1f} | {second:.1f}" for first, second in sums) + " |"


def main():
    """Plans what is missing, then writes all tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="where plans and drawings are kept"
    )
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--compare", nargs="*", type=Path, default=[], help="finished runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    plans = {name: planned(name, options.work) for name in options.sets}
    lines = [
        "# Plans",
        "",
        f"weakseg {weakseg.__version__}. {__doc__.split('    python')[1].split(chr(10), 1)[1].strip()}",
        "",
        *choices_table(plans),
        "",
        "Why the working size, by the plans' own words:",
        "",
        *(f"- {name}: {plan.settings['cams.long_side'].why}" for name, plan in plans.items()),
        *(
            f"- {name}: {note}"
            for name, plan in plans.items()
            for note in plan.notes
            if note.startswith("to fit")
        ),
    ]
    if options.compare:
        runs = {run.name: compared(run, options.work) for run in options.compare}
        told = "Minutes expected, of a machine that has nothing else to do, and taken:"
        lines += ["", told, "", *compared_table(runs)]
    (options.out / "plans.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
