"""Damaged and made-up files for every reader: documented errors only, in bounded memory and time.

    python benchmarks/fuzz.py [--cases 1000000] [--seed 0] [--only NAME] [--out benchmarks/results]

Targets are the sources (every layout of `foreign.py`, a file of annotations damaged), images, masks, and all
files that weakseg reads back. Each is tried in a process of its own with its share of the cases: bytes
flipped, cut off, doubled and moved; values of JSON replaced, removed and renamed; and, so that checksums do
not hide what lies behind them, the same inside PNG chunks, zip members and safetensors' headers, packed
again as they should be. Whatever is neither read nor refused by a documented error is kept in `--keep`, and
fails the benchmark. Files are written in the folder for temporary ones: `TMPDIR` in memory is ten times as
fast as on a disk. Writes `fuzz.md`.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))

from foreign import LAYOUTS
from weakseg.api import status
from weakseg.apps.label_folder import LabelFolder
from weakseg.config.run_config import load_config
from weakseg.data.array_files import ArraysError, read_arrays
from weakseg.data.decode import decode_fully, image_size
from weakseg.data.images import read_image, read_mask
from weakseg.data.map_files import read_maps
from weakseg.data.masks import mask_classes, write_mask
from weakseg.data.truth import true_mask
from weakseg.files import dump_json
from weakseg.models.hub import load_folder
from weakseg.models.segmenter import FORMAT
from weakseg.pipeline import fingerprints, stages_until
from weakseg.runs.contents import Contents
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.sources.found_images import find_all
from weakseg.sources.source import read_source
from weakseg.training.fit import CHECKPOINT, steps_done
from weakseg.types import Catalog, Sample, WeaksegError

RESULTS = Path(__file__).parent / "results"
LONGEST = 20
"""Seconds that a case may take."""

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """Files of one kind and what reads them.

    Attributes:
        name: For the table.
        make: Makes a folder with good files; returns those to damage and the reader.
        weight: Its share of the cases, against the others'.
    """

    name: str
    make: Callable[[Path], tuple[list[Path], Reader]]
    weight: float = 1.0


@dataclass
class Outcome:
    """What became of a target's cases."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    grown: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class TooSlowError(Exception):
    """A case took longer than is allowed."""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut off, doubled or moved; or something else altogether."""
    if chance.random() < 0.02:
        return chance.choice((b"", content[:1], content * 2, b"\xff" * 9, b"[" * 3000, b"[]", b"3"))
    bad = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 20)) if bad else 0):
        place = chance.randrange(len(bad))
        bad[place] = chance.choice((0, 9, 10, 34, 44, 49, 60, 255, chance.randrange(256)))
    start, end = sorted(chance.choices(range(len(bad) + 1), k=2))
    way = chance.randrange(5)
    if way == 0:
        del bad[start:]
    elif way == 1 and end - start < 60:
        del bad[start:end]
    elif way == 2:
        bad[start:start] = bad[end : end + 40]
    return bytes(bad)


def mangled(content: bytes, chance: random.Random) -> bytes:
    """JSON with a value replaced, removed or renamed; other bytes as `damaged` does."""
    try:
        value = json.loads(content)
    except ValueError:
        return damaged(content, chance)
    place = value
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.7:
            place = place[key]
            continue
        way = chance.random()
        if way < 0.3:
            del place[key]
        elif way < 0.4 and isinstance(place, dict):
            place["renamed"] = place.pop(key)
        else:
            place[key] = chance.choice(_VALUES)
        break
    return json.dumps(value).encode()


def inside(content: bytes, chance: random.Random) -> bytes:
    """A PNG, a zip or a safetensors file with one part damaged and everything round it as it should be."""
    if content.startswith(_PNG):
        chunks, place = [], len(_PNG)
        while place < len(content):
            size = int.from_bytes(content[place : place + 4], "big")
            chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
            place += 12 + size
        bad = chance.randrange(len(chunks))
        packed = _PNG
        for number, (kind, data) in enumerate(chunks):
            body = kind + (damaged(data, chance) if number == bad else data)
            packed += (
                (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
            )
        return packed
    if content.startswith(b"PK"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            bad_name = chance.choice(members.namelist())
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
                for name in members.namelist():
                    data = members.read(name)
                    file.writestr(name, damaged(data, chance) if name == bad_name else data)
        return buffer.getvalue()
    size = int.from_bytes(content[:8], "little")
    if 2 <= size <= len(content) - 8:
        header = mangled(content[8 : 8 + size], chance)
        return len(header).to_bytes(8, "little") + header + content[8 + size :]
    return mangled(content, chance)


_PNG = b"\x89PNG\r\n\x1a\n"

_VALUES = (None, True, -1, 0, 2.5, 10**30, "", "..", "/a", "a\0", "\ud800", [], {}, [[]], {"a": {}})


@contextmanager
def limited() -> Iterator[None]:
    """Ends what takes too long."""

    def late(*_: object) -> None:
        raise TooSlowError(f"longer than {LONGEST} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def attempt(target: Target, cases: int, seconds: float, seed: int, keep: Path) -> Outcome:
    """Tries a target's cases, in this process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chance = random.Random(f"{seed} {target.name}")
    found = Outcome()
    with tempfile.TemporaryDirectory() as temporary:
        files, read = target.make(Path(temporary))
        good = {path: path.read_bytes() for path in files}
        with limited(), suppress(WeaksegError):  # some layouts are refused as they are
            read(Path(temporary))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.monotonic()
        while found.cases < cases and time.monotonic() - begun < seconds:
            path = chance.choice(files)
            change = inside if chance.random() < 0.5 else damaged
            path.write_bytes(change(good[path], chance))
            start = time.monotonic()
            try:
                with limited():
                    read(Path(temporary))
                found.read += 1
            except (WeaksegError, ArraysError) as error:
                found.refused += 1
                if not str(error) or "\n" in str(error):
                    found.faults[f"{type(error).__name__}: no line of text"] += 1
            except BaseException as error:  # whatever it is, it is the result
                where = traceback.extract_tb(error.__traceback__)[-1]
                text = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
                found.faults[text] += 1
                if found.faults[text] == 1:
                    keep.mkdir(parents=True, exist_ok=True)
                    name = f"{target.name}-{sum(found.faults.values())}".replace("/", "-")
                    shutil.copy(path, keep / f"{name.replace(' ', '-')}{path.suffix}")
            found.cases += 1
            found.slowest = max(found.slowest, time.monotonic() - start)
            path.write_bytes(good[path])
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found.grown = (after - before) / 2**20
    return found


# The targets: each makes good files, and says how they are read.


def layout_target(index: int) -> Target:
    """A layout of another tool: any of its files of text is damaged."""
    layout = LAYOUTS[index]

    def make(folder: Path) -> tuple[list[Path], Reader]:
        source = layout.build(folder) or folder

        def read(_: Path) -> None:
            found = read_source(source, **layout.options)
            for sample in () if found.fatal else found.catalog():
                if sample.has_truth:
                    true_mask(sample, found.classes)

        pictures = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        texts = [path for path in files if path.suffix.lower() not in pictures] or files
        return texts, read

    return Target(f"{layout.name}", make)


def image_target(suffix: str) -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        path = folder / f"a{suffix}"
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **({"exif": exif()} if suffix == ".jpg" else {}))

        def read(_: Path) -> None:
            image_size(path)
            decode_fully(path)
            read_image(path)

        return [path], read

    return Target(f"image {suffix}", make, weight=25)


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = 6
    return found


def mask_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        path = folder / "a.png"
        write_mask(path, torch.arange(48, dtype=torch.uint8).view(6, 8) % 3, ("cat", "dog"))

        def read(_: Path) -> None:
            read_mask(path)
            mask_classes(path)

        return [path], read

    return Target("mask", make, weight=25)


def maps_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        path = folder / "cams" / "a.npz"
        path.parent.mkdir()
        arrays = {
            "classes": np.array([0, 2]),
            "size": np.array([8, 8]),
            "spotlight": np.full((2, 4, 4), 0.5, np.float16),
            "boundary": np.full((4, 4), 0.5, np.float16),
        }
        np.savez_compressed(path, **arrays)
        return [path], lambda place: ImageMaps.load(place, "cams", "a")

    return Target("maps", make, weight=25)


def foreign_maps_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        (folder / "a").mkdir()
        np.save(folder / "b.npy", np.ones((2, 3, 4), np.float32))
        np.savez(folder / "c.npz", cat=np.ones((3, 4)), dog=np.ones((3, 4)))
        Image.new("L", (4, 3), 9).save(folder / "a" / "cat.png")
        files = [folder / "a" / "cat.png", folder / "b.npy", folder / "c.npz"]

        def read(place: Path) -> None:
            for name in "abc":
                read_maps(place, Sample(name, place / name, frozenset({0})), ("cat", "dog"))

        return files, read

    return Target("maps of other programs", make, weight=25)


def arrays_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        path = folder / "a.npz"
        buffer = io.BytesIO()
        np.save(buffer, np.arange(12).reshape(3, 4))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.npy", buffer.getvalue())
        return [path], lambda place: read_arrays(place / "a.npz")

    return Target("arrays", make, weight=25)


def run_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        (folder / "a.png").write_bytes(b"a")
        catalog = Catalog(("cat",), (Sample("a", folder / "a.png", frozenset({0})),))
        config = load_config("fast")
        run = RunDir(folder / "run")
        run.save_catalog(catalog, source=folder, skipped=["b"])
        run.save_config(config.to_yaml())
        contents = Contents(run.path / "contents.json")
        prints = fingerprints(
            config, catalog, stages_until(None, validation=False), contents=contents
        )
        contents.save()
        first = run.open_stage("classify", prints["classify"])
        first.finish({"images": 1, "verdicts": [{"severity": "red", "about": "a", "text": "b"}]})
        second = run.open_stage("cams", prints["cams"])
        second.write_json(
            "progress.json",
            {"label": "cams", "done": 1, "total": 2, "unit": "images", "seconds_left": 1, "at": 2},
        )

        def read(_: Path) -> None:
            status(run.path)
            Contents(run.path / "contents.json")
            _ = run.stage("classify").summary

        return [path for path in run.path.rglob("*") if path.is_file()], read

    return Target("a run's records", make, weight=8)


def label_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        made = {"model": "a", "version": 1}
        out = folder / "labels"
        LabelFolder(out, maps=False).open(made)
        row = {"mask": "a.png", "image": "/a.jpg", "bytes": 1, "mtime_ns": 2, "tags": None}
        (out / "images.jsonl").write_text(json.dumps(row) + "\n")
        files = [out / "label.json", out / "images.jsonl"]
        return files, lambda _: LabelFolder(out, maps=False).open(made)

    return Target("labels", make, weight=25)


def model_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        config = {"format": FORMAT, "classes": ["cat"], "preprocessing": {"long_side": 64}}
        (folder / "config.json").write_bytes(dump_json(config))
        save_file({"a": torch.ones(2)}, folder / "model.safetensors")
        files = [folder / "config.json", folder / "model.safetensors"]
        return files, lambda place: load_folder(place, FORMAT)

    return Target("model", make, weight=25)


def list_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        for name in ("a.jpg", "b.jpg"):
            Image.new("RGB", (4, 3)).save(folder / name)
        (folder / "table.csv").write_text("image,name\na.jpg,one\nmemory://photos/b.jpg,two\n")
        (folder / "lines.txt").write_text(f"a.jpg\n{folder}/b.jpg\nhttps://host/c.jpg?w=3\n")
        files = [folder / "table.csv", folder / "lines.txt"]

        def read(place: Path) -> None:
            for path in files:
                find_all([path], outside=place / "labels")

        return files, read

    return Target("lists of images", make, weight=25)


def checkpoint_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        numbers = dump_json({"step": 3, "usual": 0.5}).decode()
        tensors = {"task.weight": torch.ones(2, 3)}
        save_file(tensors, folder / CHECKPOINT, metadata={"state": numbers})
        return [folder / CHECKPOINT], steps_done

    return Target("checkpoint", make, weight=25)


def config_target() -> Target:
    def make(folder: Path) -> tuple[list[Path], Reader]:
        path = folder / "config.yaml"
        path.write_text(load_config("fast").to_yaml())
        return [path], lambda _: load_config(file=path)

    return Target("settings", make, weight=8)


TARGETS = (
    *(image_target(suffix) for suffix in (".png", ".jpg", ".gif", ".webp", ".tif", ".bmp")),
    mask_target(),
    maps_target(),
    foreign_maps_target(),
    arrays_target(),
    run_target(),
    label_target(),
    list_target(),
    checkpoint_target(),
    model_target(),
    config_target(),
    *(layout_target(index) for index in range(len(LAYOUTS))),
)


def in_own_process(target: Target, cases: int, seconds: float, *, seed: int, keep: Path) -> Outcome:
    """Tries a target in a process of its own, which may die."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        sender.send(attempt(target, cases, seconds, seed, keep))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    sender.close()
    try:
        found: Outcome = receiver.recv()
    except EOFError:
        process.join()
        found = Outcome(faults=Counter({f"the process ended with {process.exitcode}": 1}))
    process.join()
    return found


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=4 * 3600, help="most time in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name holds this text")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in target.name]
    weight = sum(target.weight for target in targets)
    begun = time.monotonic()
    groups: dict[str, Outcome] = {}
    for target in targets:
        share = target.weight / weight
        cases, seconds = round(options.cases * share), options.seconds * share
        found = in_own_process(target, cases, seconds, seed=options.seed, keep=options.keep)
        of_layouts = target.name in {layout.name for layout in LAYOUTS}
        group = groups.setdefault("layouts of sources" if of_layouts else target.name, Outcome())
        group.cases += found.cases
        group.read += found.read
        group.refused += found.refused
        group.slowest = max(group.slowest, found.slowest)
        group.grown = max(group.grown, found.grown)
        group.faults.update({f"{target.name}: {text}": n for text, n in found.faults.items()})
        print(f"{time.monotonic() - begun:7.1f} s  {target.name}: {found}", flush=True)
    write(options, groups, time.monotonic() - begun)
    faults = sum((group.faults for group in groups.values()), Counter[str]())
    print(f"{sum(group.cases for group in groups.values()):,} cases, {sum(faults.values())} faults")
    return 1 if faults else 0


def write(options: argparse.Namespace, groups: dict[str, Outcome], seconds: float) -> None:
    """Writes the table."""
    cases = sum(group.cases for group in groups.values())
    faults = sum(sum(group.faults.values()) for group in groups.values())
    lines = [
        "# Damaged files",
        "",
        f"`python benchmarks/fuzz.py --cases {options.cases} --seed {options.seed}`: {cases:,} "
        f"cases in {seconds:.0f} s, {faults} that were neither read nor refused by a documented "
        "error.",
        "",
        "| target | cases | read | refused | faults | slowest (s) | memory grown (GiB) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {group.cases:,} | {group.read:,} | {group.refused:,} | "
        f"{sum(group.faults.values())} | {group.slowest:.2f} | {group.grown:.2f} |"
        for name, group in groups.items()
    ]
    told = [(text, n) for group in groups.values() for text, n in group.faults.most_common()]
    lines += ["", *(f"- {text}: {n}" for text, n in told)] if told else []
    (options.out / "fuzz.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
