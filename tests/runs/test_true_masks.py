"""Annotations become mask files of the run, once."""

from dataclasses import replace
from pathlib import Path

from weakseg.data.images import read_mask
from weakseg.data.truth import Region, RegionMask
from weakseg.runs.run_dir import RunDir
from weakseg.runs.true_masks import TRUTH, with_mask_files
from weakseg.types import Catalog, Sample


def test_annotations_are_drawn_once_and_anew_when_they_change(tmp_path):
    box = RegionMask(Path("a.json"), (4, 6), (Region("dog", "rectangle", (1, 1, 3, 3)),))
    known = Sample("b", Path("b.jpg"), frozenset(), mask=tmp_path / "there.png")
    sample = Sample("x/a", Path("a.jpg"), frozenset([1]), annotation=box)
    catalog = Catalog(("cat", "dog"), (known, sample))
    drawn = with_mask_files(catalog, tmp_path / "truth")
    assert drawn.samples[0] is known
    path = drawn.samples[1].mask
    assert path == tmp_path / "truth" / "x" / "a.png"
    assert drawn.samples[1].annotation is None
    assert read_mask(path)[1, 1] == 2
    time = path.stat().st_mtime_ns
    with_mask_files(catalog, tmp_path / "truth")
    assert path.stat().st_mtime_ns == time
    moved = replace(box, regions=(Region("cat", "rectangle", (0, 0, 1, 1)),))
    other = Catalog(catalog.classes, (known, replace(sample, annotation=moved)))
    with_mask_files(other, tmp_path / "truth")
    assert read_mask(path)[0, 0] == 1
    assert read_mask(path)[1, 1] == 0


def test_nothing_is_written_where_there_are_no_annotations(tmp_path):
    catalog = Catalog(("cat",), (Sample("a", Path("a.jpg"), frozenset()),))
    assert with_mask_files(catalog, tmp_path / "truth") is catalog
    assert not (tmp_path / "truth").exists()


def test_a_run_begins_by_drawing_and_is_known_again_if_it_ends_there(tmp_path):
    box = RegionMask(Path("a.json"), (4, 6), (Region("dog", "rectangle", (1, 1, 3, 3)),))
    catalog = Catalog(("dog",), (Sample("a", Path("a.jpg"), frozenset([0]), annotation=box),))
    with_mask_files(catalog, tmp_path / "run" / TRUTH)
    with RunDir(tmp_path / "run").locked():
        pass
