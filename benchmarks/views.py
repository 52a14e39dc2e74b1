"""Quality per second of a segmentation network's views: scales and mirror images.

python benchmarks/views.py --model RUN --source ../shared/data/voc-animals --split val
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from weakseg import Labeler, open_catalog
from weakseg.data.truth import true_mask
from weakseg.metrics.confusion import ConfusionMatrix, mean_iou

RESULTS = Path(__file__).parent / "results" / "views.md"
VIEWS = (
    ((1.0,), False),
    ((1.0,), True),
    ((0.75, 1.0), False),
    ((1.0, 1.25), False),
    ((0.75, 1.0, 1.25), False),
    ((0.75, 1.0, 1.25), True),
    ((0.5, 1.0, 1.5), True),
)


def main() -> None:
    """Labels all images in each way and scores the labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    catalog = open_catalog(options.source, split=options.split)
    truth = [torch.from_numpy(true_mask(sample, catalog.classes)) for sample in catalog]
    lines = [
        "# Views of the segmentation network",
        "",
        f"`python benchmarks/views.py --model RUN --source {options.source.name} --split "
        f"{options.split}`: {len(catalog)} images, two cores.",
        "",
        "| scales | mirror | mIoU | images/s | times as long |",
        "| --- | --- | --- | --- | --- |",
    ]
    once = 0.0
    for scales, mirror in VIEWS:
        labeler = Labeler.from_run(options.model, scales=scales, mirror=mirror)
        matrix = ConfusionMatrix(len(catalog.classes))
        begun = time.perf_counter()
        for labeled in labeler.stream([sample.image for sample in catalog]):
            if labeled.mask is None:
                raise SystemExit(str(labeled.error))
            matrix.update(labeled.mask, truth[labeled.number])
        seconds = time.perf_counter() - begun
        once = once or seconds
        lines.append(
            f"| {', '.join(map(str, scales))} | {'yes' if mirror else 'no'} | "
            f"{100 * float(mean_iou(matrix.counts)):.2f} | {len(catalog) / seconds:.1f} | "
            f"{seconds / once:.1f} |"
        )
        print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
