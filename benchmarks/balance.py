"""What it is worth that no label is rare in the loss of the segmentation network: `segment.task.balance`.

    python benchmarks/balance.py --runs DIR --data ../shared/data/coffee-leaves [--balances 0 0.25]
                                 [--seeds 0 1 2] [--set KEY=VALUE …]

From the same masks, those of `benchmarks/review.py --runs DIR --counts 0 --set …` (same settings), a network
is trained for each balance, and scored on the second split. What is there is not made again. Writes the part of
`balance.md` that is of this data set.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path

from weakseg import api

ROOT = Path(__file__).parents[1]


def scores(arguments, seed, balance):
    """The scores of a network on the second split, kept in a file."""
    name = arguments.data.name
    path = arguments.runs / f"{name}-{seed}-balance-{balance:g}.json"
    if not path.is_file():
        run = arguments.runs / f"{name}-{seed}-balance-{balance:g}"
        if not run.exists():
            shutil.copytree(arguments.runs / f"{name}-{seed}-start", run)
        settings = [*arguments.set, f"seed={seed}", f"segment.task.balance={balance}"]
        api.run(
            arguments.data,
            run,
            preset=arguments.preset,
            split=arguments.split,
            val=arguments.val,
            overrides=settings,
            until="validate",
            force=True,
        )
        shutil.copy(run / "validate" / "metrics.json", path)
        shutil.rmtree(run)
    return json.loads(path.read_text())


def row(balance, found):
    """A line of the table: the mean and its range, and each class's mean."""
    means = [100 * one["mean_iou"] for one in found]
    classes = [
        f"{100 * statistics.fmean(one['iou'][name] or 0 for one in found):.0f}"
        for name in found[0]["iou"]
    ]
    span = f"{statistics.fmean(means):.1f} ({min(means):.1f} to {max(means):.1f})"
    return f"| {balance:g} | {span} | {' | '.join(classes)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--val", default="val")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--balances", type=float, nargs="+", default=[0, 0.25])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    found = {
        balance: [scores(arguments, seed, balance) for seed in arguments.seeds]
        for balance in arguments.balances
    }
    names = list(found[arguments.balances[0]][0]["iou"])
    part = [
        f"## {arguments.data.name}",
        "",
        f"| balance | mIoU on `{arguments.val}` | {' | '.join(names)} |",
        "| --- |" + " --- |" * (1 + len(names)),
        *(row(balance, several) for balance, several in found.items()),
        "",
    ]
    path = arguments.out / "balance.md"
    text = path.read_text("utf-8") if path.is_file() else head()
    parts = [
        each for each in text.split("\n## ")[1:] if each.splitlines()[0] != arguments.data.name
    ]
    parts.append("\n".join(part).removeprefix("## "))
    text = "\n## ".join([text.split("\n## ")[0].rstrip("\n") + "\n", *sorted(parts)])
    path.write_text(text.rstrip("\n") + "\n", "utf-8")
    print("\n".join(part))


def head():
    about = __doc__.split("\n\n")
    return (
        "# The least share of a label in the loss\n\n"
        f"`{about[1].split('[')[0].strip()} …`: mIoU of the segmentation network in percent, mean and range "
        "over three seeds, from the same masks; 0: every pixel counts as much; 0.25: no label has less than a quarter of "
        "an even share of the loss, and half of what that adds to its logits is taken back after the training.\n"
    )


if __name__ == "__main__":
    main()
