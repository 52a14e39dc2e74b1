"""Whether 1, 2 and 4 processes learn the same, and how long the others live when one is killed.

    python benchmarks/processes.py --data FOLDER --runs DIR

Small trainings on the CPU (gloo, float32), started by torchrun, by accelerate launch and by hand.
Writes `benchmarks/results/processes.md`.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

from safetensors.torch import load_file

STAGES = ("classify", "recalibrate", "relate", "segment")
SMALL = [
    "device=cpu",
    "precision=fp32",
    "fit.epochs=2",
    "fit.batch_size=4",
    "fit.workers=0",
    "augment.crop=64",
    "augment.long_side=[64,80]",
    "cams.long_side=96",
    "cams.scales=[1.0]",
    "spread.scales=[1.0]",
    "prototypes.clusters=2",
    "recalibrate.fit.epochs=1",
    "recalibrate.fit.batch_size=4",
    "recalibrate.fit.workers=0",
    "relate.fit.epochs=1",
    "relate.fit.batch_size=4",
    "relate.fit.workers=0",
    "relate.augment.crop=64",
    "relate.augment.long_side=[64,80]",
    "verify.images=0",
    "segment.network.channels=32",
    "segment.fit.epochs=2",
    "segment.fit.batch_size=4",
    "segment.fit.workers=0",
    "segment.augment.crop=64",
    "segment.augment.long_side=[64,96]",
    "segment.long_side=96",
    "segment.held_out=0.2",
]
TORCHRUN = ["torch.distributed.run", "--nproc_per_node"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"]


def started(count, launcher, data, out, *more):
    settings = chain.from_iterable(("--set", each) for each in (*SMALL, *more))
    command = ["-m", "weakseg", "run", data, "--out", out, "--preset", "fast", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if launcher:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        option = "--main_process_port" if launcher is ACCELERATE else "--master_port"
        command = ["-m", *launcher, str(count), option, port, *command]
        return [subprocess.Popen([sys.executable, *map(str, command)], env=environment)]
    if count > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            environment["MASTER_PORT"] = str(probe.getsockname()[1])
        environment |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**environment, **({"RANK": str(rank)} if count > 1 else {})},
        )
        for rank in range(count)
    ]


def apart(run, other):
    """Of each training its steps, and the greatest distance of losses and of weights."""
    found = {}
    for stage in STAGES:
        logs = [(each / stage / "log.jsonl").read_text().splitlines() for each in (run, other)]
        ours, theirs = ([json.loads(line)["loss"] for line in log] for log in logs)
        name = "model/model.safetensors" if stage == "segment" else "state.safetensors"
        states = [load_file(each / stage / name) for each in (run, other)]
        weights = max(
            float((states[0][k].float() - states[1][k].float()).abs().max()) for k in states[0]
        )
        losses = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        found[stage] = (len(ours), losses, weights)
    return found


def killed(number, data, out):
    """Seconds that the other of two processes lives on when this one is killed while training."""
    processes = started(2, None, data, out, "fit.epochs=500")
    log = out / "classify/log.jsonl"
    while not log.is_file() or not log.read_text():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.2)
    begun = time.monotonic()
    processes[number].send_signal(signal.SIGKILL)
    code = processes[1 - number].wait(timeout=60)
    processes[number].wait()
    return time.monotonic() - begun, code


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="a source, as `weakseg demo` draws"
    )
    parser.add_argument("--runs", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    ways = {
        "one process": (1, None),
        "2, by hand": (2, None),
        "4, by hand": (4, None),
        "2, torchrun": (2, TORCHRUN),
        "2, accelerate launch": (2, ACCELERATE),
    }
    rows = []
    first = options.runs / "0"
    for number, (name, (count, launcher)) in enumerate(ways.items()):
        out = options.runs / str(number)
        codes = [process.wait() for process in started(count, launcher, options.data, out)]
        assert not any(codes), (name, codes)
        for stage, (steps, losses, weights) in apart(out, first).items():
            rows.append(f"| {name} | {stage} | {steps} | {losses:.1e} | {weights:.1e} |")
    text = (
        "# Processes\n\n`python benchmarks/processes.py --data FOLDER --runs DIR`: small trainings "
    )
    text += "on the CPU (gloo, float32).\nGreatest distance from one process, over all steps and weights.\n\n"
    text += "| processes | training | steps | loss | weights |\n| --- | --- | --- | --- | --- |\n"
    text += "\n".join(rows) + "\n\n"
    for number in (0, 1):
        seconds, code = killed(number, options.data, options.runs / f"killed-{number}")
        text += f"Process {number} of 2 killed (`kill -9`) while training: the other ended after "
        text += f"{seconds:.1f} s with exit code {code}.\n"
    (Path(__file__).parent / "results" / "processes.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
