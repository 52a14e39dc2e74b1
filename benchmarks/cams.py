"""Extraction of class activation maps against the usual loop: one image, one scale at a time.

    python benchmarks/cams.py [--data ../shared/data/voc-animals] [--out benchmarks/results]

Writes `cams.md`. Both take the same trained-from-ImageNet network and the same images; the usual loop
is the plain timm network with its batch norms, float32, in torch's default memory layout.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from weakseg.config import load_config
from weakseg.data.datasets import BatchesOfOneSize, WholeImages
from weakseg.data.images import image_size, read_image
from weakseg.data.source import open_catalog
from weakseg.models import backbone as backbone_module
from weakseg.models.amr import AMR, AMRSettings
from weakseg.ops.cam import multi_scale_cams, normalized, working_size

ROOT = Path(__file__).parents[1]
COUNT = 32


def ours(model, samples, settings):
    sizes = [working_size(*image_size(s.image), settings.long_side) for s in samples]
    batches = BatchesOfOneSize(sizes, settings.batch_size, 2_000_000)
    loader = DataLoader(WholeImages(samples, sizes), batch_sampler=batches, num_workers=1)
    maps = {}
    start = time.perf_counter()
    with torch.no_grad():
        for indices, images in zip(batches, loader, strict=True):
            pixels = images.to(memory_format=torch.channels_last).float() / 255
            (cams,) = multi_scale_cams(lambda x: [model(x).spotlight.cams], pixels, settings)
            for place, index in enumerate(indices):
                maps[index] = normalized(cams[place, sorted(samples[index].tags)])
    return maps, time.perf_counter() - start


def usual(model, samples, settings):
    maps = {}
    start = time.perf_counter()
    with torch.no_grad():
        for index, sample in enumerate(samples):
            image = read_image(sample.image)
            height, width = working_size(*image.shape[-2:], settings.long_side)
            pixels = image[None].float() / 255
            if pixels.shape[-2:] != (height, width):
                pixels = functional.interpolate(
                    pixels, (height, width), mode="bilinear", antialias=True
                )
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    config = load_config("fast")
    catalog = open_catalog(arguments.data, split="train")
    samples = catalog.samples[:COUNT]
    one_branch = AMRSettings(compensation=False)
    torch.manual_seed(0)
    fast = AMR(len(catalog.classes), config.backbone, one_branch).eval()
    fold = backbone_module.folded
    backbone_module.folded = lambda part, _: part
    torch.manual_seed(0)
    plain = AMR(len(catalog.classes), config.backbone, one_branch).eval()
    backbone_module.folded = fold
    plain.spotlight.head.load_state_dict(fast.spotlight.head.state_dict())
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    fast.to(memory_format=torch.channels_last)
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
        f"`python benchmarks/cams.py`: {config.backbone.name}, one branch, {COUNT} images of "
        f"voc-animals, long side {config.cams.long_side}, scales "
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
