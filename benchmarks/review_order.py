"""How much of what is wrong with a run's masks lies in the images that `weakseg review` shows first.

    python benchmarks/review_order.py RUN [RUN …]

RUN: finished up to `masks`, with truth and with the stage `evidence`. Wrong are a class's pixels that the mask has and
the truth has not, or the other way round, as a share of the class's true pixels; added over the classes. Orders: the
queue's (what is likely wrong, estimated), the reasons to look at an image alone, by truth (the best there is), and
chance. Writes `review_order.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from weakseg.apps.report.doubts import Judge, ranked
from weakseg.apps.report.facts import read_facts
from weakseg.data.images import read_mask
from weakseg.data.truth import true_mask
from weakseg.runs.image_files import image_file
from weakseg.types import IGNORE

ROOT = Path(__file__).parents[1]
FIRST = (10, 20, 40, 80)


def wrong_pixels(run, catalog, sample):
    """Of each label: how many pixels are wrong, and how many it truly has, both [K+1]."""
    labels = len(catalog.classes) + 1
    mask = torch.as_tensor(read_mask(image_file(run, "masks", sample.id, ".png"))).long()
    truth = torch.as_tensor(true_mask(sample, catalog.classes)).long()
    known = truth != IGNORE
    mask, truth = mask[known], truth[known]
    has, is_, both = (
        torch.bincount(each, minlength=labels).double()
        for each in (mask, truth, truth[mask == truth])
    )
    return has + is_ - 2 * both, is_


def shares(run):
    """Of each order, the shares of all that is wrong in its first images; how many images there are."""
    facts = read_facts(run)
    judge = Judge(facts)
    judged, errors, true = {}, {}, torch.zeros(len(facts.catalog.classes) + 1, dtype=torch.float64)
    for sample in facts.catalog:
        if sample.has_truth:
            judged[sample.id] = judge.of(sample)
            errors[sample.id], own = wrong_pixels(run, facts.catalog, sample)
            true += own
    amount = {key: float((own / true.clamp_min(1))[1:].sum()) for key, own in errors.items()}
    doubts = {key: own.doubts for key, own in judged.items()}
    orders = {
        "the queue": ranked(doubts, {key: own.wrong for key, own in judged.items()})[0],
        "reasons alone": ranked(doubts, {})[0],
        "by truth": amount,
    }
    whole = sum(amount.values())
    found = {}
    for name, ranks in orders.items():
        ordered = sorted(amount, key=lambda key: -ranks[key])
        found[name] = [sum(amount[key] for key in ordered[:n]) / whole for n in FIRST]
    found["chance"] = [min(1.0, n / len(amount)) for n in FIRST]
    return found, len(amount)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    lines = [
        "# What lies in the images that are shown first",
        "",
        "`python benchmarks/review_order.py RUN …`: share, in percent, of all that is wrong with the masks (each class's wrong "
        "pixels by its true ones, added) in the first images of each order.",
        "",
        f"| run | images | order | {' | '.join(f'first {n}' for n in FIRST)} |",
        "| --- | --- | --- |" + " --- |" * len(FIRST),
    ]
    for run in arguments.runs:
        found, count = shares(run)
        for name, values in found.items():
            cells = " | ".join(f"{100 * value:.0f}" for value in values)
            lines.append(f"| {run.name} | {count} | {name} | {cells} |")
    (arguments.out / "review_order.md").write_text("\n".join([*lines, ""]), "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
