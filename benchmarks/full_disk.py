"""A disk that fills up at every stage, and in `label` and exports: told, and gone on with.

    mkdir small && mount -t tmpfs -o size=600m tmpfs small
    python benchmarks/full_disk.py --disk small [--times 2] [--seed 0] [--out benchmarks/results]

`--disk` is an empty folder on a small file system. A small data set is drawn there, and every command that
writes is given undisturbed, stage by stage. Then it is done again in another folder, each command first on a
disk that a file fills up to a random part of what the command needs. It must end with exit code 2 and say so
in words; what a run estimates beforehand is left out, for it refuses to begin (which is tried, too). Without
the file the same command must go on, and all files be those of the undisturbed run. Writes `full_disk.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
from pathlib import Path

from kills import SMALL, act, commands, contents, left_over
from weakseg.apps import refusals
from weakseg.demo_data.data_set import write_demo
from weakseg.files import size_of_files
from weakseg.pipeline import STAGES
from weakseg.types import WeaksegError, exit_code

RESULTS = Path(__file__).parent / "results"


def steps(data, out):
    """Every command that writes, by name: `run` stage by stage, `label`, exports, `review`, `correct`."""
    given = commands(data, out)
    run = ["run", str(data), "--out", str(out / "run"), *SMALL]
    found = {stage.name: [*run, "--until", stage.name] for stage in STAGES if not stage.validation}
    return found | {name: words for name, words in given.items() if name != "run"}


def called(words, log, *, estimated):
    """The exit code of a command in a process of its own, and what it said.

    Args:
        words: The command line.
        log: Where its output goes.
        estimated: Whether a run estimates first what it needs.
    """
    process = os.fork()
    if process == 0:
        code = 70
        with contextlib.suppress(BaseException):
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            if not estimated:
                refusals.require_room = lambda *_, **__: None
            try:
                code = act(words)
            except WeaksegError as error:  # as the page is told it
                print(error, flush=True)
                code = exit_code(error)
        os._exit(code)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), " ".join(log.read_text(errors="replace").split())


def fill(path, left):
    """Takes all but so many bytes of the disk."""
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12):  # down to a page
            for _ in range(max(0, free - left - file.tell()) // size):
                file.write(bytes(size))
                file.flush()


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disk", type=Path, required=True)
    parser.add_argument("--times", type=int, default=2, help="how often each is filled up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    import torch  # noqa: PLC0415 # loaded once; the processes below are forked

    torch.set_num_threads(1)
    disk, rng = options.disk, random.Random(options.seed)
    log = Path(f"{disk}.log")
    data, filler = disk / "data", disk / "filler"
    write_demo(data, count=6, seed=options.seed)
    plain, full = disk / "plain", disk / "full"
    plain.mkdir()
    full.mkdir()
    need, before = {}, 0
    for name, words in steps(data, plain).items():
        code, said = called(words, log, estimated=True)
        assert code == 0, (name, code, said[-400:])
        need[name], before = size_of_files(plain) - before, size_of_files(plain)
    rows, faults = [], []
    for name, words in steps(data, full).items():
        ends = []
        for _ in range(options.times):
            fill(filler, int(rng.uniform(0, 0.9) * need[name]))
            code, said = called(words, log, estimated=False)
            filler.unlink()
            if code and "is there already" in said:  # it was whole before
                code = 0
            ends.append(code)
            if code not in (0, 2) or (code == 2 and "No space left" not in said):
                faults.append(f"{name}: {code}, {said[-200:]}")
        code, said = called(words, log, estimated=True)
        # An export that was whole before the disk was full is there already, which is said.
        if code and "is there already" not in said:
            faults.append(f"{name} did not go on: {code}, {said[-200:]}")
        rows.append(f"| {name} | {need[name] >> 10:,} | {ends.count(2)} | {ends.count(0)} |")
        print(rows[-1], *faults[-1:], flush=True)
    fill(filler, 1 << 20)
    refused, said = called([*steps(data, disk / "other")["masks"]], log, estimated=True)
    filler.unlink()
    expected, found = contents(plain), contents(full)
    differ = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    left = left_over(full)
    lines = [
        "# A full disk",
        "",
        f"`python benchmarks/full_disk.py --disk FOLDER --times {options.times} --seed {options.seed}`: "
        f"{sum(int(row.split('|')[3]) for row in rows)} times the disk was full before a command ended; "
        f"then {len(expected)} files compared with those of an undisturbed run: {len(differ)} differ, "
        f"{len(left)} left half written; {len(faults)} times it was not told or not gone on with.",
        "",
        "| command | needs (KiB) | ended with 2 and told | had room enough |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"A run that cannot fit was refused before it began, with exit code {refused}: "
        f"`{said.rpartition('weakseg: ')[2].replace(str(disk), 'DISK')}`.",
        *(f"- {fault}" for fault in faults),
        *(f"- differs: `{name}`" for name in differ),
    ]
    (options.out / "full_disk.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 1 if faults or differ or left or refused != 2 else 0


if __name__ == "__main__":
    sys.exit(main())
