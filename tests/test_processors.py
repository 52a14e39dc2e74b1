"""How many processors: of the machine, of this process, of its container."""

import pytest
import torch
from PIL import Image

from weakseg import processors
from weakseg.apps import mask_folders
from weakseg.data.images import read_mask
from weakseg.processors import available_processors, one_thread


@pytest.fixture
def machine(monkeypatch, tmp_path):
    def set_up(affinity, quota):
        monkeypatch.setattr(
            processors.os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False
        )
        path = tmp_path / "cpu.max"
        path.write_text(quota)
        monkeypatch.setattr(processors, "_QUOTA_V2", path)

    return set_up


@pytest.mark.parametrize(
    ("affinity", "quota", "count"),
    [
        (8, "max 100000", 8),
        (8, "200000 100000", 2),
        (8, "250000 100000", 3),
        (2, "800000 100000", 2),
        (8, "1000 100000", 1),
        (8, "nonsense", 8),
    ],
)
def test_the_least_of_all_counts(machine, affinity, quota, count):
    machine(affinity, quota)
    assert available_processors() == count


@pytest.mark.parametrize(("quota", "count"), [("-1", 6), ("150000", 2)])
def test_older_containers(machine, monkeypatch, tmp_path, quota, count):
    machine(6, "")
    files = tmp_path / "quota", tmp_path / "period"
    files[0].write_text(f"{quota}\n")
    files[1].write_text("100000\n")
    monkeypatch.setattr(processors, "_QUOTA_V2", tmp_path / "absent")
    monkeypatch.setattr(processors, "_QUOTA_V1", files)
    assert available_processors() == count


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        @one_thread()
        def inside():
            return torch.get_num_threads()

        assert (inside(), torch.get_num_threads()) == (1, 2)
        with pytest.raises(ZeroDivisionError), one_thread():
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_scores_are_counted_on_one_thread(tmp_path, monkeypatch):
    Image.new("L", (6, 5), 1).save(tmp_path / "a.png")
    seen = []

    def reading(path):
        seen.append(torch.get_num_threads())
        return read_mask(path)

    monkeypatch.setattr(mask_folders, "read_mask", reading)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        mask_folders.evaluate_masks(tmp_path, tmp_path)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]
