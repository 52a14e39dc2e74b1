"""Samples that go to another process arrive as they were."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from weakseg.runs.sample_rows import rows_of_samples, samples_of_rows
from weakseg.types import Sample

paths = st.text(min_size=1).map(lambda text: Path("/") / text.replace("\0", "0"))
samples = st.builds(
    Sample,
    id=st.text(min_size=1),
    image=paths,
    tags=st.frozensets(st.integers(0, 90)),
    mask=st.none() | paths,
    ignore_alpha=st.booleans(),
)


@given(st.lists(samples, max_size=4))
def test_rows_of_json_keep_all_of_a_sample(given_samples):
    rows = json.loads(json.dumps(rows_of_samples(given_samples)))
    assert samples_of_rows(rows) == given_samples


def test_paths_hold_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = rows_of_samples([Sample("a", Path("b/a.png"), frozenset(), mask=Path("a.png"))])
    monkeypatch.chdir(tmp_path.parent)
    (found,) = samples_of_rows(rows)
    assert (found.image, found.mask) == (tmp_path / "b/a.png", tmp_path / "a.png")
