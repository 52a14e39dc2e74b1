"""One process of several threads, two processes, and Ray's workers: which does more on one machine.

    python benchmarks/engines.py [--data ../shared/data/voc-animals] [--counts 60 240] [--rounds 3]

Labels photographs (`weakseg label`, a network of random decoder weights: time does not depend on them) and
takes class activation maps of them (stage `cams` of `weakseg run`, one scale and its mirror image), each as a
whole command, in turns. What a further image costs is the difference between the two counts; what the
smaller count takes beyond that is the start. Writes `engines.md`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from weakseg.models.segmenter import Segmenter
from weakseg.sources.source import open_catalog

ROOT = Path(__file__).parents[1]
WEAKSEG = ("-m", "weakseg")
ENGINES = {
    "one process, a thread a processor": (WEAKSEG, (), {}),
    "two processes (torchrun)": (
        ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *WEAKSEG),
        (),
        {"OMP_NUM_THREADS": "1"},
    ),
    "Ray, a worker a processor": (WEAKSEG, ("--engine", "ray"), {}),
}
RUN = ("--preset", "fast", "--set", "cams.scales=[1.0]", "--device", "cpu")


def took(engine, words):
    """Seconds of a command."""
    launcher, more, environment = ENGINES[engine]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, (*words, *more))],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise SystemExit(f"{engine}: {done.stdout}{done.stderr}")
    return time.perf_counter() - start


def source(samples, folder):
    """Copies of photographs, tagged in turns: what is in them does not matter here."""
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="\n") as file:
        file.write("image,tags\n")
        for number, sample in enumerate(samples):
            shutil.copy(sample.image, folder / "images")
            file.write(f"{sample.image.name},{('one', 'other')[number % 2]}\n")
    return folder


def classified(data, out):
    """A run whose classifier has learnt, a little."""
    words = ["run", data, "--out", out, *RUN, "--until", "classify", "--steps", "2"]
    took(next(iter(ENGINES)), words)
    return out


def measured(counts, samples, rounds, folder):
    """Seconds by work, engine and count, of each round."""
    torch.manual_seed(0)
    Segmenter(6, long_side=500).eval().save_pretrained(folder / "model")
    tables = {n: source(samples[:n], folder / f"data-{n}") for n in counts}
    runs = {n: classified(tables[n], folder / f"run-{n}") for n in counts}
    images = {n: folder / f"images-{n}.txt" for n in counts}
    for n in counts:
        images[n].write_text("\n".join(str(s.image.resolve()) for s in samples[:n]))
    found = {}
    for number in range(rounds):
        for engine in ENGINES:
            for n in counts:
                out = folder / "out"
                words = ["label", folder / "model", images[n], "--out", out, "--device", "cpu"]
                seconds = took(engine, words)
                found.setdefault(("weakseg label", engine, n), []).append(seconds)
                assert len(list(out.rglob("*.png"))) == n
                shutil.rmtree(out)
                shutil.copytree(runs[n], out)
                words = ["run", tables[n], "--out", out, *RUN, "--until", "cams", "--steps", "2"]
                seconds = took(engine, words)
                found.setdefault(("maps (`cams`)", engine, n), []).append(seconds)
                assert len(list((out / "cams").rglob("*.npz"))) == n
                shutil.rmtree(out)
                print(number, engine, n, found, flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--counts", type=int, nargs=2, default=[60, 240])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    catalog = open_catalog(options.data)
    few, many = options.counts
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options.counts, catalog.samples, options.rounds, Path(folder))
    lines = [
        "# Threads, processes, Ray",
        "",
        f"`python benchmarks/engines.py --counts {few} {many} --rounds {options.rounds}`: "
        f"voc-animals, {os.cpu_count()} processors, float of the default precision. Seconds of a "
        "further image and of the start, medians of the rounds; *of one process*: the images a second "
        "in proportion to those of the first row, round by round, median and range.",
        "",
        "| work | engine | start (s) | a further image (s) | of one process |",
        "| --- | --- | --- | --- | --- |",
    ]
    first = next(iter(ENGINES))
    for work in dict.fromkeys(key[0] for key in found):
        each = {
            engine: [
                (long - short) / (many - few)
                for short, long in zip(
                    found[work, engine, few], found[work, engine, many], strict=True
                )
            ]
            for engine in ENGINES
        }
        for engine, own in each.items():
            ratios = [one / other for one, other in zip(each[first], own, strict=True)]
            start = statistics.median(found[work, engine, few]) - few * statistics.median(own)
            lines.append(
                f"| {work} | {engine} | {start:.1f} | {statistics.median(own):.3f} | "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |"
            )
    (options.out / "engines.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
