"""What killed processes leave half written, and who removes it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from weakseg import files
from weakseg.files import read_json, replacing, sweep, sweep_here, write_long_json

KILLED = """
import os, signal, sys
from pathlib import Path
from weakseg.files import replacing
with replacing(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as part:
    (part / "half.png" if part.is_dir() else part).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("clean", [sweep, sweep_here])
def test_what_kill_9_leaves_is_swept(tmp_path, kind, clean):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out", kind], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_machine_writes_is_left_for_a_day(tmp_path):
    path = tmp_path / ".999999999-1-2-0123abcd.tmp"
    path.write_bytes(b"half")
    sweep(tmp_path)
    assert path.exists()
    old = time.time() - 25 * 3600
    os.utime(path, (old, old))
    sweep(tmp_path)
    assert not path.exists()


def test_what_is_being_written_is_left(tmp_path):
    with replacing(tmp_path / "a.json") as part:
        part.write_bytes(b"half")
        sweep(tmp_path)
        sweep_here(tmp_path)
        part.write_bytes(b"whole")
    assert (tmp_path / "a.json").read_bytes() == b"whole"


def test_files_of_others_are_left(tmp_path):
    names = [".tmpAb3dE9", "a.tmp", ".1-2.tmp", f".{os.getppid()}-1-2-{files._HOST}.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    sweep(tmp_path, tensors=False)
    sweep_here(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_long_json_is_read_as_any_other(tmp_path):
    value = {"a": "ü", "none": None, "empty": {}, "map": {"x": 1, "y": tmp_path}, "few": [1, 2]}
    path = tmp_path / "new" / "long.json"
    write_long_json(path, {**value, "rows": iter([{"id": 1}, {"id": 2}]), "no rows": iter([])})
    expected = {**value, "map": {"x": 1, "y": str(tmp_path)}, "rows": [{"id": 1}, {"id": 2}]}
    assert read_json(path) == {**expected, "no rows": []}
    assert path.read_text("utf-8").count("\n") == 15

    def failing():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_long_json(path, {"rows": failing()})
    assert read_json(path)["a"] == "ü"
    assert [entry.name for entry in path.parent.iterdir()] == ["long.json"]
    write_long_json(path, {})
    assert read_json(path) == {}
