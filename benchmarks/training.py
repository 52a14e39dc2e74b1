"""What a step of each of AMR's branches costs, and what reading images costs the loop.

    python benchmarks/training.py [--data ../shared/data/voc-animals] [--out benchmarks/results]

Writes `training.md`. The compared programs take turns in one process, so that what else the machine
does falls on both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from weakseg.config.run_config import load_config
from weakseg.data.datasets import ShuffledBatches, TaggedViews
from weakseg.models.amr import AMR, AMRSettings
from weakseg.sources.source import open_catalog
from weakseg.training.device import Inference
from weakseg.training.fit import fit
from weakseg.training.memory import kept_memory
from weakseg.training.recalibrate_task import RecalibrateTask
from weakseg.training.tag_task import TagTask

ROOT = Path(__file__).parents[1]
STEPS = 10
"""Steps of a round of both networks."""

LOOP_STEPS = 24
"""Steps of a round of the loop, which includes the start of the reading process."""


def stepper(config, classes, compensation, precision):
    """A function that does one step on random tensors."""
    engine = Inference("cpu", precision)  # casts as accelerate does in training
    torch.manual_seed(0)
    model = AMR(classes, config.backbone, AMRSettings(compensation=compensation))
    task = (
        RecalibrateTask(model, config.recalibrate) if compensation else TagTask(model, config.task)
    )
    task.train().to(memory_format=torch.channels_last)
    trainable = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=1e-4, momentum=0.9)
    crop, batch = config.augment.crop, config.fit.batch_size
    images = torch.randint(0, 256, (batch, 3, crop, crop), dtype=torch.uint8)
    tags = (torch.rand(batch, classes) < 0.3).float()
    labels = torch.randint(0, classes + 1, (batch, crop // 4, crop // 4), dtype=torch.uint8)
    inputs = (images, labels, tags) if compensation else (images, tags)

    def step():
        start = time.perf_counter()
        optimizer.zero_grad()
        with engine.autocast():
            loss = task(inputs)["loss"]
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def loop_speed(config, catalog):
    """Images a second of the training loop, reading and augmenting included."""
    images = LOOP_STEPS * config.fit.batch_size
    chosen = catalog.subset([sample.id for sample in catalog.samples[:images]])
    batches = ShuffledBatches(len(chosen), config.fit.batch_size, 1, 0)
    loader = DataLoader(
        TaggedViews(chosen, config.augment, 0),
        batch_sampler=batches,
        num_workers=1,
        prefetch_factor=4,
    )
    task = TagTask(AMR(len(catalog.classes), config.backbone, config.amr), config.task)
    with tempfile.TemporaryDirectory() as folder:
        settings = config.fit.model_copy(update={"epochs": 1, "accumulate": 1})
        return fit(task, loader, settings, folder=Path(folder)).images_per_second


def bare_steps(step):
    """Seconds of some steps, after one that fetches the memory."""
    with kept_memory():
        step()
        return [step() for _ in range(LOOP_STEPS // 2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    config = load_config("fast")
    catalog = open_catalog(arguments.data, split="train_aug")
    classes = len(catalog.classes)
    own = "bf16" if Inference("cpu", "auto").bf16 else "fp32"
    kinds = [(precision, amr) for precision in {own: 0, "fp32": 0} for amr in (False, True)]
    steps = {kind: stepper(config, classes, kind[1], kind[0]) for kind in kinds}
    times: dict[tuple[str, bool], list[float]] = {kind: [] for kind in kinds}
    with kept_memory():  # as in a training
        for turn in range(STEPS + 2):
            for kind, step in steps.items():
                seconds = step()
                if turn >= 2:
                    times[kind].append(seconds)
    rounds = []
    for _ in range(3):
        bare = bare_steps(steps[own, False])
        loop = loop_speed(config, catalog)
        bare += bare_steps(steps[own, False])
        rounds.append((config.fit.batch_size / statistics.mean(bare), loop))
    bare_speed, loop = sorted(rounds, key=lambda r: r[1] / r[0])[1]
    batch, crop = config.fit.batch_size, config.augment.crop
    table = []
    for precision, amr in kinds:
        seconds, plain = (statistics.median(times[precision, kind]) for kind in (amr, False))
        name = "`recalibrate`, the compensation branch" if amr else "`classify`, the spotlight"
        kind = f"{precision}, the default here" if precision == own else precision
        table.append(
            f"| {name}, {kind} | {seconds:.3f} | {batch / seconds:.1f} | {seconds / plain:.2f} |"
        )
    lines = [
        "# Cost of training",
        "",
        f"`python benchmarks/training.py`: {config.backbone.name}, preset fast (batch {batch}, crop "
        f"{crop}), {torch.get_num_threads()} threads. Median of {STEPS} steps, all networks in turns.",
        "",
        "| a step | seconds | images/s | against classify |",
        "| --- | --- | --- | --- |",
        *table,
        "",
        f"The loop on photographs, decoding and augmentation by one other process, against bare "
        f"forward + backward + update on random tensors, in turns, median of 3 rounds of {LOOP_STEPS} "
        "steps:",
        "",
        "| `classify` | images/s |",
        "| --- | --- |",
        f"| bare, {own} | {bare_speed:.1f} |",
        f"| training loop, {own} | {loop:.1f} ({loop / bare_speed:.0%}) |",
        "",
    ]
    text = "\n".join(lines)
    (arguments.out / "training.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
