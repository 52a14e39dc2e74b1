"""What `check` says of transparency, further bands and further frames, and how to ignore alpha."""

import numpy as np
import pytest
from PIL import Image

from weakseg.data.images import read_sample
from weakseg.runs.contents import catalog_digest
from weakseg.runs.run_dir import RunDir
from weakseg.sources.check import check_catalog
from weakseg.sources.source import open_catalog

RNG = np.random.default_rng(0)


def source(folder, alpha=None, names="abcd"):
    """Images with tags; those named in `alpha` have a fourth channel of one value."""
    lines = ["image,tags"]
    for name in names:
        pixels = RNG.integers(0, 256, (16, 16, 4), dtype=np.uint8)
        pixels[..., 3] = (alpha or {}).get(name, 255)
        image = Image.fromarray(pixels, "RGBA")
        image = image if name in (alpha or {}) else image.convert("RGB")
        image.save(folder / f"{name}.png")
        lines.append(f"{name}.png,{'cat' if name in 'ab' else 'dog'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def channels(report):
    return [f for f in (*report.faults, *report.notes) if f.kind.startswith("image_")]


def test_rgb_says_nothing(tmp_path):
    assert channels(check_catalog(source(tmp_path))) == []


def test_partly_transparent_images_are_one_note_with_the_count(tmp_path):
    (note,) = channels(check_catalog(source(tmp_path, {"a": 128, "c": 200, "d": 255})))
    assert note.severity == "note"
    assert note.found == "2 images partly transparent, laid over white: 'a', 'c'"
    assert "--ignore-alpha" in note.remedy
    assert channels(check_catalog(tmp_path, ignore_alpha=True)) == []


def test_a_fully_transparent_image_is_a_fault_of_its_own(tmp_path):
    (fault,) = channels(check_catalog(source(tmp_path, {"b": 0})))
    assert (fault.severity, fault.samples) == ("fault", ("b",))
    assert channels(check_catalog(tmp_path, ignore_alpha=True)) == []


def test_pages_are_one_note(tmp_path):
    source(tmp_path)
    pages = [Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8)) for _ in range(3)]
    (tmp_path / "a.png").unlink()
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text().replace("a.png", "a.tif"))
    (note,) = channels(check_catalog(tmp_path))
    assert note.found == "1 image of several frames or pages, of which the first is read: 'a'"


@pytest.mark.parametrize("ignored", [False, True])
def test_the_choice_reaches_samples_the_run_and_the_fingerprint(tmp_path, ignored):
    catalog = open_catalog(source(tmp_path, {"a": 0}), ignore_alpha=ignored)
    whites = [bool((read_sample(s) == 255).all()) for s in catalog]
    assert whites == [not ignored, False, False, False]
    run = RunDir(tmp_path / "run")
    run.save_catalog(catalog, source=tmp_path)
    assert run.load_catalog() == catalog
    other = open_catalog(tmp_path, ignore_alpha=not ignored)
    assert catalog_digest(other) != catalog_digest(catalog)
