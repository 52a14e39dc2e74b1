"""Every script of `examples/` does what its first lines say, on tiny inputs."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


def main_of(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.fixture
def photo(tmp_path):
    """Bright on the left, dark on the right."""
    path = tmp_path / "photo.png"
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 230
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    network = Segmenter(
        2,
        BackboneSettings(name="resnet18", weights="none"),
        SegmenterSettings(channels=32, decoder="fpn"),
        long_side=64,
    )
    folder = tmp_path_factory.mktemp("run") / "model"
    network.save_pretrained(folder)
    return folder


def test_there_are_four_short_ones():
    scripts = list(EXAMPLES.glob("*.py"))
    assert len(scripts) == 4
    assert all(len(path.read_text("utf-8").splitlines()) < 40 for path in scripts)


def test_modulation(capsys):
    main_of("modulation_in_resnet")()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ModulatedResNet", "ResNet"]


def test_maps_walk_up_to_the_edge(photo, tmp_path):
    maps = np.zeros((1, 6, 8), np.float32)
    maps[0, 2:4, 1] = 1  # a spot in the bright half
    np.save(tmp_path / "cams.npy", maps)
    main_of("cams_through_walk")(str(photo), str(tmp_path / "cams.npy"), str(tmp_path / "mask.png"))
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (48, 64)
    assert mask[:, :28].mean() > 0.9
    assert mask[:, 36:].max() == 0


def test_a_classifiers_maps(photo, tmp_path):
    torch.manual_seed(0)
    classifier = torchvision.models.resnet18(num_classes=7)
    main_of("my_classifier")(str(photo), str(tmp_path / "map.png"), [5, 2], classifier)
    found = np.asarray(Image.open(tmp_path / "map.png"))
    assert found.shape == (48, 64)
    assert found.max() > 200


def test_many_images_in_parts_that_go_on(model, photo, tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    names = [f"{'sub/' * (k % 2)}{k}.png" for k in range(8)]
    for name in names:
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "damaged.png").write_bytes(b"no image")
    main = main_of("label_many")
    told = [main(str(model), str(folder), str(tmp_path / "out"), part, 2) for part in (0, 1)]
    assert sorted(told) == [0, 1]
    assert capsys.readouterr().out.count("damaged.png") == 1
    masks = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert masks == {f"{name}.png" for name in names}
    (tmp_path / "out" / f"{names[0]}.png").unlink()
    for part in (0, 1):
        main(str(model), str(folder), str(tmp_path / "out"), part, 2)
    assert {
        int(text.split()[2]) for text in capsys.readouterr().out.splitlines() if "made" in text
    } == {0, 1}
