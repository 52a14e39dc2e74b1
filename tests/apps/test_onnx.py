import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from weakseg.apps import onnx as module
from weakseg.apps.onnx import export_onnx
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.predict import Labeler
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, ConfigError, RunError, Sample

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CLASSES = ("cat", "Löwe")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    samples = []
    for name in "abc":
        path = folder / f"{name}.png"
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(name, path, frozenset()))
    (folder / "a.png").write_bytes(b"")  # one that cannot be read any more
    run = RunDir(folder / "run")
    run.create()
    run.save_catalog(Catalog(CLASSES, tuple(samples)), source="x")
    stage = run.open_stage("segment", {"version": 1})
    torch.manual_seed(0)
    network = Segmenter(
        2,
        BackboneSettings(name="resnet18", weights="none"),
        SegmenterSettings(channels=32, decoder="fpn"),
        class_names=CLASSES,
        long_side=64,
    )
    network.save_pretrained(stage.path / "model")
    stage.finish({})
    return run.path


@pytest.fixture(scope="module")
def exported(run):
    console = Console(record=True, file=io.StringIO())
    path = export_onnx(run, run.parent / "sub" / "model.onnx", console)
    return path, console.export_text()


def test_the_file_is_the_network(run, exported):
    path, text = exported
    assert "differs from torch by" in text
    network = Segmenter.from_pretrained(run / "segment" / "model")
    session = onnxruntime.InferenceSession(path)
    for size in ((1, 3, 64, 43), (3, 3, 75, 100), (1, 3, 40, 64), (2, 3, 33, 64)):
        images = torch.rand(size)
        logits, scores = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(logits), network(images), atol=1e-4, rtol=1e-4
            )
            if not any(side % network.cell for side in size[2:]):
                torch.testing.assert_close(
                    torch.from_numpy(scores), network.coarse(images), atol=1e-4, rtol=1e-4
                )


def test_the_file_tells_what_it_takes_and_gives(exported):
    session = onnxruntime.InferenceSession(exported[0])
    (images,), (logits, scores) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type) == ("images", "tensor(float)")
    assert images.shape == ["batch", 3, "height", "width"]
    assert logits.shape == ["batch", 3, "height", "width"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["classes"])) == CLASSES
    assert (logits.name, scores.name, scores.shape[:2]) == ("logits", "scores", ["batch", 3])
    assert (metadata["long_side"], metadata["multiple"]) == ("64", "32")
    assert "round(side * (long_side / longer side) / multiple)" in metadata["size"]
    assert "RGB in 0..1" in metadata["input"]


RECIPE = Path(__file__).parents[2] / "docs" / "recipes" / "onnx.md"
SHAPES = {
    "photo.jpg": (375, 500),
    "narrow.jpg": (300, 40),
    "turned.jpg": (150, 200),
    "large.jpg": (600, 451),
    "flipped.png": (90, 60),
    "icon.png": (9, 12),
    "even.png": (64, 64),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_recipes_lines_label_as_the_labeler(run, exported, tmp_path, monkeypatch, name):
    (lines,) = [
        text
        for text in re.findall(r"```python\n(.*?)```", RECIPE.read_text("utf-8"), re.DOTALL)
        if "onnxruntime" in text
    ]
    height, width = SHAPES[name]
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = {"turned.jpg": 6, "flipped.png": 5}.get(name, 1)
    image.save(tmp_path / name, exif=exif)
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(lines.replace("cats.onnx", str(exported[0])).replace("new.jpg", name), found)
    (expected,) = Labeler.from_run(run, "cpu", precision="fp32", mirror=False).label(
        [tmp_path / name]
    )
    # But for pixels on the very line between two classes, where float32 itself is not sure.
    first, second = np.sort(found["large"], axis=0)[:-3:-1]
    sure = first - second > 1e-5 * np.abs(first).max()
    np.testing.assert_array_equal(found["labels"][sure], expected.numpy()[sure])
    assert sure.mean() > 0.999
    assert (found["labels"] == expected.numpy()).mean() > 0.9999
    assert len(np.unique(found["labels"])) > 1


def test_the_recipes_lines_need_few_packages():
    text = RECIPE.read_text("utf-8")
    assert text.count("import onnxruntime") == 1
    lines = text[: text.index("labels = np.argmax")].rsplit("```python", 1)[1]
    modules = re.findall(r"^(?:import|from) (\w+)", lines, re.MULTILINE)
    assert modules == ["numpy", "onnxruntime", "PIL"]


def test_nothing_else_is_left(exported):
    assert [path.name for path in exported[0].parent.iterdir()] == ["model.onnx"]


def test_real_images_in_two_sizes_are_compared(run):
    network = Segmenter.from_pretrained(run / "segment" / "model")
    one, two = module._batches(RunDir(run), network)
    assert one.shape == (1, 3, 32, 64)
    assert two.shape == (2, 3, 32, 47)
    expected = np.asarray(Image.open(run.parent / "b.png").resize((64, 32))) / 255
    assert abs(one[0].mean() - expected.mean()) < 0.02
    drawn, _ = module._batches(RunDir(run / "segment" / "model"), network)  # a model without a run
    assert max(drawn.shape) == 64


def test_a_file_that_differs_is_not_written(run, exported, tmp_path, monkeypatch):
    def save(network, path):
        shutil.copy(exported[0], path)
        with torch.no_grad():
            network.segmentation_head[-1].bias += 0.01

    monkeypatch.setattr(module, "_save", save)
    with pytest.raises(RunError, match=r"differs from torch by 1\.0e-02, more than 1e-03"):
        export_onnx(run, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_named(run, tmp_path, monkeypatch):
    find = module.importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda n: None if n.startswith("onnx") else find(n)
    )
    with pytest.raises(ConfigError, match=r"onnx, onnxruntime, onnxscript; pip install 'weakseg\["):
        export_onnx(run, tmp_path / "model.onnx")


def test_places_that_cannot_be(run, tmp_path):
    with pytest.raises(RunError, match="is a folder"):
        export_onnx(run, tmp_path)
    with pytest.raises(RunError, match="neither a run"):
        export_onnx(tmp_path, tmp_path / "model.onnx")
