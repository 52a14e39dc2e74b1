"""Extraction of class activation maps against the usual loop: one image, one scale at a time.

    python benchmarks/cams.py --runs DIR [--out benchmarks/results]

Reads the networks that `benchmarks/voc_animals.py --runs DIR` trained, the plain one and AMR; writes
`cams.md`. The usual loop runs the same network with its batch norms, in float32 and torch's default
memory layout.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file
from torch.nn import functional
from torch.utils.data import DataLoader

from weakseg.config.run_config import load_config
from weakseg.data.datasets import BatchesOfOneSize, WholeImages
from weakseg.data.images import image_size, read_image, resized
from weakseg.models import backbones as backbone_module
from weakseg.models.amr import AMR, AMRSettings
from weakseg.ops.cams import network_size, normalized
from weakseg.runs.run_dir import RunDir
from weakseg.stages.cams import MapNetwork, examples
from weakseg.training.device import Inference
from weakseg.training.memory import kept_memory, release_memory

ROOT = Path(__file__).parents[1]
COUNT, MANY, ROUNDS = 32, 128, 2
"""Images of the usual loop; of weakseg's, whose batches want as many as there are of a size; rounds."""


def ours(model, samples, settings, precision):
    """The loop of the stage `cams`; the maps of each branch by image, and the seconds it took."""
    sizes = [network_size(*image_size(s.image), settings.long_side) for s in samples]
    batches = BatchesOfOneSize(sizes, settings.batch_size, 2_000_000)
    loader = DataLoader(WholeImages(samples, sizes), batch_sampler=batches, num_workers=1)
    few = examples(samples)
    own = [network_size(*image_size(s.image), settings.long_side) for s in few]
    some = DataLoader(WholeImages(few, own))
    maps = {}
    start = time.perf_counter()
    with kept_memory():
        network = MapNetwork(model, Inference("cpu", precision), some)
        for indices, images in zip(batches, loader, strict=True):
            cams = network.maps(images, [samples[index].tags for index in indices], settings)
            for place, index in enumerate(indices):
                tags = sorted(samples[index].tags)
                maps[index] = [normalized(branch[place, tags]) for branch in cams]
            if len(maps) % 16 < len(indices):
                release_memory()
    return maps, time.perf_counter() - start


def usual(model, samples, settings):
    maps = {}
    start = time.perf_counter()
    with torch.no_grad():
        for index, sample in enumerate(samples):
            height, width = network_size(*image_size(sample.image), settings.long_side)
            image = read_image(sample.image, max_side=max(height, width))
            pixels = resized(image, (height, width))[None].float() / 255
            size = (-(-height // 4), -(-width // 4))
            totals = [0, 0]
            for scale in settings.scales:
                scaled = functional.interpolate(
                    pixels,
                    (round(height * scale), round(width * scale)),
                    mode="bilinear",
                    antialias=True,
                )
                for mirrored in (False, True):
                    view = scaled.flip(-1) if mirrored else scaled
                    outputs = [branch for branch in model(view) if branch is not None]
                    for place, branch in enumerate(outputs):
                        cams = branch.cams.flip(-1) if mirrored else branch.cams
                        totals[place] = totals[place] + functional.interpolate(
                            cams, size, mode="bilinear", align_corners=False
                        )
            tags = sorted(sample.tags)
            maps[index] = [normalized(total[0, tags]) for total in totals[: len(outputs)]]
    return maps, time.perf_counter() - start


def networks(run):
    """A run's network as it is, and the same with its batch norms as modules of their own."""
    config, catalog = load_config(file=run / "config.yaml"), RunDir(run).load_catalog()
    classes = len(catalog.classes)
    fast = AMR(classes, config.backbone, AMRSettings(compensation=False), load=False)
    fast.load_state_dict(load_file(run / "classify" / "state.safetensors"))
    fold = backbone_module.folded
    backbone_module.folded = lambda part, _: part
    plain = AMR(
        classes, config.backbone, AMRSettings(compensation=False)
    )  # statistics stay as they were downloaded
    backbone_module.folded = fold
    plain.load_state_dict(load_file(run / "classify" / "state.safetensors"))
    return config, fast.eval().to(memory_format=torch.channels_last), plain.eval()


def rows(run):
    """Lines of the table for a run: the usual loop, weakseg in float32, weakseg as it sets itself."""
    config, fast, plain = networks(run)
    tagged = [s for s in RunDir(run).load_catalog() if s.tags]
    many = tagged[:: len(tagged) // MANY][:MANY]
    few = many[:: MANY // COUNT]
    kinds = {"fp32": "float32", "auto": "bf16" if Inference("cpu", "auto").bf16 else "float32"}
    times = {"usual": [], **{kind: [] for kind in kinds}}
    apart = {}
    for _ in range(ROUNDS):
        reference, seconds = usual(plain, few, config.cams)
        times["usual"].append(seconds / len(few))
        for kind in kinds:
            maps, seconds = ours(fast, many, config.cams, kind)
            times[kind].append(seconds / len(many))
            pairs = [
                pair
                for i, theirs in reference.items()
                for pair in zip(maps[i * (MANY // COUNT)], theirs, strict=True)
            ]
            apart[kind] = (
                max(float((a - b).abs().max()) for a, b in pairs),
                sum(float((a - b).abs().mean()) for a, b in pairs) / len(pairs),
            )
    title = "AMR, both branches" if fast.compensation is not None else "plain CAM network"
    yield f"| {title}: one image, one scale at a time | {1 / median(times['usual']):.2f} | 1.00 | | |"
    for kind, name in kinds.items():
        ratio = median(a / b for a, b in zip(times["usual"], times[kind], strict=True))
        worst, mean = apart[kind]
        default = ", the default here" if kind == "auto" else ""
        yield (
            f"| {title}: weakseg, {name}{default} | {1 / median(times[kind]):.2f} | {ratio:.2f} "
            f"| {worst:.1e} | {mean:.1e} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    config = load_config(file=arguments.runs / "plain" / "config.yaml")
    lines = [
        "# Extraction of class activation maps",
        "",
        f"`python benchmarks/cams.py --runs DIR`: {config.backbone.name}, images of "
        f"voc-animals ({COUNT} in the usual loop, {MANY} in weakseg's), long side {config.cams.long_side}, scales "
        f"{', '.join(map(str, config.cams.scales))}, each with its mirror image, "
        f"{torch.get_num_threads()} threads, reading included. Medians of {ROUNDS} rounds in turns; the "
        "last columns are the greatest and the mean difference from the usual loop's maps, all "
        "normalized.",
        "",
        "| | images/s | against the usual loop | greatest | mean |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("plain", "amr"):
        lines += rows(arguments.runs / name)
    text = "\n".join([*lines, ""])
    (arguments.out / "cams.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
