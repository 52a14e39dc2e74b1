import os
import socket
import subprocess
import sys

import pytest

from weakseg.cli import main
from weakseg.planning import make_plan
from weakseg.planning.machine_costs import MachineCosts, TrainingCost


@pytest.fixture
def weak(capsys):
    """Runs a command: its exit code, what it printed, what it complained of."""

    def weak(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return weak


@pytest.fixture
def costs():
    """What a made-up machine needs, in round numbers."""
    training = TrainingCost(seconds=0.1, bytes=1e7)
    names = (
        "read_view read_whole exact_maps quick_maps details affinity words boundary walk crf mask "
        "score label"
    )
    return MachineCosts(
        device="cpu",
        processors=2,
        free_bytes=8 * 10**9,
        bf16=False,
        crop=64,
        pixels=128 * 96,
        crf_pixels=128 * 96,
        tags=1,
        tag_training=training,
        recalibration=training,
        relation_training=training,
        mask_training=training,
        forward_bytes=200,
        base_bytes=5e8,
        **dict.fromkeys(names.split(), 0.01),
    )


@pytest.fixture
def quick_plans(monkeypatch, costs):
    """Plans are made without measuring this machine; the arguments of each measurement."""
    asked = []

    def measured(*arguments, **_):
        asked.append(arguments)
        return costs

    monkeypatch.setattr(make_plan, "measured_costs", measured)
    return asked


class Launched:
    """Processes started together, as torchrun starts them."""

    def __init__(self, commands, **environment):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        common = {"WORLD_SIZE": str(len(commands)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        common |= {"OMP_NUM_THREADS": "1", **environment}
        self.processes = [
            subprocess.Popen(
                [sys.executable, *map(str, command)],
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank, command in enumerate(commands)
        ]

    def ended(self, seconds=600):
        """The exit code and the output of each."""
        printed = [process.communicate(timeout=seconds)[0] for process in self.processes]
        return [
            (process.returncode, text)
            for process, text in zip(self.processes, printed, strict=True)
        ]

    def kill(self):
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def launched():
    """Starts a command a process, and ends them all in the end."""
    groups = []

    def start(*commands, **environment):
        groups.append(Launched(commands, **environment))
        return groups[-1]

    yield start
    for group in groups:
        group.kill()
