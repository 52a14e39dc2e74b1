import subprocess
import sys

import pytest
import torch

from weakseg.training import memory
from weakseg.training.memory import kept_memory, release_memory

GROW = """
import sys, torch
from weakseg.training.memory import kept_memory, release_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def fill():
    return sum(float(torch.ones(2**20 * 60).sum()) for _ in range(2))

start = resident()
with kept_memory():
    fill()
    kept = resident() - start
after = resident() - start
release_memory()
print(kept, after)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_freed_memory_is_kept_inside_and_goes_back_on_leaving():
    done = subprocess.run([sys.executable, "-c", GROW], check=True, capture_output=True, text=True)
    kept, after = map(float, done.stdout.split())
    assert kept > 200
    assert after < 100


def test_results_do_not_depend_on_it():
    x = torch.arange(10.0)
    with kept_memory():
        inside = x * 2
    release_memory()
    assert torch.equal(inside, x * 2)


def test_an_error_inside_comes_out():
    with pytest.raises(ValueError, match="mine"), kept_memory():
        raise ValueError("mine")


@pytest.mark.parametrize("error", [TypeError, OSError])
def test_nothing_is_done_where_the_c_library_has_no_name(monkeypatch, error):
    def refused(name):
        raise error("as on Windows")

    monkeypatch.setattr(memory.ctypes, "CDLL", refused)
    release_memory()
    with kept_memory():
        pass
