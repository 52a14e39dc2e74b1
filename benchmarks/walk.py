"""The sparse random walk against the dense one, against the memory's speed, and over grid sizes.

    python benchmarks/walk.py             # everything; the dense way takes minutes
    python benchmarks/walk.py --no-dense  # the rest: a minute

Writes benchmarks/results/walk.md and docs/walk_cost.svg.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from weakseg.ops.affinity import displacements, pair_affinity
from weakseg.ops.walk import power_series, random_walk, transition

ROOT = Path(__file__).parents[1]
RADIUS, BETA, STEPS, CLASSES = 5, 10.0, 256, 3
SIDES = (32, 64, 128, 256, 512, 1024)


def scene(h: int, w: int, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    cams = torch.rand(classes, h, w, generator=generator)
    return cams, torch.rand(h, w, generator=generator) ** 6


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The best of some runs after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def dense_walk(cams: Tensor, boundary: Tensor) -> Tensor:
    """The published way: the N×N matrix, squared log2(steps) times."""
    k, h, w = cams.shape
    n = h * w
    matrix = torch.eye(n)
    for plane, (dy, dx) in zip(
        pair_affinity(boundary, RADIUS).flatten(1), displacements(RADIUS), strict=True
    ):
        source = plane.nonzero().squeeze(1)
        partner = source + dy * w + dx
        matrix[source, partner] = matrix[partner, source] = plane[source].pow(BETA)
    matrix /= matrix.sum(0, keepdim=True)
    for _ in range(int(math.log2(STEPS))):
        matrix = matrix @ matrix
    return ((cams * (1 - boundary)).flatten(1) @ matrix).view(k, h, w)


def plain_walk(cams: Tensor, boundary: Tensor) -> Tensor:
    """All 256 steps, each a shifted stencil over the whole grid."""
    k, h, w = cams.shape
    matrix = transition(boundary, RADIUS, BETA)
    inverse = matrix.row_sums().reciprocal()
    x = (cams * (1 - boundary)).flatten(1)
    n = h * w
    for _ in range(STEPS):
        y = x.clone()
        for plane, shift in zip(matrix.planes, matrix.shifts, strict=True):
            y[:, shift:].addcmul_(plane[: n - shift], x[:, : n - shift])
            y[:, : n - shift].addcmul_(plane[: n - shift], x[:, shift:])
        x = y.mul_(inverse)
    return x.view(k, h, w)


def csr_walk(cams: Tensor, boundary: Tensor) -> Tensor:
    """The same 78 products by torch's compressed sparse rows (MKL), columns padded to four."""
    k, h, w = cams.shape
    n = h * w
    matrix = transition(boundary, RADIUS, BETA)
    root = matrix.row_sums().sqrt()
    normal = matrix.doubled_and_normalized(root)
    both = [0, *normal.shifts, *(-shift for shift in normal.shifts)]
    values = torch.zeros(n, len(both))
    values[:, 0] = normal.diagonal
    for index, (plane, shift) in enumerate(zip(normal.planes, normal.shifts, strict=True), 1):
        values[:, index] = plane
        values[shift:, index + len(normal.shifts)] = plane[: n - shift]
    columns = (torch.arange(n)[:, None] + torch.tensor(both)).clamp_(0, n - 1).to(torch.int32)
    rows = torch.arange(0, n * len(both) + 1, len(both), dtype=torch.int32)
    sparse = torch.sparse_csr_tensor(rows, columns.flatten(), values.flatten(), (n, n))
    even = torch.zeros(n, -(-k // 4) * 4)
    even[:, :k] = ((cams * (1 - boundary)).flatten(1) * root).T
    series = power_series(STEPS)
    odd = (sparse @ even) * 0.5
    result = even * series[0] + odd * series[1]
    for weight in series[2:]:
        even, odd = odd, (sparse @ odd) - even
        result += weight * odd
    return (result[:, :k].T / root).view(k, h, w)


def copy_bandwidth() -> float:
    """Bytes read and written in a second by copying 256 MiB, all threads."""
    source = torch.rand(1 << 26)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / seconds(lambda: target.copy_(source), 7)


def bytes_touched(n: int, products: int, numbers: int) -> float:
    """Each product reads `numbers` weights a pixel and every map, and writes every map, once."""
    return 4.0 * n * products * (numbers + 2 * CLASSES)


def in_fresh_process(task: str) -> tuple[float, float]:
    answer = subprocess.run(
        [sys.executable, __file__, "--child", task], check=True, capture_output=True, text=True
    )
    first, second = answer.stdout.split()
    return float(first), float(second)


def dense_child() -> tuple[float, float]:
    """Seconds of the dense way, and its largest difference from the sparse one.

    Powers of the matrix are full of denormal numbers, which would slow it several times. Threads
    inherit the mode from the one that starts them, so it is set before anything else.
    """
    torch.set_flush_denormal(True)
    cams, boundary = scene(94, 125)
    start = time.perf_counter()
    result = dense_walk(cams, boundary)
    elapsed = time.perf_counter() - start
    return elapsed, float((result - random_walk(cams, boundary)).abs().max())


def peak_mebibytes() -> float:
    """The process's largest resident memory; getrusage would count the parent's before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def large_child() -> tuple[float, float]:
    """Seconds and MiB beyond the inputs for 512×512."""
    random_walk(*scene(16, 16), steps=STEPS)
    cams, boundary = scene(512, 512)
    before = peak_mebibytes()
    start = time.perf_counter()
    random_walk(cams, boundary, radius=RADIUS, beta=BETA, steps=STEPS)
    elapsed = time.perf_counter() - start
    return elapsed, peak_mebibytes() - before


def svg(points: list[tuple[int, float]]) -> str:
    """A log-log plot of seconds over pixels, with the line of constant cost a pixel."""
    left, top, width, height = 74, 46, 500, 300
    x_low, x_high = 2.75, 6.25
    y_low = math.floor(math.log10(min(t for _, t in points)))
    y_high = math.ceil(math.log10(max(t for _, t in points)))

    def place(pixels: float, t: float) -> tuple[float, float]:
        x = left + width * (math.log10(pixels) - x_low) / (x_high - x_low)
        y = top + height * (y_high - math.log10(t)) / (y_high - y_low)
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 30} '
        f'{top + height + 62}" font-family="sans-serif" font-size="13" role="img" '
        'aria-label="Seconds of the random walk over pixels of the grid: a straight line">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="26" font-size="15" fill="#222">Random walk, {STEPS} steps, radius '
        f"{RADIUS}, {CLASSES} classes: cost grows with pixels</text>",
    ]
    for exponent in range(y_low, y_high + 1):
        _, y = place(1000, 10.0**exponent)
        parts.append(f'<path d="M{left} {y}h{width}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="#444">'
            f"{10.0**exponent:g} s</text>"
        )
    for side in SIDES:
        x, _ = place(side * side, 1.0)
        parts.append(f'<path d="M{x} {top + height}v5" stroke="#444"/>')
        parts.append(
            f'<text x="{x}" y="{top + height + 21}" text-anchor="middle" fill="#444">{side}²</text>'
        )
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 46}" text-anchor="middle" fill="#222">'
        "pixels of the stride-4 grid</text>"
    )
    pixels, elapsed = points[-1]
    first = max(points[0][0], 10.0**y_low * pixels / elapsed)
    (x0, y0), (x1, y1) = (place(n, elapsed / pixels * n) for n in (first, pixels))
    parts.append(
        f'<path d="M{x0} {y0}L{x1} {y1}" stroke="#999" stroke-dasharray="5 4" fill="none"/>'
    )
    parts.append(f'<text x="{x1 - 8}" y="{y1 + 40}" text-anchor="end" fill="#777">')
    parts.append(f"dashed: {elapsed / pixels * 1e6:.2f} µs a pixel</text>")
    line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1f6fb2" stroke-width="2"/>')
    for point in points:
        x, y = place(*point)
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#1f6fb2"/>')
    return "\n".join([*parts, "</svg>", ""])


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-dense", action="store_true", help="skip the dense way")
    parser.add_argument("--child", choices=("dense", "large"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse")
    if options.child:
        print(*(dense_child() if options.child == "dense" else large_child()))
        return
    load = os.getloadavg()[0]
    cams, boundary = scene(94, 125)
    ours = random_walk(cams, boundary, radius=RADIUS, beta=BETA, steps=STEPS)
    products = len(power_series(STEPS)) - 1

    def walk() -> Tensor:
        return random_walk(cams, boundary, radius=RADIUS, beta=BETA, steps=STEPS)

    rows = [("`random_walk`", seconds(walk, 9), 0.0)]
    for name, other in (
        ("all 256 steps, shifted stencil", plain_walk),
        (f"the same {products} products, CSR × dense (MKL)", csr_walk),
    ):
        difference = float((other(cams, boundary) - ours).abs().max())
        rows.append((name, seconds(lambda other=other: other(cams, boundary), 5), difference))
    affinities = seconds(lambda: transition(boundary, RADIUS, BETA), 9)
    if not options.no_dense:
        rows.append(("dense N×N matrix, 8 squarings", *in_fresh_process("dense")))
    again = seconds(walk, 9)
    best = min(rows[0][1], again)
    rows[0] = (rows[0][0], best, 0.0)
    bandwidth = copy_bandwidth()
    elapsed_512, peak = in_fresh_process("large")
    points = [
        (s * s, seconds(lambda s=s: random_walk(*scene(s, s)), 3 if s < 512 else 1)) for s in SIDES
    ]

    lines = [
        "# Random walk",
        "",
        "Written by `python benchmarks/walk.py`.",
        f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, load average at the start {load:.1f}.",
        f"Radius {RADIUS}, β {BETA:g}, {STEPS} steps, {CLASSES} classes; affinities included.",
        "The dense way is given the same mercy as ours: denormal numbers count as zero.",
        "",
        "## 94×125 grid",
        "",
        "| way | seconds | × `random_walk` | largest difference |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {name} | {t:.3f} | {t / best:.1f} | {d:.1e} |" for name, t, d in rows),
        "",
        f"Of `random_walk`, affinities and their powers take {affinities * 1e3:.1f} ms.",
        "",
        "## Against the memory's speed",
        "",
        f"Copying 256 MiB moves {bandwidth / 1e9:.1f} GB/s (read + written, all threads). Every",
        "weight and every map is counted as touched once a product, maps as read and written.",
        "",
        "| count | grid | MB | limit, s | `random_walk`, s | times the limit |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for grid, n, t in (("94×125", 94 * 125, best), ("512×512", 512 * 512, dict(points)[512 * 512])):
        for name, count, numbers in (
            ("256 steps, 69 weights a pixel", STEPS, 69),
            ("256 steps, 35 (symmetric)", STEPS, 35),
            (f"{products} products, 35 (symmetric)", products, 35),
        ):
            touched = bytes_touched(n, count, numbers)
            limit = touched / bandwidth
            times = f"{limit:.3f} | {t:.3f} | {t / limit:.1f}"
            lines.append(f"| {name} | {grid} | {touched / 1e6:.0f} | {times} |")
    (low, low_t), (high, high_t) = points[1], points[-1]
    slope = math.log(high_t / low_t) / math.log(high / low)
    lines += [
        "",
        "## Over grid sizes",
        "",
        "| grid | seconds | µs a pixel |",
        "| --- | ---: | ---: |",
        *(f"| {math.isqrt(n)}² | {t:.3f} | {t / n * 1e6:.2f} |" for n, t in points),
        "",
        f"From {math.isqrt(low)}² to {math.isqrt(high)}², seconds grow like pixels to the power "
        f"{slope:.2f} ([plot](../../docs/walk_cost.svg)).",
        f"512×512 in a fresh process: {elapsed_512:.2f} s, {peak:.0f} MiB of memory beyond the "
        "inputs.",
        "",
    ]
    (ROOT / "benchmarks/results").mkdir(exist_ok=True)
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "benchmarks/results/walk.md").write_text("\n".join(lines), encoding="utf-8")
    (ROOT / "docs/walk_cost.svg").write_text(svg(points), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
