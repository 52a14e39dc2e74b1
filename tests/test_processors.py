"""How many processors: of the machine, of this process, of its container."""

import pytest

from weakseg import processors
from weakseg.processors import available_processors


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
