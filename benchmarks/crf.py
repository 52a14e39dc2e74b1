"""Dense CRF against pydensecrf: time, agreement and memory, alternating in one run.

    python benchmarks/crf.py [--rounds 7] [--python PATH]

Reads `crf_*.npz` from WEAKSEG_GOLDEN (default `../shared/golden` beside the repository). Builds
pydensecrf2 from PyPI in a throw-away environment (needs a C++ compiler), unless --python names an
interpreter that has it. Each image is labelled twice, as seeds need it: once with its own label map
(background score c_fg), once with the foreground grown by 15 pixels, which stands for c_bg.
Prints the text of `benchmarks/results/crf.md`.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from weakseg.ops.crf import dense_crf

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("WEAKSEG_GOLDEN", REPOSITORY.parent / "shared" / "golden"))

PEER = """
import sys, time
import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import unary_from_labels
for line in sys.stdin:
    case = np.load(line.strip())
    rgb, n = np.ascontiguousarray(case["rgb"]), int(case["n_labels"])
    height, width = rgb.shape[:2]
    start, found = time.perf_counter(), []
    for labels in case["labels"]:
        field = dcrf.DenseCRF2D(width, height, n)
        field.setUnaryEnergy(unary_from_labels(labels, n, gt_prob=0.7, zero_unsure=False))
        field.addPairwiseGaussian(sxy=3, compat=3)
        field.addPairwiseBilateral(sxy=50, srgb=5, rgbim=rgb, compat=10)
        found.append(np.argmax(field.inference(10), axis=0).reshape(height, width))
    seconds = time.perf_counter() - start
    np.save(line.strip() + ".peer.npy", np.stack(found).astype(np.uint8))
    print(seconds, flush=True)
"""


def peer_python(folder: Path) -> str:
    venv.create(folder / "peer", with_pip=True)
    python = folder / "peer" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "pydensecrf2", "numpy"]
    subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
    return str(python)


def load_case(path: Path) -> tuple[torch.Tensor, torch.Tensor, int]:
    stored = np.load(path)
    image = torch.from_numpy(stored["rgb"]).permute(2, 0, 1)
    seed = torch.from_numpy(stored["seed"])
    grown = functional.max_pool2d(seed[None].float(), 31, 1, 15)[0].to(torch.uint8)
    return image, torch.stack([seed, torch.where(seed > 0, seed, grown)]), int(stored["n_labels"])


def compare(paths: list[Path], rounds: int, python: str, folder: Path) -> None:
    print("| image | labels | pydensecrf, s | weakseg, 1 thread | 2 threads | pixels equal |")
    print("| --- | --- | --- | --- | --- | --- |")
    with subprocess.Popen(
        [python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        for path in paths:
            image, labels, n = load_case(path)
            case = folder / path.name
            rgb = image.permute(1, 2, 0).numpy()
            np.savez(case, rgb=rgb, labels=labels.numpy(), n_labels=n)
            best = {"peer": math.inf, 1: math.inf, 2: math.inf}
            for _ in range(rounds):
                peer.stdin.write(f"{case}\n")
                peer.stdin.flush()
                best["peer"] = min(best["peer"], float(peer.stdout.readline()))
                for threads in (1, 2):
                    torch.set_num_threads(threads)
                    start = time.perf_counter()
                    found = dense_crf(image, labels, n_labels=n)
                    best[threads] = min(best[threads], time.perf_counter() - start)
            equal = float((np.load(f"{case}.peer.npy") == found.numpy()).mean())
            ours = " | ".join(f"{best[t]:.3f} ({best['peer'] / best[t]:.2f}×)" for t in (1, 2))
            size = f"{image.shape[2]}×{image.shape[1]}"
            print(f"| {size} | {n} | {best['peer']:.3f} | {ours} | {equal:.2%} |", flush=True)
        peer.stdin.close()


def memory(kind: str) -> float:
    """This process's resident set in MB, now (VmRSS) or at its peak (VmHWM); Linux only."""
    # Not getrusage: a child process inherits its parent's peak.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(kind)


def measure(size: str, path: Path) -> None:
    """One solution in a process of its own, whose peak memory is then only its own."""
    width, height = map(int, size.split("x"))
    image, labels, n = load_case(path)
    rows = torch.arange(height) * image.shape[1] // height
    columns = torch.arange(width) * image.shape[2] // width
    generator = torch.Generator().manual_seed(0)
    image, labels = image[:, rows][:, :, columns], labels[:, rows][:, :, columns]
    # Without noise an enlarged image has fewer colours, hence fewer lattice vertices, than a photo.
    for band in image:
        noise = torch.randint(-4, 5, band.shape, generator=generator, dtype=torch.int16)
        band.copy_((band + noise).clamp_(0, 255))
    before = memory("VmRSS")
    start = time.perf_counter()
    dense_crf(image, labels, n_labels=n)
    seconds = time.perf_counter() - start
    print(f"| {width}×{height} | {seconds:.2f} | {memory('VmHWM') - before:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Dense CRF against pydensecrf.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--python", help="an interpreter that has pydensecrf")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(GOLDEN.glob("crf_*.npz"), key=lambda p: -p.stat().st_size)
    if not paths:
        parser.error(f"no crf_*.npz in {GOLDEN}; set WEAKSEG_GOLDEN")
    if arguments.measure:
        measure(arguments.measure, paths[0])
        return
    with tempfile.TemporaryDirectory() as name:
        python = arguments.python or peer_python(Path(name))
        print("# Dense CRF\n")
        print("Seconds for both label maps of an image, lattices included, 10 iterations; torch")
        print(f"{torch.__version__}, {platform.machine()}; pydensecrf uses one thread. Best of")
        print(
            f"{arguments.rounds} rounds that alternate between the programs (n×: n times faster)."
        )
        print(f"Load average at the start: {os.getloadavg()[0]:.1f}. With more runnable")
        print("threads than cores, two threads wait for each other: use one a process then.\n")
        compare(paths, arguments.rounds, python, Path(name))
    print("\nMemory of a solution in a process of its own (growth of the peak resident set), two")
    print("label maps of an enlarged image with noise, one thread; tiles begin beyond 1024 pixels")
    print("a side:\n")
    print("| image | s | MB |\n| --- | --- | --- |", flush=True)
    for size in ("500x375", "1024x1024", "4000x3000"):
        command = [sys.executable, __file__, "--measure", size]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
