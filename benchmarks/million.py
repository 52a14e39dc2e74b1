"""What a source of very many images costs before and between stages: seconds and memory.

    python benchmarks/million.py --work FOLDER [--counts 10000,30000,100000,300000,1000000]

Draws that many images of 8×8 pixels, each of other content, a thousand in a folder, with a CSV of
tags. Each step is a process of its own, whose processor seconds are taken, and its most memory beyond
that of the imported libraries:

- check: every fault of the source, and what it is like (all images are decoded).
- plan: settings for these data; what this machine needs was measured before, of a few images.
- begin: `weakseg run` up to the first stage: the check, hashes of all files, `catalog.json`, and a
  stage that writes a file for every image.
- resume: the same where half of the stage's files are missing: hashes are known, the check is
  skipped.
- label: `weakseg label` up to the first mask: the images listed, and compared with what is there.

Linux alone tells the memory (`/proc`). Writes `benchmarks/results/million.md`.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import psutil
from rich.console import Console

from weakseg import api, pipeline
from weakseg.apps.checked_source import checked_source, good_samples
from weakseg.apps.label_folder import LabelFolder
from weakseg.apps.refusals import require_room
from weakseg.config.run_config import load_config
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import MachineCosts
from weakseg.planning.make_plan import make_plan, measured_for
from weakseg.runs.contents import CONTENTS, Contents
from weakseg.runs.run_dir import RunDir
from weakseg.sources.found_images import find_all
from weakseg.sources.source import read_source
from weakseg.types import Catalog

ROOT = Path(__file__).parent
STEPS = ("costs", "check", "plan", "begin", "resume", "label")
COSTS = "costs.json"
STATUS = Path("/proc/self/status")
STAGE = {"name": "cams", "version": 1, "needs": (), "reads": ()}


def draw(folder, count):
    """Images of one colour each, as PNG written by hand, which takes a tenth of the time."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes([0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 0]))
    rows = ["image,tags\n"]
    for number in range(count):
        name = f"{number // 1000:04}/{number:07}.png"
        path = folder / "images" / name
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        row = b"\0" + number.to_bytes(3, "big") * 8
        path.write_bytes(head + chunk(b"IDAT", zlib.compress(row * 8, 1)) + chunk(b"IEND", b""))
        rows.append(f"{name},{('cat', 'dog', 'cat dog', '')[number % 4]}\n")
    (folder / "labels.csv").write_text("".join(rows))


def check(source, _):
    report = api.check(source)
    assert report.ok, report.faults[:3]


def costs(source, work):
    samples = read_source(source, kind=None, split=None).catalog()
    catalog = Catalog(samples.classes, samples.samples[:40])
    found = measured_for(catalog, DataFacts.of(catalog), load_config("fast"))
    (work / COSTS).write_text(found.model_dump_json())


def plan(source, work):
    found = read_source(source, kind=None, split=None)
    catalog, _ = good_samples(found, skip_bad=False, console=None)
    known = MachineCosts.model_validate_json((work / COSTS).read_text())
    return make_plan(catalog, costs=known).data.images


def begin(source, run):
    def files(context):
        pending = [
            sample
            for sample in context.catalog
            if not context.dir.image_file(sample.id, ".npz").is_file()
        ]
        for sample in pending:
            path = context.dir.image_file(sample.id, ".npz")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return {"pending": len(pending)}

    console = Console(quiet=True)
    folder, config = RunDir(run), load_config("fast")
    contents = Contents(folder.path / CONTENTS)
    catalog, skipped, checked = checked_source(
        source, folder, contents, kind=None, split=None, skip_bad=False, console=console
    )
    table = (pipeline.Stage(**STAGE, function=files),)
    require_room(config, catalog, table, folder, force=False)
    summary = pipeline.run_pipeline(
        config,
        folder,
        catalog=catalog,
        source=source,
        skipped=skipped,
        checked=checked,
        contents=contents,
        stages=table,
        console=console,
    )
    return summary["cams"].summary["pending"]


def label(source, out):
    folder = LabelFolder(out, maps=False)
    images = find_all([source / "images"], outside=out).images
    folder.open({"version": 1}, (image.name for image in images))
    folder.read()
    missing = [image for image in images if not folder.has(image, None)]
    with folder.recording() as record:
        for image in missing[: max(1, len(images) // 2)]:
            path = out / folder.file(image, ".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            record(folder.record_of(image, None))
    return len(missing)


def step(name, work):
    run = work / "run"
    function, folder = {
        "costs": (costs, work),
        "check": (check, run),
        "plan": (plan, work),
        "begin": (begin, run),
        "resume": (begin, run),
        "label": (label, work / "labels"),
    }[name]
    libraries = psutil.Process().memory_info().rss
    before = resource.getrusage(resource.RUSAGE_SELF)
    said = function(work / "source", folder)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = most_memory()
    own = (peak - libraries) / 2**20
    found = {"seconds": seconds, "peak": peak / 2**20, "own": own, "pending": said}
    print(json.dumps(found))


def most_memory():
    """Most bytes of this program; `ru_maxrss` has the caller's, too, where that took more."""
    (line,) = (text for text in STATUS.read_text().splitlines() if text.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def measured(name, work):
    command = [sys.executable, __file__, "--work", str(work), "--step", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def all_steps(work, count):
    """Seconds and peaks of all steps for so many images; `label` goes on from a half, too."""
    shutil.rmtree(work, ignore_errors=True)
    draw(work / "source", count)
    measured("costs", work)
    found = {name: measured(name, work) for name in ("check", "plan", "begin")}
    assert found["plan"]["pending"] == found["begin"]["pending"] == count
    for number, path in enumerate((work / "run" / "cams").rglob("*.npz")):
        if number % 2:
            path.unlink()
    (work / "run" / "cams" / "done.json").unlink()
    found["resume"] = measured("resume", work)
    assert found["resume"]["pending"] == count // 2
    found["label, begin"] = measured("label", work)
    found["label, resume"] = measured("label", work)
    assert found["label, resume"]["pending"] == count - count // 2
    shutil.rmtree(work)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="a folder that need not be there")
    parser.add_argument("--counts", default="10000,30000,100000,300000,1000000")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        return step(options.step, options.work)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = {}
    for count in map(int, options.counts.split(",")):
        results[count] = all_steps(options.work, count)
        print(count, json.dumps(results[count]), flush=True)
        write(results)
    return None


def write(results):
    steps = list(next(iter(results.values())))
    base = max(one["peak"] - one["own"] for found in results.values() for one in found.values())
    lines = [
        "# A million images",
        "",
        f"`python benchmarks/million.py --work FOLDER --counts {','.join(map(str, results))}`: "
        "processor seconds for a thousand images, and the most memory of the process (MB) beyond "
        f"the libraries' ({base:.0f} MB). Images of 8×8 pixels; what each step does is said in the "
        "script.",
        "",
        f"| images | {' | '.join(steps)} |",
        f"| --- |{' --- |' * len(steps)}",
    ]
    for count, found in results.items():
        cells = (
            f"{found[step]['seconds'] / count * 1000:.2f} s, {found[step]['own']:.0f} MB"
            for step in steps
        )
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    (ROOT / "results" / "million.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
