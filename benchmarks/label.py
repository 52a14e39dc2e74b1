"""`weakseg label` against the bare network, the memory of a large image, and ONNX against torch.

    python benchmarks/label.py [--model RUN] [--data ../shared/data/voc-animals] [--out benchmarks/results]

Writes `label.md`. Without a run, the network is one of random decoder weights: time and memory do not
depend on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from weakseg.apps.label import label_images
from weakseg.apps.onnx import export_onnx
from weakseg.data.decode import image_size
from weakseg.data.images import read_image
from weakseg.models.segmenter import Segmenter
from weakseg.predict import Labeler, model_folder
from weakseg.sources.source import open_catalog
from weakseg.training.memory import kept_memory

ROOT = Path(__file__).parents[1]
SIZE = (375, 500)


def bare(labeler, count, batch):
    """Seconds of an image in a plain loop on random pixels, in the labeler's precision."""
    network = labeler.segmenter
    images = torch.rand(batch, 3, *SIZE).to(memory_format=torch.channels_last)
    # In inference mode, as labelling is: it spares a sixth of the time.
    with kept_memory(), torch.inference_mode(), labeler.inference.autocast():
        network(images)
        start = time.perf_counter()
        for _ in range(count // batch):
            network(images)
    return (time.perf_counter() - start) / (count // batch * batch)


def labelled(labeler, paths):
    """Seconds of an image from file to file; loading the model left out."""
    load = Labeler.from_run
    Labeler.from_run = lambda *_, **__: labeler
    try:
        with tempfile.TemporaryDirectory() as out:
            summary = label_images(labeler.folder, paths, Path(out) / "masks")
    finally:
        Labeler.from_run = load
    assert summary.made == len(paths), summary
    return summary.seconds / len(paths)


def child(model, path, out, options):
    """Seconds and peak memory (MiB) of `weakseg label` in a process of its own."""
    code = "import sys; from weakseg.cli import main; sys.exit(main(sys.argv[1:]))"
    measured = (
        "import resource, subprocess, sys, time; start = time.perf_counter();"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(time.perf_counter() - start, usage.ru_maxrss / 1024); sys.exit(code)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "label",
        model,
        path,
        "--out",
        out,
        "--device",
        "cpu",
        "--no-mirror",
    ]
    run = [sys.executable, "-c", measured, *map(str, command), *options]
    text = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    return tuple(map(float, text.split()))


def large_image(folder, samples):
    """Photographs enlarged to 12 megapixels, as a JPEG and as a PNG, 4000 × 3000."""
    image = Image.open(samples[0].image).convert("RGB").resize((4000, 3000))
    noise = np.random.default_rng(0).normal(0, 4, (3000, 4000, 1))
    image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    for suffix in ("jpg", "png"):
        image.save(folder / f"large-{suffix}.{suffix}")
        yield folder / f"large-{suffix}.{suffix}"


def onnx_rounds(network, path, images, rounds):
    """Seconds of an image by torch and by onnxruntime, in turns, and how much they differ."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    times, worst = {"torch": [], "onnxruntime": []}, 0.0
    for number in range(rounds + 1):
        for image in images:
            pixels = image[None].float() / 255
            laid = pixels.contiguous(memory_format=torch.channels_last)
            given = {"images": pixels.contiguous().numpy()}
            start = time.perf_counter()
            with torch.inference_mode():
                expected = network(laid)
            middle = time.perf_counter()
            (logits,) = session.run(["logits"], given)
            end = time.perf_counter()
            worst = max(worst, float((torch.from_numpy(logits) - expected).abs().max()))
            if number:  # the first round warms up
                times["torch"].append(middle - start)
                times["onnxruntime"].append(end - middle)
    return {name: statistics.median(values) for name, values in times.items()}, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a run's or a model's folder")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/voc-animals")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--count", type=int, default=32, help="images of 500×375, ≥ 8")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    samples = open_catalog(arguments.data).samples
    fitting = [s for s in samples if image_size(s.image) == SIZE][: arguments.count]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.model is None:
            torch.manual_seed(0)
            Segmenter(6, long_side=max(SIZE)).eval().save_pretrained(folder / "model")
        model = model_folder(arguments.model or folder / "model")
        lines = [*speed(model, fitting, arguments.rounds), *memory(model, samples, folder)]
        lines += onnx(model, fitting, folder, arguments.rounds)
        about = json.loads((model / "config.json").read_text())
    head = [
        "# Labelling new images",
        "",
        f"`python benchmarks/label.py`: {about['backbone']['name']}, "
        f"{about['network']['decoder']}, {len(about['classes'])} classes, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}.",
        "",
    ]
    text = "\n".join([*head, *lines])
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "label.md").write_text(text, "utf-8")
    print(text)


def speed(model, samples, rounds):
    labeler = Labeler.from_run(model, "cpu", long_side=max(SIZE), mirror=False)
    labeler.folder = model
    paths = [sample.image for sample in samples]
    measured = []
    for _ in range(rounds):
        loops = [bare(labeler, len(paths), batch) for batch in (1, 2, 8)]
        measured.append((labelled(labeler, paths), *loops))
    ratios = sorted(times[0] / min(times[1:]) for times in measured)
    whole, *loops = (statistics.median(column) for column in zip(*measured, strict=True))
    return [
        f"{len(paths)} photographs of 500×375, from file to file (read, label, write), against the "
        f"network alone on random pixels in a loop; medians of {rounds} rounds in turns.",
        "",
        "| | seconds per image |",
        "| --- | --- |",
        *(
            f"| network alone, batches of {batch} | {seconds:.4f} |"
            for batch, seconds in zip((1, 2, 8), loops, strict=True)
        ),
        f"| `weakseg label` | {whole:.4f} |",
        "",
        f"`weakseg label` takes {ratios[len(ratios) // 2]:.2f} times as long as the fastest loop of "
        f"its round (median; {ratios[0]:.2f} to {ratios[-1]:.2f}).",
        "",
    ]


def memory(model, samples, folder):
    small = samples[0].image
    rows = [("500×375, JPEG", "", child(model, small, folder / "small", []))]
    for path in large_image(folder, samples):
        for option in ("", "--full-size"):
            found = child(model, path, folder / f"{path.stem}{option}", [option] * bool(option))
            rows.append((f"12 megapixels, {path.suffix[1:].upper()}", option, found))
    return [
        "One image in a process of its own, start and loading included:",
        "",
        "| image | option | s | peak memory, MiB |",
        "| --- | --- | --- | --- |",
        *(
            f"| {image} | {option} | {seconds:.1f} | {peak:.0f} |"
            for image, option, (seconds, peak) in rows
        ),
        "",
    ]


def onnx(model, samples, folder, rounds):
    path = export_onnx(model, folder / "model.onnx")
    network = Segmenter.from_pretrained(model).to(memory_format=torch.channels_last)
    images = [read_image(sample.image) for sample in samples[:8]]
    times, worst = onnx_rounds(network, path, images, rounds)
    return [
        f"One image of 500×375 at a time, {len(images)} photographs, in turns, median:",
        "",
        "| | s | against torch |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {seconds:.4f} | {seconds / times['torch']:.2f} |"
            for name, seconds in times.items()
        ),
        "",
        f"Greatest difference of the logits: {worst:.1e}.",
        "",
    ]


if __name__ == "__main__":
    main()
