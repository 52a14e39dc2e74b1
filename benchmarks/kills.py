"""`kill -9` at many moments of every command that writes: what is made in the end is the same.

    python benchmarks/kills.py [--kills 200] [--images 6] [--seed 0] [--out benchmarks/results]

A process draws a small data set and runs `run`, `label`, `report`, every `export`, `review` and `correct`
undisturbed. Then it does the same with another folder, and each command is ended by SIGKILL again and again:
at a random time, when a file is half written, before it takes its place, or after. The same command goes on
until it ends well. Then all files are compared byte by byte, but for seconds and speeds, and nothing may be
left over. `review` is a script that draws, takes back and forth, tags and judges as its page asks the server
to. Writes `kills.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from weakseg.apps.review.photo_desk import Patch, PhotoDesk
from weakseg.cli import main as weakseg
from weakseg.demo_data.data_set import write_demo
from weakseg.files import is_part
from weakseg.runs.review_dir import Review, State
from weakseg.types import Sample

RESULTS = Path(__file__).parent / "results"
SMALL = (
    "--preset=fast",
    "--device=cpu",
    "--set=precision=fp32",
    "--set=fit.epochs=2",
    "--set=fit.batch_size=4",
    "--set=fit.checkpoint_seconds=0",
    "--set=augment.crop=64",
    "--set=augment.long_side=[64,96]",
    "--set=cams.long_side=64",
    "--set=cams.scales=[1.0]",
    "--set=segment.fit.epochs=1",
    "--set=segment.fit.checkpoint_seconds=0",
)
VOLATILE = {"seconds", "images_per_second", "resumed_at", "at", "seconds_left", "when"}
"""Keys of JSON that tell how long something took, or when it was interrupted."""

NOT_COMPARED = {".lock", "spent.json", "contents.json", "report.html"}
"""`contents.json` keeps files' times; the report tells how long the stages took."""

EXPORTS = {
    "coco": "coco.json",
    "label-studio": "label-studio",
    "cvat": "cvat",
    "voc": "voc",
    "png": "png",
    "yolo-seg": "yolo",
    "labelme": "labelme",
    "geojson": "geojson",
}


@dataclass
class Tally:
    """What became of one command."""

    name: str
    moments: Counter[str] = field(default_factory=Counter)
    calls: int = 0


def commands(data: Path, out: Path) -> dict[str, list[str]]:
    """Every command that writes, by name, in the order that they need each other."""
    run, label = str(out / "run"), str(out / "labels")
    found = {"run": ["run", str(data), "--out", run, *SMALL]}
    found["label"] = ["label", run, str(data / "images"), "--out", label, "--device=cpu", "--maps"]
    found["report"] = ["report", run]
    for to, name in EXPORTS.items():
        found[f"export --to {to}"] = ["export", run, "--to", to, "--out", str(out / name)]
    found["review"] = ["review", run]
    found["correct"] = ["correct", run, "--from", str(data / "masks")]
    return found


def act(words: Sequence[str]) -> int:
    """Does a command in this process and gives its exit code."""
    if words[0] != "review":
        return weakseg(list(words))
    desk = PhotoDesk(Path(words[1]), "ann")
    for place, sample in enumerate(desk.facts.catalog):
        steps = review_steps(desk, sample, "rejected" if place % 2 else "accepted")
        found = desk.reviews.load(sample.id)
        for step in steps[found.version if found else 0 :]:  # a version is one step that was saved
            found = step(found.version if found else None)
    return 0


def review_steps(
    desk: PhotoDesk, sample: Sample, judgement: State
) -> list[Callable[[int | None], Review]]:
    """What is done to an image, each from the version before."""
    classes = desk.facts.catalog.classes
    patch = Patch(2, 3, np.full((9, 12), 1, np.uint8))
    return [
        lambda version: desk.draw(sample, version, patch, "brush"),
        lambda version: desk.undo(sample, version),
        lambda version: desk.redo(sample, version),
        lambda version: desk.tag(sample, version, classes[:2]),
        lambda version: desk.judge(sample, version, judgement),
    ]


class Moments:
    """Counts what happens to files that are being written, and ends the process at one of them."""

    def __init__(self, fatal: int | None, note: Path) -> None:
        self.fatal, self.note, self.count = fatal, note, 0
        self.write, self.replace = Path.write_bytes, Path.replace

    def install(self) -> None:
        moments = self

        def write_bytes(path: Path, data: bytes) -> int:
            if is_part(path) and moments.due("half written"):
                moments.write(path, data[: len(data) // 2])
                moments.end("half written")
            return moments.write(path, data)

        def replace(path: Path, target: Path) -> Path:
            if moments.due("before it takes its place"):
                moments.end("before it takes its place")
            result = moments.replace(path, target)
            if moments.due("after it took its place"):
                moments.end("after it took its place")
            return result

        Path.write_bytes, Path.replace = write_bytes, replace  # type: ignore[assignment, method-assign]

    def due(self, _: str) -> bool:
        self.count += 1
        return self.count == self.fatal

    def end(self, moment: str) -> None:
        self.write(self.note, moment.encode())
        os.kill(os.getpid(), signal.SIGKILL)


def call(
    words: Sequence[str], log: Path, *, fatal: int | None = None, seconds: float | None = None
) -> tuple[int, str, int]:
    """Runs a command in a process of its own.

    Args:
        words: The command line.
        log: Where its output goes.
        fatal: The how manieth moment ends it.
        seconds: The time that ends it.

    Returns:
        The exit code, -9 if it was ended; at which moment; how many moments there were.
    """
    note, count = log.with_suffix(".moment"), log.with_suffix(".count")
    for path in (note, count):
        path.unlink(missing_ok=True)
    process = os.fork()
    if process == 0:
        code = 70
        with contextlib.suppress(BaseException):
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            moments = Moments(fatal, note)
            moments.install()
            code = act(words)
            moments.write(count, str(moments.count).encode())
        os._exit(code)
    begun = time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        if seconds is not None and time.monotonic() - begun > seconds:
            os.kill(process, signal.SIGKILL)
            seconds = None
            note.write_text("at some time")
        time.sleep(0.005)
    moment = note.read_text() if note.is_file() else ""
    seen = int(count.read_text()) if count.is_file() else 0
    return os.waitstatus_to_exitcode(status), moment, seen


def content(path: Path, roots: Sequence[Path]) -> str:
    """A hash of a file without what tells times, and without the folder that it is in."""
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl", ".xml", ".yaml", ".txt", ".csv"):
        text = data.decode()
        for root in roots:
            text = text.replace(str(root), "ROOT")
        if path.suffix == ".json":
            text = json.dumps(without_times(json.loads(text)), sort_keys=True)
        if path.suffix == ".jsonl":
            rows = [json.dumps(without_times(json.loads(line))) for line in text.splitlines()]
            text = "\n".join(sorted(rows) if path.name == "images.jsonl" else rows)
        data = text.encode()
    return hashlib.sha256(data).hexdigest()


def without_times(value: object) -> object:
    """JSON without the keys that tell times."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in VOLATILE}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and what is in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): content(path, [folder])
        for path in files
        if path.name not in NOT_COMPARED and path.suffix != ".html"
    }


def tail(log: Path) -> str:
    """The end of what a command said."""
    return log.read_text(errors="replace")[-400:]


def left_over(folder: Path) -> list[str]:
    """What is half written still."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if is_part(path)]


def undisturbed(data: Path, out: Path, say: Callable[[str], None]) -> dict[str, tuple[float, int]]:
    """Runs all commands; returns the seconds and moments of each."""
    found = {}
    for name, words in commands(data, out).items():
        begun = time.monotonic()
        code, _, moments = call(words, out / "log.txt")
        found[name] = time.monotonic() - begun, moments
        say(f"{name}: {found[name][0]:.1f} s, {moments} moments")
        if code:
            raise SystemExit(f"{name} ended with {code} undisturbed: {tail(out / 'log.txt')}")
    return found


def killed(
    data: Path,
    out: Path,
    cost: dict[str, tuple[float, int]],
    *,
    kills: int,
    rng: random.Random,
    say: Callable[[str], None],
) -> list[Tally]:
    """Runs all commands, each ended time and again; kills are shared out by moments."""
    names = list(commands(data, out))
    shares = dict.fromkeys(names, 1)
    shares["run"], shares["label"] = max(1, kills // 2), max(1, kills // 6)
    shares["review"] = shares["correct"] = max(1, kills // 7)
    tallies = []
    for name, words in commands(data, out).items():
        tally = Tally(name)
        tallies.append(tally)
        seconds, moments = cost[name]
        for _ in range(shares[name]):
            # A share of the way at most, so that each kill meets another part of it.
            reach = 3 / (2 + shares[name]) if shares[name] > 1 else 1.0
            if rng.random() < 0.3:
                options: dict[str, float] = {"seconds": rng.uniform(0, seconds * reach)}
            else:
                options = {"fatal": rng.randint(1, max(1, int(moments * reach)))}
            code, moment, _ = call(words, out / "log.txt", **options)  # type: ignore[arg-type]
            tally.calls += 1
            if code == 0:
                break
            if code != -signal.SIGKILL:
                raise SystemExit(f"{name} ended with {code}: {tail(out / 'log.txt')}")
            tally.moments[moment] += 1
            say(f"{name}: killed {moment}")
        code, _, _ = call(words, out / "log.txt")
        tally.calls += 1
        if code:
            # An export that was whole before the kill is there already, which is said.
            text = tail(out / "log.txt")
            if not (name.startswith("export") and "is there already" in text):
                raise SystemExit(f"{name} did not go on: {code}: {text}")
    return tallies


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    import torch  # noqa: PLC0415 # loaded once; the processes below are forked

    torch.set_num_threads(1)
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = folder / "data"
        write_demo(data, count=options.images, seed=options.seed)
        (folder / "plain").mkdir()
        (folder / "killed").mkdir()
        cost = undisturbed(data, folder / "plain", say)
        rng = random.Random(options.seed)
        tallies = killed(data, folder / "killed", cost, kills=options.kills, rng=rng, say=say)
        for name in ("plain", "killed"):
            for path in (folder / name).glob("log.*"):
                path.unlink()
        expected, found = contents(folder / "plain"), contents(folder / "killed")
        left = left_over(folder / "killed")
    differ = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    seconds = time.monotonic() - begun
    report(options, tallies, files=len(expected), differ=differ, left=left, seconds=seconds)
    print(
        f"{len(expected)} files, {len(differ)} differ {differ[:5]}, {len(left)} left over {left[:5]}"
    )
    return 1 if differ or left else 0


def report(
    options: argparse.Namespace,
    tallies: Sequence[Tally],
    *,
    files: int,
    differ: Sequence[str],
    left: Sequence[str],
    seconds: float,
) -> None:
    """Writes the table."""
    total = sum(sum(tally.moments.values()) for tally in tallies)
    moments = sorted({moment for tally in tallies for moment in tally.moments})
    head = ["command", "kills", *moments]
    lines = [
        "# Killed and gone on",
        "",
        f"`python benchmarks/kills.py --kills {options.kills} --images {options.images} --seed "
        f"{options.seed}`: {total} times SIGKILL; then {files} files compared with those of an "
        f"undisturbed run: {len(differ)} differ, {len(left)} left half written.",
        "",
        f"{' | '.join(head)}".join(("| ", " |")),
        f"|{' --- |' * len(head)}",
    ]
    for tally in tallies:
        cells = [tally.name, str(sum(tally.moments.values()))]
        cells += [str(tally.moments.get(moment, 0)) for moment in moments]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"{platform.machine()}, {seconds:.0f} s. Compared are all files but the report (it tells "
        "times), locks and the hashes' file (it keeps files' times); of JSON all but seconds, "
        "speeds and the step of a resumption.",
    ]
    lines += [f"- differs: `{name}`" for name in differ]
    (options.out / "kills.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
