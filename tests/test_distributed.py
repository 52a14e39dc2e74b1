"""Two processes of a launcher train together, as `torchrun` and `accelerate launch` start them."""

import json
import os
import socket
import subprocess
import sys

from weakseg.demo_data.data_set import write_demo


def test_two_processes_make_one_run(tmp_path):
    write_demo(tmp_path / "data", count=8, seed=1)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "weakseg", "run", str(tmp_path / "data"), "--out", str(out)]
    command += ["--preset", "fast", "--until", "cams", "--device", "cpu"]
    for setting in (
        "fit.epochs=2",
        "fit.batch_size=4",
        "fit.workers=0",
        "augment.crop=64",
        "augment.long_side=[64, 80]",
        "cams.long_side=96",
        "cams.scales=[1.0]",
    ):
        command += ["--set", setting]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **launcher, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert json.loads((out / "classify" / "done.json").read_text())["summary"]["steps"] == 4
    assert len((out / "classify" / "log.jsonl").read_text().splitlines()) == 4
    assert len(list((out / "cams").glob("*.npz"))) == 8
    assert "cams: done" in printed[0]
    assert "done" not in printed[1]
