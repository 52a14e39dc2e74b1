import os
import socket
import subprocess
import sys

import pytest

from weakseg.cli import main


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
