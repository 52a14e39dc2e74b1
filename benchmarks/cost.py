"""What each stage costs an image, in seconds of one processor.

    OMP_NUM_THREADS=1 python benchmarks/cost.py --data FOLDER [--preset fast] [--runs DIR]

Counts the processor's time, not the clock's, so that what else the machine does matters little.
Trainings are of one epoch; their cost is that of an image seen once. Writes
`benchmarks/results/cost.md`.
"""

import argparse
import resource
import tempfile
from pathlib import Path

from weakseg import api
from weakseg.config.run_config import load_config
from weakseg.pipeline import STAGES, Stage

TRAININGS = {
    "classify": "fit",
    "recalibrate": "recalibrate.fit",
    "relate": "relate.fit",
    "segment": "segment.fit",
}
ROOT = Path(__file__).parent


def spent():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in both)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--runs", type=Path, help="where the run goes; default: nowhere that stays")
    options = parser.parse_args()
    costs = {}
    load = Stage.load

    def timed(stage):
        function = load(stage)

        def run(context):
            before = spent()
            summary = function(context)
            costs[stage.name] = (spent() - before, summary, len(context.catalog))
            return summary

        return run

    Stage.load = timed
    settings = ["device=cpu"]
    for path in TRAININGS.values():
        settings += [f"{path}.epochs=1", f"{path}.workers=0"]
    config = load_config(options.preset, overrides=settings)
    with tempfile.TemporaryDirectory() as folder:
        before = spent()
        report = api.check(options.data)
        costs["check"] = (spent() - before, {}, report.fingerprint.images)
        api.run(options.data, options.runs or Path(folder) / "run", config=config)
    rows = []
    for name in ("check", *(stage.name for stage in STAGES)):
        if name not in costs:
            continue
        seconds, summary, images = costs[name]
        seen = images
        if name in TRAININGS:
            section = config.fit if name == "classify" else getattr(config, name).fit
            seen = summary["steps"] * section.batch_size
        rows.append(f"| {name} | {seen} | {seconds:.1f} | {seconds / seen:.3f} |")
    text = "# Cost\n\n`OMP_NUM_THREADS=1 python benchmarks/cost.py --data FOLDER --preset "
    text += f"{options.preset}`: seconds of one processor, starts of programs apart. Trainings: an "
    text += "image seen once.\n\n| stage | images | seconds | seconds an image |\n"
    text += "| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    (ROOT / "results" / "cost.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
