import json

import pytest

from weakseg.apps.report.facts import read_facts
from weakseg.types import RunError


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("evaluate/metrics.json", {"maps": 3}),
        ("evaluate/metrics.json", {"maps": {"spotlight": "a"}}),
        ("masks/done.json", {"seconds": 1, "summary": {"thresholds": 2.5}}),
        ("masks/done.json", {"seconds": 1, "summary": {"maps": {}, "thresholds": {"a": 1}}}),
        ("masks/done.json", {"seconds": "1", "summary": {}}),
        ("cams/fingerprint.json", {"needs": 3}),
    ],
)
def test_records_of_another_form(drawing, name, record):
    drawing.add("a", ["cat"], truth=True)
    run = drawing.run()
    read_facts(run)
    (run / name).write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"damaged"):
        read_facts(run)
