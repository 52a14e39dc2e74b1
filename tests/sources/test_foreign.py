"""Every layout of `benchmarks/foreign.py` is read right, or refused with the remedy."""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "benchmarks" / "foreign.py"
_SPEC = importlib.util.spec_from_file_location("foreign", _PATH)
foreign = importlib.util.module_from_spec(_SPEC)
sys.modules["foreign"] = foreign
_SPEC.loader.exec_module(foreign)


@pytest.mark.parametrize("layout", foreign.LAYOUTS, ids=lambda layout: layout.name)
def test_layout(layout, tmp_path):
    outcome = foreign.judge(layout, tmp_path)
    assert outcome.well, outcome.verdict
    assert outcome.tags is not False
    assert outcome.truth is not False


def test_there_are_enough():
    assert len({layout.name for layout in foreign.LAYOUTS}) == len(foreign.LAYOUTS) >= 60
