import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import weakseg
from weakseg.apps import label_folder as module
from weakseg.data.images import read_mask
from weakseg.data.masks import mask_classes
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.predict import Labeler
from weakseg.types import DataError, RunError

CLASSES = ("cat", "Löwe")


def save_model(folder, seed=0):
    torch.manual_seed(seed)
    backbone = BackboneSettings(name="resnet18", weights="none")
    settings = SegmenterSettings(channels=32)
    network = Segmenter(2, backbone, settings, class_names=CLASSES, long_side=64).eval()
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "sub/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


@pytest.fixture
def computed(monkeypatch):
    """Paths that the labeler was asked for."""
    paths = []
    stream = Labeler.stream

    def noted(self, images, tags=None, **options):
        def each():
            for path in images:
                paths.append(path.name)
                yield path

        return stream(self, each(), tags, **options)

    monkeypatch.setattr(Labeler, "stream", noted)
    return paths


def label(model, photos, out, **options):
    return weakseg.label(model, [photos], out, device="cpu", **options)


def test_a_mask_for_every_image(model, photos, tmp_path):
    out = tmp_path / "out"
    summary = label(model, photos, out)
    assert (summary.made, summary.kept, summary.bad) == (3, 0, ())
    labeler = Labeler.from_run(model, "cpu")
    for name, suffix in (("a", "png"), ("b", "jpg"), ("sub/c", "png")):
        mask = read_mask(out / f"{name}.png")
        assert torch.equal(mask, labeler.label(photos / f"{name}.{suffix}")[0])
        assert mask.shape == (60, 80)
        assert mask_classes(out / f"{name}.png") == CLASSES
    assert (out / "classes.txt").read_text("utf-8") == "cat\nLöwe\n"
    assert not list(out.rglob("*.tmp"))


def test_what_is_there_is_kept(model, photos, tmp_path, computed):
    out = tmp_path / "out"
    label(model, photos, out)
    del computed[:]
    assert label(model, photos, out).kept == 3
    assert computed == []
    # A mask that is missing, an image that was changed, and the half line of a killed process.
    (out / "sub" / "c.png").unlink()
    os.utime(photos / "b.jpg", (1, 1))
    with (out / "images.jsonl").open("a") as log:
        log.write('{"mask": "x')
    assert (summary := label(model, photos, out)).made == 2
    assert summary.kept == 1
    assert sorted(computed) == ["b.jpg", "c.png"]
    assert label(model, photos, out).kept == 3


def test_an_interrupted_run_goes_on(model, photos, tmp_path, monkeypatch, computed):
    out = tmp_path / "out"
    write = module.write_mask

    def failing(path, *rest):
        if path.name == "b.png":
            raise RunError("cannot write b.png: no space left")
        write(path, *rest)

    monkeypatch.setattr(module, "write_mask", failing)
    with pytest.raises(RunError, match="no space left"):
        label(model, photos, out)
    monkeypatch.setattr(module, "write_mask", write)
    del computed[:]
    assert label(model, photos, out).made == len(computed) < 3
    assert len(list(out.rglob("*.png"))) == 3


def test_other_models_and_settings_are_refused(model, photos, tmp_path):
    out = tmp_path / "out"
    label(model, photos, out)
    with pytest.raises(RunError, match=r"made otherwise \(mirror: True → False\); choose another"):
        label(model, photos, out, mirror=False)
    other = save_model(tmp_path / "other", seed=1)
    with pytest.raises(RunError, match=r"made otherwise \(model: "):
        label(other, photos, out)
    moved = shutil.copytree(model, tmp_path / "moved")
    assert label(moved, photos, out, batch_size=1).kept == 3


def test_masks_of_other_images_are_not_overwritten(model, photos, tmp_path):
    out, others = tmp_path / "out", tmp_path / "others"
    label(model, photos, out)
    shutil.copytree(photos, others)
    with pytest.raises(DataError, match=r"a\.png is the mask of .*photos.a\.png, and that of"):
        label(model, others, out)
    shutil.rmtree(photos)  # the images were moved
    assert label(model, others, out).made == 3


@pytest.mark.parametrize("where", ["photos", "file"])
def test_foreign_places_are_left_alone(model, photos, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="choose another --out"):
        label(model, photos / "a.png", tmp_path / where)
    assert not (photos / "label.json").exists()


def test_masks_below_the_images_are_not_labelled(model, photos):
    out = photos / "found"
    assert label(model, photos, out).made == 3
    assert (summary := label(model, photos, out)).kept == 3
    assert summary.made == 0


def test_maps_are_kept_beside_the_masks(model, photos, tmp_path, computed):
    out = tmp_path / "out"
    label(model, photos, out)
    before = {path.name: path.read_bytes() for path in out.rglob("*.png")}
    del computed[:]
    assert label(model, photos, out, maps=True).made == 3  # masks without maps are made anew
    assert {path.name: path.read_bytes() for path in out.rglob("*.png")} == before
    for name in ("a", "b", "sub/c"):
        kept = np.load(out / f"{name}.npz")
        assert tuple(kept["classes"]) == CLASSES
        assert kept["size"].tolist() == [60, 80]
        assert kept["probabilities"].dtype == np.float16
        assert kept["probabilities"].shape == (3, 16, 16)  # a quarter of 64×64
        large = [
            np.asarray(Image.fromarray(one).resize((80, 60), Image.Resampling.BILINEAR))
            for one in np.log(np.maximum(kept["probabilities"].astype(np.float32), 1e-7))
        ]
        assert (np.argmax(large, axis=0) == read_mask(out / f"{name}.png").numpy()).mean() > 0.9
    del computed[:]
    assert label(model, photos, out, maps=True).kept == 3
    (out / "sub" / "c.npz").unlink()
    assert label(model, photos, out, maps=True).made == 1
    assert computed == ["c.png"]
    # Maps of an earlier mask do not stay beside a new one.
    os.utime(photos / "b.jpg", (1, 1))
    assert label(model, photos, out).made == 1
    assert sorted(path.name for path in out.rglob("*.npz")) == ["a.npz", "c.npz"]
    assert label(model, photos, out, maps=True).made == 1


def test_tags_rule_out_classes(model, photos, tmp_path):
    tags = tmp_path / "tags.csv"
    tags.write_text("image,tags\na.png,cat\nb,\nsub/c.png,Löwe cat\n", encoding="utf-8")
    out = tmp_path / "out"
    label(model, photos, out, tags=tags)
    free = Labeler.from_run(model, "cpu").label(photos / "sub" / "c.png")[0]
    assert set(read_mask(out / "a.png").unique().tolist()) <= {0, 1}
    assert not read_mask(out / "b.png").any()
    assert torch.equal(read_mask(out / "sub" / "c.png"), free)
    # Another tag, another mask: of that image alone.
    tags.write_text("image,tags\na.png,cat\nb,cat\nsub/c.png,Löwe cat\n", encoding="utf-8")
    assert label(model, photos, out, tags=tags).made == 1


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("image,tags\na.png,cat\n", r"no row for .*b\.jpg and 1 more; add rows"),
        ("image,tags\na.png,cow\nb,\nsub/c,\n", "knows no class 'cow'"),
        ("image,tags\na.png\n", "1 column instead of 2"),
        ("", "the file is empty"),
    ],
)
def test_tags_that_do_not_fit(model, photos, tmp_path, text, about):
    (tmp_path / "tags.csv").write_text(text)
    with pytest.raises(DataError, match=about):
        label(model, photos, tmp_path / "out", tags=tmp_path / "tags.csv")
    assert not (tmp_path / "out").exists()


def test_the_command(weak, model, photos, tmp_path):
    out = tmp_path / "out"
    code, text, err = weak("label", model, photos, "--out", out, "--device", "cpu")
    assert (code, err) == (0, "")
    assert text.splitlines()[-1].startswith("3 masks in ")
    code, text, _ = weak("label", model, photos, "--out", out, "--device", "cpu")
    assert code == 0
    assert re.search(r"0 masks in \d+ s, 3 there already: ", text)
    code, text, _ = weak(
        *("label", model, photos / "*.png", photos / "sub", "--out", tmp_path / "other"),
        *("--full-size", "--no-mirror", "--scales", "0.75,1.5", "--maps"),
    )
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "other").glob("*.npz")) == ["a.npz", "c.npz"]
    settings = json.loads((tmp_path / "other" / "label.json").read_text())
    assert settings["long_side"] is None
    assert settings["scales"] == [0.75, 1.5]
    assert settings["mirror"] is False
    assert sorted(path.name for path in (tmp_path / "other").glob("*.png")) == ["a.png", "c.png"]


def test_bad_files_are_listed_at_the_end(weak, model, photos, tmp_path):
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "half.png").write_bytes((photos / "a.png").read_bytes()[:100])
    out = tmp_path / "out"
    code, text, err = weak("label", model, photos, "--out", out, "--device", "cpu")
    assert (code, err) == (1, "")
    assert "image empty: 1 bad image" in text
    assert "the file is empty" in text
    assert text.splitlines()[-1].startswith("3 masks in ")
    assert "2 bad images left out" in text
    assert len(list(out.rglob("*.png"))) == 3
    # What was fixed is labelled next time.
    shutil.copy(photos / "a.png", photos / "half.png")
    (photos / "empty.jpg").unlink()
    code, text, _ = weak("label", model, photos, "--out", out, "--device", "cpu")
    assert code == 0
    assert text.splitlines()[-1].startswith("1 mask in ")
    assert "3 there already" in text


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (("nowhere", "photos", "--out", "o"), "neither a run of weakseg nor a model's folder"),
        (("model", "nowhere.jpg", "--out", "o"), "nowhere.jpg: there is no such file"),
        (("model", "photos"), "required: --out"),
        (("model", "--out", "o"), "required: IMAGES"),
        (("model", "photos", "--out", "o", "--scales", "1,x"), "expected numbers from 0.1 to 10"),
        (("model", "photos", "--out", "o", "--scales", "0"), "expected numbers from 0.1 to 10"),
        (("model", "photos", "--out", "o", "--device", "gpu"), "invalid choice: 'gpu'"),
        (("model", "photos", "--out", "photos"), "photos is not empty"),
    ],
)
def test_users_errors_are_one_line(weak, model, photos, monkeypatch, arguments, about):
    monkeypatch.chdir(photos.parent)
    shutil.copytree(model, "model")
    code, _, err = weak("label", *arguments)
    assert code == 2
    assert about in err
    assert err.count("\n") == 1
    assert not (photos.parent / "o").exists()


def test_tags_name_images_as_sources_do(model, tmp_path):
    photos = tmp_path / "images"
    for name in ("shot.jpg", "shot.2020.jpg", "x.jpg"):
        photos.mkdir(exist_ok=True)
        Image.new("RGB", (48, 40), (90, 120, 200)).save(photos / name)
    tags = tmp_path / "tags.csv"
    tags.write_text("image,tags\nimages/x.jpg,cat\nshot.jpg,cat\nshot.2020,\n")
    label(model, photos, tmp_path / "out", tags=tags)
    assert not read_mask(tmp_path / "out" / "shot.2020.png").any()
    tags.write_text("image,tags\nimages\\x.jpg,cat\nshot.jpg,cat\nshot,\nshot.2020,\n")
    with pytest.raises(DataError, match=r"tags.csv:4: 'shot' is named twice, with other tags"):
        label(model, photos, tmp_path / "out", tags=tags)
