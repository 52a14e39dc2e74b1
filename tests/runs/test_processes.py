"""Which process does what, and how they end together."""

import os
import signal
import socket
import sys
import time

import pytest
import torch  # noqa: F401 before processes are forked: each would import it
from hypothesis import given
from hypothesis import strategies as st

from weakseg.runs import processes
from weakseg.runs.processes import (
    Part,
    by_first,
    doing_part,
    first_process,
    gathered,
    own_share,
    told,
    wait_for_all,
)
from weakseg.types import RunError, exit_code

SECONDS = 30
"""After which a process must have ended whose partner failed."""


class Forked:
    """Processes that call a function, with what a launcher tells them."""

    def __init__(self, function, count, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self.files = [folder / f"{number}.txt" for number in range(count)]
        self.ids = []
        for number, file in enumerate(self.files):
            file.write_text("")
            self.ids.append(os.fork())
            if self.ids[-1]:
                continue
            try:
                os.environ.update(WORLD_SIZE=str(count), RANK=str(number), MASTER_PORT=port)
                os.environ["MASTER_ADDR"] = "127.0.0.1"
                handle = os.open(file, os.O_WRONLY)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                function(number)
                code = 0
            except BaseException as error:
                code = exit_code(error)
            sys.stdout.flush()
            os._exit(code)

    def ended(self):
        codes, until = [], time.monotonic() + SECONDS
        for process in self.ids:
            while (status := os.waitpid(process, os.WNOHANG))[0] == 0:
                assert time.monotonic() < until, [file.read_text() for file in self.files]
                time.sleep(0.05)
            codes.append(os.waitstatus_to_exitcode(status[1]))
        return codes, [file.read_text() for file in self.files]

    def kill(self):
        for process in self.ids:
            try:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


@pytest.fixture
def forked(tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    groups = []

    def start(function, count=2):
        groups.append(Forked(function, count, tmp_path))
        return groups[-1]

    yield start
    for group in groups:
        group.kill()


@given(st.integers(0, 200), st.integers(1, 40))
def test_shares_are_all_and_none_twice(count, among):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(among))
        shares = []
        for number in range(among):
            patch.setenv("RANK", str(number))
            shares.append(own_share(range(count)))
    assert sorted(item for share in shares for item in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_waits_for_nobody():
    wait_for_all()
    assert gathered(3) == [3]
    assert by_first(lambda: 4) == 4
    assert told(5) == 5


def test_where_they_meet_has_to_be_known(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "no port")
    with (
        pytest.raises(RunError, match=r"process 1 of 2 cannot reach .* start all of them by"),
        processes.working_together(),
    ):
        pass
    with pytest.raises(RuntimeError, match="within working_together"):
        wait_for_all()


def test_all_learn_what_all_bring(forked):
    def meet(number):
        for _ in range(2):
            with processes.working_together():
                print(gathered(10 * number), by_first(lambda: "first"), told(number))
                wait_for_all()

    codes, texts = forked(meet, 3).ended()
    assert codes == [0, 0, 0], texts
    assert texts == ["[0, 10, 20] first 0\n" * 2] * 3


@pytest.mark.parametrize(
    ("who", "error", "code"),
    [(0, RunError, 2), (1, RunError, 2), (1, ValueError, 70), (0, KeyboardInterrupt, 130)],
)
def test_who_fails_ends_all_with_its_message(forked, who, error, code):
    def fail(number):
        with processes.working_together():
            if number == who:
                raise error("it is broken")
            time.sleep(2 * SECONDS)

    codes, texts = forked(fail).ended()
    assert codes == [code, code], texts
    assert f"weakseg: error: process {who} of 2 failed: it is broken; this" in texts[1 - who]
    assert texts[who] == ""


@pytest.mark.parametrize("number", [0, 1])
def test_who_is_killed_ends_all(forked, number):
    def wait(_):
        with processes.working_together():
            wait_for_all()
            print("waiting", flush=True)
            time.sleep(2 * SECONDS)

    group = forked(wait)
    while not all(file.read_text() for file in group.files):
        time.sleep(0.05)
    os.kill(group.ids[number], signal.SIGKILL)
    codes, texts = group.ended()
    assert codes[number] == -signal.SIGKILL
    assert codes[1 - number] == 2
    assert "was ended" in texts[1 - number]


def test_who_ends_without_the_others_is_waited_for(forked):
    def leave(number):
        with processes.working_together():
            time.sleep(2 * (1 - number))
            print("leaves")

    codes, texts = forked(leave).ended()
    assert codes == [0, 0], texts
    assert texts == ["leaves\n"] * 2


def stage(items):
    """What a stage does: something of all, each image by itself, and a sum."""
    offset = by_first(lambda: min(items))
    done = [item + offset for item in own_share(items)]
    wait_for_all()
    return done, sum(gathered(sum(done))), first_process()


def test_parts_do_together_what_one_process_does():
    items = [5, 3, 9, 4, 8]
    expected, total, _ = stage(items)
    with doing_part(Part(is_first=True)) as of_all:
        assert stage(items) == ([], 0, True)
    assert of_all.told == [3]
    done, brought = [], []
    for start in (0, 2, 4):
        with doing_part(Part(start, start + 2, told=of_all.told)) as part:
            own, _, is_first = stage(items)
        assert not is_first
        done += own
        brought.append(part.brought)
    assert done == expected
    with doing_part(Part(is_first=True, told=of_all.told, others=brought)):
        assert stage([10**9])[1] == total  # nothing is computed of all again
    assert stage(items)[0] == expected
