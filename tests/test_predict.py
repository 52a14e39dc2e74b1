import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import weakseg
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.ops import label_maps as labels
from weakseg.predict import Labeler, model_folder
from weakseg.runs.run_dir import RunDir
from weakseg.types import Catalog, ConfigError, DataError, RunError

CLASSES = ("cat", "dog", "owl")


class Colours(nn.Module):
    """Label of a pixel: background where it is dark, else red, green or blue; looks nowhere else."""

    class_names, long_side, cell, ignore_alpha = CLASSES, 64, 16, False
    channels, multiple = 3, 32

    def __init__(self):
        super().__init__()
        self.dark = nn.Parameter(torch.tensor(0.3))
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        if images.dtype == torch.uint8:
            images = images / 255
        return torch.cat([self.dark.expand_as(images[:, :1]), images], dim=1)

    def coarse(self, images):
        return self(images)


class Around(Colours):
    """As `Colours`, of the mean of a neighbourhood: it looks 12 pixels far."""

    def forward(self, images):
        return nn.functional.avg_pool2d(super().forward(images), 25, 1, 12, count_include_pad=False)


@pytest.fixture
def colours():
    return Colours()


def picture(height=48, width=64, seed=0):
    """Large patches of the three colours and black."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 4, (6, 8))
    index = np.kron(patches, np.ones((-(-height // 6), -(-width // 8)), int))[:height, :width]
    table = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
    return table[index], torch.from_numpy(index.astype(np.uint8))


def test_any_form_gives_the_mask_of_its_size(colours, tmp_path):
    pixels, expected = picture()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    images = [path, str(path), Image.fromarray(pixels), pixels, torch.from_numpy(pixels).mT.mT]
    images[-1] = images[-1].permute(2, 0, 1)
    masks = Labeler(colours, "cpu", mirror=False).label(images)
    assert len(masks) == 5
    for mask in masks:
        assert mask.dtype == torch.uint8
        assert torch.equal(mask, expected)
    assert len(colours.seen) == 1  # one batch
    assert torch.equal(Labeler(colours, "cpu").label(path)[0], expected)


def test_images_are_seen_in_the_models_size(colours):
    pixels, expected = picture(320, 640)
    mask = Labeler(colours, "cpu", mirror=False).label(pixels)[0]
    assert colours.seen == [(1, 3, 32, 64)]
    assert mask.shape == (320, 640)
    assert (mask == expected).float().mean() > 0.9
    small = Labeler(colours, "cpu", long_side=32, mirror=False).label(pixels)[0]
    assert colours.seen[1:] == [(1, 3, 32, 32)]  # no side below one cell
    assert small.shape == (320, 640)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (33, 31), (64, 65)])
@pytest.mark.parametrize("long_side", ["model", None])
def test_any_size(colours, size, long_side):
    grey = np.full((*size, 3), (10, 200, 10), np.uint8)
    labeler = Labeler(colours, "cpu", long_side=long_side, tile=96, overlap=32)
    mask = labeler.label(grey)[0]
    assert mask.shape == size
    assert mask.unique().tolist() == [2]


def test_images_upright(colours, tmp_path):
    pixels, expected = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(np.rot90(pixels)).save(path, exif=exif)
    assert torch.equal(Labeler(colours, "cpu").label(path)[0], expected)


@pytest.mark.parametrize("size", [(300, 170), (170, 300), (160, 96), (260, 260)])
def test_tiles_show_no_seams(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    network = Around()
    network.dark.data.fill_(0.5)
    tiled = Labeler(network, "cpu", long_side=None, tile=128, overlap=64, mirror=False)
    whole = Labeler(network, "cpu", long_side=None, tile=512, mirror=False)
    found, expected = tiled.label(image)[0], whole.label(image)[0]
    assert max(max(shape[2:]) for shape in network.seen[:-1]) < 160
    assert network.seen[-1] == (1, 3, *size)
    assert len(expected.unique()) == 4
    assert (found == expected).float().mean() > 0.9999  # rounding decides where two are equal


def test_batches_of_equal_size_and_mates_change_nothing():
    images = [picture(48, 64, seed)[0] for seed in range(5)] + [picture(64, 32)[0]]
    torch.manual_seed(0)
    network = Around()
    together = Labeler(network, "cpu", batch_size=4, mirror=False).label(images)
    assert sorted(shape[0] for shape in network.seen) == [1, 1, 4]
    alone = [Labeler(network, "cpu", mirror=False).label(image)[0] for image in images]
    assert all(map(torch.equal, together, alone))


def test_tags_rule_out_other_classes(colours):
    pixels, expected = picture()
    labeler = Labeler(colours, "cpu")
    images = [pixels] * 4
    free, none, dog, two = labeler.label(images, [None, [], "dog", {"dog", "cat"}])
    assert torch.equal(free, expected)
    assert not none.any()
    assert torch.equal(dog, torch.where(expected == 2, expected, 0))
    assert torch.equal(two, torch.where(expected == 3, 0, expected))
    with pytest.raises(DataError, match="knows no class 'cow'; it knows 'cat', 'dog', 'owl'"):
        labeler.label(images, [["cow"], None, None, None])
    with pytest.raises(ValueError, match="shorter"):
        labeler.label(images, [["dog"]])


def test_scales_and_mirror_are_averaged():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3, padding=1)
    network.ignore_alpha = False
    network.class_names, network.long_side = CLASSES, 64
    image = torch.rand(2, 3, 40, 64)

    def seen(size, *, mirror):
        view = nn.functional.interpolate(image, size, mode="bilinear", antialias=True)
        view = view.flip(-1) if mirror else view
        scores = network(view).softmax(dim=1)
        scores = scores.flip(-1) if mirror else scores
        return nn.functional.interpolate(scores, (40, 64), mode="bilinear")

    with torch.no_grad():
        views = [seen(s, mirror=m) for s in ((40, 64), (60, 96)) for m in (False, True)]
        expected = torch.stack(views).mean(dim=0)
        single = network(image)
    labeler = Labeler(network, "cpu", "fp32", scales=(1.0, 1.5), mirror=True)
    torch.testing.assert_close(labeler.scores(image), expected)
    torch.testing.assert_close(Labeler(network, "cpu", "fp32", mirror=False).scores(image), single)


def test_bf16_is_as_good(colours):
    pixels, expected = picture()
    labeler = Labeler(colours, "cpu", "bf16")
    assert labeler.scores(torch.rand(1, 3, 32, 32)).dtype == torch.float32
    assert torch.equal(labeler.label(pixels)[0], expected)


def test_many_classes_need_no_maps_of_full_size(colours, monkeypatch):
    sizes = []
    real = labels.functional.interpolate

    def noted(x, **options):
        result = real(x, **options)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(labels.functional, "interpolate", noted)
    monkeypatch.setattr(labels, "_STRIP", 100_000)
    Labeler(colours, "cpu").label(np.zeros((1000, 1000, 3), np.uint8))
    assert max(sizes) <= 100_000
    assert sum(sizes) == 4 * 1000 * 1000


def test_a_stream_goes_on_past_bad_files(colours, tmp_path):
    pixels, expected = picture()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    paths = [tmp_path / name for name in ("a.png", "bad.png", "none.png", "a.png")]
    labeler = Labeler(colours, "cpu")
    found = {number: (mask, error) for number, mask, error, _ in labeler.stream(paths)}
    assert sorted(found) == [0, 1, 2, 3]
    assert torch.equal(found[0][0], expected)
    assert torch.equal(found[3][0], expected)
    assert found[1][1].path == paths[1]
    assert found[2][1].kind == "image_missing"
    with pytest.raises(DataError, match=r"none\.png: there is no such file"):
        labeler.label(paths[2:])


def test_maps_are_asked_for(colours):
    labeler = Labeler(colours, "cpu")
    assert next(labeler.stream([picture()[0]])).maps is None
    assert next(labeler.stream([picture()[0]], maps=True)).maps is not None


@pytest.mark.parametrize(
    ("size", "options", "grid"),
    [
        ((48, 64), {}, (16, 16)),  # seen as 64×64
        ((48, 64), {"scales": (1.0, 2.0), "mirror": True}, (16, 16)),
        ((48, 64), {"long_side": None}, (12, 16)),
        ((50, 201), {"long_side": None, "tile": 96, "overlap": 32}, (13, 51)),
        ((201, 50), {"long_side": None, "tile": 96, "overlap": 32}, (51, 13)),
    ],
)
def test_maps_are_probabilities_of_the_masks_classes(colours, size, options, grid):
    pixels, _ = picture(*size)
    labeler = Labeler(colours, "cpu", **{"long_side": 64, **options})
    for tags in (None, ["dog"]):
        (made,) = labeler.stream([pixels], [tags], maps=True)
        maps = made.maps.float()
        assert (made.maps.dtype, tuple(maps.shape)) == (torch.float16, (4, *grid))
        torch.testing.assert_close(maps.sum(dim=0), torch.ones(grid), atol=2e-3, rtol=0)
        if tags:
            assert not maps[[1, 3]].any()
        near = functional.interpolate(maps[None], size=size, mode="bilinear")[0].argmax(dim=0)
        assert (near == made.mask).float().mean() > 0.75  # but for cells on the edges of patches


def test_a_stream_can_be_left(colours):
    stream = Labeler(colours, "cpu").stream(picture(seed=seed)[0] for seed in range(10**9))
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("weakseg-read")]


@pytest.mark.parametrize(
    ("options", "about"),
    [
        ({"scales": ()}, "scales above 0"),
        ({"scales": (1, -1)}, "scales above 0"),
        ({"batch_size": 0}, "batch_size ≥ 1"),
        ({"long_side": 8}, "long_side ≥ 32"),
        ({"tile": 100}, "multiple of 32"),
    ],
)
def test_options_out_of_range(colours, options, about):
    with pytest.raises(ValueError, match=about):
        Labeler(colours, "cpu", **options)


@pytest.mark.parametrize("device", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there(colours, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: "):
        Labeler(colours, device)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none")
    network = Segmenter(3, backbone, SegmenterSettings(channels=32), class_names=CLASSES)
    network.eval().save_pretrained(tmp_path / "model")
    return tmp_path / "model", network


def test_a_models_folder_alone_labels(saved):
    folder, network = saved
    image = picture()[0]
    labeler = weakseg.Labeler.from_run(folder, "cpu", long_side=96)
    assert labeler.class_names == CLASSES
    expected = Labeler(network, "cpu", long_side=96).label(image)[0]
    assert torch.equal(labeler.label(image)[0], expected)


def test_a_run_has_its_model_once_it_is_finished(saved, tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    run.save_catalog(Catalog(CLASSES, ()), source="x")
    with pytest.raises(RunError, match="'segment' is not finished"):
        model_folder(run.path)
    stage = run.open_stage("segment", {"version": 1})
    saved[1].save_pretrained(stage.path / "model")
    stage.finish({})
    assert model_folder(run.path) == run.path / "segment" / "model"
    assert Labeler.from_run(run.path, "cpu").class_names == CLASSES


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(RunError, match="neither a run of weakseg nor a model's folder"):
        Labeler.from_run(tmp_path)
    with pytest.raises(RunError, match="neither a run of weakseg nor a model's folder"):
        Labeler.from_run(tmp_path / "nowhere")
