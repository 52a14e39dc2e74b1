import time

import pytest
import torch
from torch import nn

from weakseg.planning.stopwatch import Stopwatch, bytes_for_gradients, unhindered, widest_layer


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


def test_what_others_took_is_left_out():
    assert unhindered(4.0, 2.0, 6.0, threads=2) == 1.0  # it had half a processor of two
    assert unhindered(4.0, 2.0, 6.0, threads=1) == 2.0
    assert unhindered(4.0, 2.0, 0.0, threads=2) == 4.0  # it waits for itself
    assert unhindered(4.0, 0.0, 0.0, threads=2) == 4.0  # it sleeps


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
