import time

import pytest
import torch
from torch import nn

from weakseg.planning.stopwatch import Stopwatch, bytes_for_gradients, done_by, widest_layer
from weakseg.processors import one_thread


def test_work_is_repeated_and_divided_among_its_images():
    calls = []
    watch = Stopwatch(torch.device("meta"), seconds=1.0, kinds=2)

    def work():
        calls.append(1)
        time.sleep(0.01)

    assert 0.001 < watch.each(work, 5) < 0.01
    assert len(calls) >= 2


def test_without_time_work_is_done_once():
    calls, told = [], []
    watch = Stopwatch(torch.device("cpu"), 0.0, 1, lambda: told.append(1))
    assert watch.each(lambda: calls.append(1)) >= 0
    assert len(calls) == len(told) == 1


def test_what_others_took_is_left_out(monkeypatch):
    watch = Stopwatch(torch.device("cpu"), 1.0, 1)
    seen = []

    def once(work):
        seen.append(torch.get_num_threads())
        return 40.0, 2.0, 78.0  # of the clock, of its own, of others on two processors

    monkeypatch.setattr(watch, "_once", once)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert watch.each(lambda: None, 4) == pytest.approx(2.0 / done_by(2) / 4)
        assert seen == [2, 1]
        assert watch.clock / watch.free == pytest.approx(40 / (2.0 / done_by(2)))
        with one_thread():
            assert watch.each(lambda: None) == 2.0
    finally:
        torch.set_num_threads(before)


def test_where_nobody_hinders_it_is_the_clock(monkeypatch):
    watch = Stopwatch(torch.device("cpu"), 0.01, 1)
    monkeypatch.setattr(watch, "_once", lambda work: (3.0, 1.0, 0.0))
    assert watch.each(lambda: None) == 3.0
    assert watch.clock == watch.free == 3.0


def test_bytes_for_gradients_leave_parameters_out():
    layer = nn.Linear(4, 4, bias=False)
    x = torch.ones(2, 4)
    with bytes_for_gradients() as kept:
        layer(x).square().sum()
    assert sum(kept) == pytest.approx(2 * 2 * 4 * 4)  # what goes in, and what is squared


def test_the_widest_layer():
    network = nn.Sequential(nn.Linear(4, 100), nn.Linear(100, 2))
    assert widest_layer(network, lambda: network(torch.ones(1, 4))) == 104 * 4
    assert not network[0]._forward_hooks
