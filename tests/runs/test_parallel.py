import os

import pytest
import torch

from weakseg.runs.parallel import parallel_map


def square(number):
    return number * number


def one_thread(_):
    return os.getpid(), torch.get_num_threads()


def refuse(number):
    raise ValueError(f"no {number}")


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on purpose
@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_results_come_in_order(workers):
    assert list(parallel_map(square, range(9), workers=workers)) == [k * k for k in range(9)]
    assert list(parallel_map(square, [], workers=workers)) == []


def test_processes_have_one_thread_each():
    found = list(parallel_map(one_thread, range(8), workers=2))
    assert {threads for _, threads in found} == {1}
    assert os.getpid() not in {process for process, _ in found}


def test_an_error_reaches_the_caller():
    with pytest.raises(ValueError, match="no 3"):
        list(parallel_map(refuse, [3, 4], workers=2))
