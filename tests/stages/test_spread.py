import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smallest import SMALLEST
from weakseg import api
from weakseg.demo_data.data_set import write_demo
from weakseg.runs.image_maps import ImageMaps

SET = (*SMALLEST, "spread.scales=[0.75, 1.0]", "prototypes.clusters=3")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread") / "data"
    write_demo(folder, count=8, seed=3)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return spread_run(data, tmp_path_factory.mktemp("spread") / "run", SET)


def spread_run(data, out, overrides):
    """A run whose class activation maps are blobs: those of a network so untrained may be 0."""
    done = api.run(data, out, preset="fast", until="cams", overrides=overrides)
    generator = np.random.default_rng(0)
    for path in sorted((done.run / "cams").glob("*.npz")):
        with np.load(path) as file:
            arrays = dict(file)
        for branch in ("spotlight",):
            blobs = generator.random((len(arrays["classes"]), 3, 3)).repeat(8, 1).repeat(8, 2)
            height, width = arrays[branch].shape[1:]
            arrays[branch] = blobs[:, :height, :width].astype(np.float16)
        np.savez(path, **arrays)
    return api.run(data, out, preset="fast", until="spread", overrides=overrides)


def ids(run):
    return [path.stem for path in sorted((run.run / "spread").glob("*.npz"))]


def all_maps(run, stage, names):
    return [ImageMaps.load(run, stage, name).maps["spotlight"] for name in names]


def test_maps_are_stretched_on_the_same_grid(run):
    for sample_id in ids(run):
        before = ImageMaps.load(run.run, "cams", sample_id)
        after = ImageMaps.load(run.run, "spread", sample_id)
        assert torch.equal(before.classes, after.classes)
        for branch in ("spotlight",):
            assert after.maps[branch].shape == before.maps[branch].shape
            for map_ in after.maps[branch]:
                assert float(map_.min()) == 0
                assert float(map_.max()) == pytest.approx(1, abs=2e-3)


def test_missing_maps_alone_are_made_again_from_the_same_prototypes(run, data):
    stage = run.run / "spread"
    first = stage / f"{ids(run)[0]}.npz"
    before, centres = np.load(first)["spotlight"], load_file(stage / "centres.safetensors")
    times = {path: path.stat().st_mtime_ns for path in stage.glob("*.*") if path != first}
    first.unlink()
    (stage / "done.json").unlink()
    times.pop(stage / "done.json")
    api.run(data, run.run, preset="fast", until="spread", overrides=SET)
    np.testing.assert_allclose(np.load(first)["spotlight"], before, atol=2e-3)
    again = load_file(stage / "centres.safetensors")
    assert all(torch.equal(centres[key], again[key]) for key in centres)
    kept = [path for path in times if path.suffix in (".npz", ".safetensors")]
    assert all(path.stat().st_mtime_ns == times[path] for path in kept)


def test_each_piece_alone_makes_other_maps(run, data, tmp_path):
    found = {}
    for name, piece in (("no prototypes", "prototypes"), ("no spreading", "spreading")):
        other = spread_run(data, tmp_path / name, (*SET, f"spread.{piece}=false"))
        found[name] = all_maps(other.run, "spread", ids(run))
    for maps in found.values():
        for stage in ("spread", "cams"):
            others = all_maps(run.run, stage, ids(run))
            pairs = zip(maps, others, strict=True)
            assert not all(torch.allclose(a, b, atol=1e-2) for a, b in pairs)
