"""What corrected images are worth: the queue's order against a random one, on truth that a reviewer draws.

    python benchmarks/review.py --runs DIR [--data ../shared/data/voc-animals] [--split train] [--val val]
                                [--preset fast] [--counts 0 10 20 40 80] [--seeds 0 1 2] [--set KEY=VALUE …]
                                [--job 0 --of 1]

For each seed a run is made from tags alone (DIR/<data>-<seed>-start), and copied once for each order.
A scripted reviewer gives the true masks of the next images of that order, those that a person would draw in
`weakseg review`; then `weakseg run` learns from them, and the network is scored on the second split,
which nobody corrects. The queue is asked again after each run. What is there goes on. Of several processes
(`--job 1 --of 6`) each makes its part of the curves, from starts that `--counts 0` made before. The one that
finds all curves done writes `review_<data>.md` and `.svg`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

from weakseg import api
from weakseg.apps.review.photo_desk import Patch, PhotoDesk
from weakseg.apps.review.review_queue import ReviewQueue
from weakseg.data.truth import true_mask

ROOT = Path(__file__).parents[1]
ORDERS = {"doubt": "the queue", "random": "random"}
COLOURS = {"doubt": "#0b6e63", "random": "#c2570c"}


def learnt(arguments, run, seed):
    """The score on the second split after a run with all that was corrected."""
    api.run(
        arguments.data,
        run,
        preset=arguments.preset,
        split=arguments.split,
        val=arguments.val,
        overrides=[*arguments.set, f"seed={seed}"],
    )
    return json.loads((run / "validate" / "metrics.json").read_text())["mean_iou"]


def next_images(desk, order, seed, count):
    """The next images to correct, in an order; those with truth that nobody has looked at."""
    queue = ReviewQueue(desk)
    if order == "doubt":
        queue.look()
        ids = [row.id for row in queue.rows("doubt", state="open")]
    else:
        ids = [row.id for row in queue.rows("file", state="open")]
        random.Random(seed).shuffle(ids)
    return [key for key in ids if desk.sample(key).has_truth][:count]


def correct(run, order, seed, wanted):
    """Gives true masks until so many images are corrected."""
    desk = PhotoDesk(run, "benchmark")
    queue = ReviewQueue(desk)
    missing = wanted - len(queue.rows("file", state="corrected"))
    for key in next_images(desk, order, seed, missing) if missing > 0 else []:
        sample = desk.sample(key)
        truth = true_mask(sample, desk.facts.catalog.classes)
        found = desk.reviews.load(key)
        desk.draw(sample, found and found.version, Patch(0, 0, truth), "truth")


def scores(arguments, order, seed):
    """Where the scores of a curve are kept, and those that are there."""
    path = arguments.runs / f"{arguments.data.name}-{seed}-{order}.json"
    return path, json.loads(path.read_text()) if path.is_file() else {}


def make_curve(arguments, order, seed):
    """Measures the score at each number of corrected images, unless it is there."""
    name = arguments.data.name
    start = arguments.runs / f"{name}-{seed}-start"
    path, found = scores(arguments, order, seed)
    run = arguments.runs / f"{name}-{seed}-{order}"
    for count in arguments.counts:
        if str(count) in found:
            continue
        if count == 0:
            found["0"] = learnt(arguments, start, seed)
        else:
            if not run.exists():
                learnt(arguments, start, seed)
                shutil.copytree(start, run)
            correct(run, order, seed, count)
            found[str(count)] = learnt(arguments, run, seed)
        path.write_text(json.dumps(found, indent=2) + "\n")


def curves_done(arguments):
    """Of each order the curves of all seeds; None while one is not finished."""
    found = {
        order: [scores(arguments, order, seed)[1] for seed in arguments.seeds] for order in ORDERS
    }
    wanted = [str(count) for count in arguments.counts]
    if any(key not in one for several in found.values() for one in several for key in wanted):
        return None
    return {
        order: [[one[key] for key in wanted] for one in several] for order, several in found.items()
    }


def mean(values):
    return sum(values) / len(values)


def table(counts, curves):
    rows = [
        f"| corrected images | {' | '.join(map(str, counts))} |",
        "| --- |" + " --- |" * len(counts),
    ]
    for order, title in ORDERS.items():
        cells = []
        for column in zip(*curves[order], strict=True):
            spread = f" ({100 * min(column):.1f} to {100 * max(column):.1f})"
            cells.append(f"{100 * mean(column):.1f}{spread if len(column) > 1 else ''}")
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return rows


def svg(counts, curves, title):
    left, top, width, height = 62, 46, 460, 260
    every = [value for order in ORDERS for values in curves[order] for value in values]
    low, high = min(every), max(every)
    low, high = low - 0.1 * (high - low + 0.01), high + 0.1 * (high - low + 0.01)

    def place(k, value):
        x = left + width * k / max(1, len(counts) - 1)
        return round(x, 1), round(top + height * (high - value) / (high - low), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {top + height + 60}" '
        'font-family="sans-serif" font-size="13" role="img" '
        'aria-label="mIoU over the number of corrected images, the queue and a random order">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="26" font-size="15" fill="#222">{title}</text>',
    ]
    for step in range(5):
        value = low + (high - low) * step / 4
        _, y = place(0, value)
        parts.append(f'<path d="M{left} {y}h{width}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="#444">{100 * value:.1f}</text>'
        )
    for k, count in enumerate(counts):
        x, _ = place(k, low)
        parts.append(
            f'<text x="{x}" y="{top + height + 21}" text-anchor="middle" fill="#444">{count}</text>'
        )
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 45}" text-anchor="middle" fill="#222">'
        "corrected images</text>"
    )
    for order, name in ORDERS.items():
        columns = list(zip(*curves[order], strict=True))
        band = [place(k, max(c)) for k, c in enumerate(columns)]
        band += [place(k, min(c)) for k, c in enumerate(columns)][::-1]
        line = [place(k, mean(c)) for k, c in enumerate(columns)]
        text = [" ".join(f"{x},{y}" for x, y in points) for points in (band, line)]
        colour = COLOURS[order]
        parts.append(f'<polygon points="{text[0]}" fill="{colour}" opacity=".15"/>')
        parts.append(
            f'<polyline points="{text[1]}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        x, y = line[-1]
        parts.append(f'<text x="{x + 8}" y="{y + 4}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--split", default="train")
    parser.add_argument("--val", default="val")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 10, 20, 40, 80])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--job", type=int, default=0, help="which of several processes this is")
    parser.add_argument("--of", type=int, default=1, help="how many processes there are")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    work = [(order, seed) for seed in arguments.seeds for order in ORDERS]
    for order, seed in work[arguments.job :: arguments.of]:
        make_curve(arguments, order, seed)
    curves = curves_done(arguments)
    if curves is None:
        return
    name = arguments.data.name
    seeds = ", ".join(map(str, arguments.seeds))
    text = "\n".join(
        [
            f"# What corrected images are worth on {name}, preset {arguments.preset}",
            "",
            f"`python benchmarks/review.py --runs DIR --data …/{name}`, seeds {seeds}: mIoU of the "
            f"segmentation network on `{arguments.val}`, whose images nobody corrects, in percent; mean "
            "and range over the seeds. The reviewer gives the true masks of the images that "
            "`weakseg review` shows first (asked again after each run), or of images in random order.",
            "",
            *table(arguments.counts, curves),
            "",
        ]
    )
    (arguments.out / f"review_{name}.md").write_text(text, "utf-8")
    title = f"Corrected images, {name}: mIoU on {arguments.val}"
    (arguments.out / f"review_{name}.svg").write_text(svg(arguments.counts, curves, title), "utf-8")
    print(text)


if __name__ == "__main__":
    main()
