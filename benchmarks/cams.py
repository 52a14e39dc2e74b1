"""Extraction of class activation maps against the usual loop: one image, one scale at a time.

    python benchmarks/cams.py --run DIR/plain [--out benchmarks/results]

Reads the plain CAM network that `benchmarks/voc_animals.py --runs DIR` trained; writes `cams.md`. The
usual loop runs the same network with its batch norms, float32, in torch's default memory layout.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from weakseg.config import load_config
from weakseg.data.datasets import BatchesOfOneSize, WholeImages
from weakseg.data.images import image_size, read_image, resized
from weakseg.models import backbone as backbone_module
from weakseg.models.amr import AMR
from weakseg.models.folding import NormedConv2d
from weakseg.ops.cam import multi_scale_cams, normalized, working_size
from weakseg.rundir import RunDir
from weakseg.training.memory import kept_memory, release_memory

ROOT = Path(__file__).parents[1]
COUNT = 64


def ours(model, samples, settings):
    sizes = [working_size(*image_size(s.image), settings.long_side) for s in samples]
    batches = BatchesOfOneSize(sizes, settings.batch_size, 2_000_000)
    loader = DataLoader(WholeImages(samples, sizes), batch_sampler=batches, num_workers=1)
    maps = {}
    start = time.perf_counter()
    with torch.no_grad(), kept_memory():
        for indices, images in zip(batches, loader, strict=True):
            pixels = images.to(memory_format=torch.channels_last).float() / 255
            (cams,) = multi_scale_cams(lambda x: [model(x).spotlight.cams], pixels, settings)
            for place, index in enumerate(indices):
                maps[index] = normalized(cams[place, sorted(samples[index].tags)])
            if len(maps) % 16 < len(indices):
                release_memory()
    return maps, time.perf_counter() - start


def usual(model, samples, settings):
    maps = {}
    start = time.perf_counter()
    with torch.no_grad():
        for index, sample in enumerate(samples):
            height, width = working_size(*image_size(sample.image), settings.long_side)
            image = read_image(sample.image, max_side=max(height, width))
            pixels = resized(image, (height, width))[None].float() / 255
            size = (-(-height // 4), -(-width // 4))
            total = 0
            for scale in settings.scales:
                scaled = functional.interpolate(
                    pixels,
                    (round(height * scale), round(width * scale)),
                    mode="bilinear",
                    antialias=True,
                )
                for mirrored in (False, True):
                    view = scaled.flip(-1) if mirrored else scaled
                    cams = model(view).spotlight.cams
                    cams = cams.flip(-1) if mirrored else cams
                    total = total + functional.interpolate(
                        cams, size, mode="bilinear", align_corners=False
                    )
            maps[index] = normalized(total[0, sorted(sample.tags)])
    return maps, time.perf_counter() - start


def networks(run):
    """A run's network as it is, and the same with its batch norms as modules of their own."""
    config, catalog = load_config(file=run / "config.yaml"), RunDir(run).load_catalog()
    classes = len(catalog.classes)
    fast = AMR(classes, config.backbone, config.amr, load=False)
    fast.load_state_dict(load_file(run / "classify" / "state.safetensors"))
    fold = backbone_module.folded
    backbone_module.folded = lambda part, _: part
    plain = AMR(classes, config.backbone, config.amr)  # statistics stay as they were downloaded
    backbone_module.folded = fold
    pairs = [m for m in plain.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    folded = [m for m in fast.modules() if isinstance(m, NormedConv2d)]
    convolutions = [c for c, n in pairwise(pairs) if isinstance(n, nn.BatchNorm2d)]
    norms = [n for c, n in pairwise(pairs) if isinstance(n, nn.BatchNorm2d)]
    with torch.no_grad():
        for merged, convolution, norm in zip(folded, convolutions, norms, strict=True):
            convolution.weight.copy_(merged.convolution.weight)
            norm.weight.copy_(merged.gamma)
            norm.bias.copy_(merged.beta)
        plain.spotlight.head.load_state_dict(fast.spotlight.head.state_dict())
    return config, fast.eval().to(memory_format=torch.channels_last), plain.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    config, fast, plain = networks(arguments.run)
    if fast.compensation is not None:
        parser.error("--run: give the run of a plain CAM network (amr.compensation=false)")
    samples = [s for s in RunDir(arguments.run).load_catalog() if s.tags][:COUNT]
    rounds = []
    for _ in range(3):
        maps, seconds = ours(fast, samples, config.cams)
        reference, slow = usual(plain, samples, config.cams)
        rounds.append((slow / seconds, seconds, slow))
    ratio, seconds, slow = sorted(rounds)[1]
    worst = max(float((maps[i] - reference[i]).abs().max()) for i in maps)
    lines = [
        "# Extraction of class activation maps",
        "",
        f"`python benchmarks/cams.py --run DIR/plain`: {config.backbone.name}, one branch, {COUNT} "
        f"images of voc-animals, long side {config.cams.long_side}, scales "
        f"{', '.join(map(str, config.cams.scales))}, each with its mirror image, "
        f"{torch.get_num_threads()} threads, reading included. Median of 3 rounds in turns.",
        "",
        "| | images/s | against the usual loop |",
        "| --- | --- | --- |",
        f"| one image, one scale at a time | {COUNT / slow:.2f} | 1.00 |",
        f"| weakseg | {COUNT / seconds:.2f} | {ratio:.2f} |",
        "",
        f"Greatest difference of the normalized maps: {worst:.1e}.",
        "",
    ]
    text = "\n".join(lines)
    (arguments.out / "cams.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
