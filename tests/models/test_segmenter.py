import json

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import Backbone, BackboneSettings
from weakseg.models.cpu.depthwise import DepthwiseConv2d
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.types import ConfigError, WeightsError

BACKBONE = BackboneSettings(name="resnet18", weights="none")
SMALL = SegmenterSettings(channels=32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Segmenter(2, BACKBONE, SMALL, class_names=("cat", "Löwe"), long_side=320).eval()


def test_bytes_and_fractions_give_the_same(model):
    images = torch.randint(0, 256, (2, 3, 40, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(images / 255))
    with pytest.raises(ValueError, match=r"expected images \[B,3,H,W\], got \(3, 40, 64\)"):
        model(images[0])


def test_an_image_is_continued_by_its_rim(model):
    image = torch.rand(1, 3, 32, 32)
    image[..., 5:] = image[..., 4:5]
    with torch.no_grad():
        torch.testing.assert_close(model(image[..., :5]), model(image)[..., :5])


@torch.no_grad()
def test_coarse_logits_are_those_before_they_are_enlarged(model):
    cell = model.cell
    image = torch.rand(1, 3, 2 * cell, 3 * cell)
    coarse = model.coarse(image)
    assert coarse.shape[2] < 2 * cell
    full = torch.nn.functional.interpolate(coarse, image.shape[2:], mode="bilinear")
    torch.testing.assert_close(full, model(image))
    with pytest.raises(ValueError, match=f"multiples of {cell}"):
        model.coarse(image[..., 1:])


def test_images_are_normalized_as_the_backbone_expects(model):
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean, std = torch.tensor(model.backbone.mean), torch.tensor(model.backbone.std)
    with torch.no_grad():
        model((mean + 2 * std).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    hook.remove()
    torch.testing.assert_close(seen[0], torch.full((1, 3, 32, 32), 2.0))


def test_tensorflows_padding_is_the_same_where_sides_are_even():
    backbone = BackboneSettings(weights="none")
    model, plain = Segmenter(2, backbone, SMALL, load=False).eval(), Backbone(backbone).eval()
    plain.load_state_dict(model.backbone.state_dict())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, expected in zip(model.backbone(images), plain(images), strict=True):
            torch.testing.assert_close(ours, expected)


def test_names_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="expected 3 names of classes, got 1"):
        Segmenter(3, BACKBONE, SMALL, class_names=("cat",))
    assert Segmenter(2, BACKBONE, SMALL).class_names == ("class 1", "class 2")


def test_an_unknown_decoder_lists_the_known():
    with pytest.raises(ValueError, match=r"unknown decoder 'unet3'; known: deeplabv2, .*upernet"):
        SegmenterSettings(decoder="unet3")


@pytest.mark.parametrize("placement", ["stage", "block"])
@pytest.mark.parametrize(("frozen", "shared"), [(0, 0), (1, 2), (2, 1)])
def test_the_backbone_starts_from_the_spotlights(frozen, shared, placement):
    backbone = BACKBONE.model_copy(update={"freeze_stages": frozen})
    amr = AMR(2, backbone, AMRSettings(shared_stages=shared, placement=placement)).eval()
    with torch.no_grad():
        for parameter in amr.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    model = Segmenter(2, backbone, SMALL).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        x = (images - model.mean) / model.std
        expected = amr.spotlight.features(amr.encode(images))
        assert not torch.allclose(model.backbone(x)[-1], expected)
        model.start_from(amr)
        torch.testing.assert_close(model.backbone(x)[-1], expected)


def test_the_state_of_classification_is_that_of_a_backbone():
    amr = AMR(2, BACKBONE)
    assert amr.backbone_state().keys() == Backbone(BACKBONE).state_dict().keys()


def test_another_networks_weights_are_refused():
    amr = AMR(2, BackboneSettings(name="resnet34", weights="none"))
    with pytest.raises(ConfigError, match=r"\(resnet18\) is not that of classification \(resnet34"):
        Segmenter(2, BACKBONE, SMALL).start_from(amr)


def test_only_the_decoders_norms_learn():
    model = Segmenter(2, BACKBONE, SMALL).train()
    norms = {
        name: part.training
        for name, part in model.named_modules()
        if isinstance(part, nn.BatchNorm2d)
    }
    assert any(name.startswith("decoder") for name in norms)
    assert all(training == name.startswith("decoder") for name, training in norms.items())


def test_depthwise_convolutions_of_decoders_have_fast_gradients(model):
    assert sum(isinstance(part, DepthwiseConv2d) for part in model.decoder.modules()) == 5


def test_what_is_saved_is_loaded(model, tmp_path):
    folder = tmp_path / "a" / "model"
    model.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    again = Segmenter.from_pretrained(folder)
    assert not again.training
    assert (again.classes, again.class_names, again.long_side) == (2, ("cat", "Löwe"), 320)
    assert (again.settings, again.backbone_settings) == (model.settings, model.backbone_settings)
    images = torch.rand(1, 3, 50, 40)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_the_folder_does_not_tell_where_weights_were(tmp_path):
    model = Segmenter(
        1, BACKBONE.model_copy(update={"weights": "secret/ada.pth"}), SMALL, load=False
    )
    model.save_pretrained(tmp_path)
    assert "ada" not in (tmp_path / "config.json").read_text()


def test_folders_that_are_no_network_are_named(model, tmp_path):
    with pytest.raises(WeightsError, match="there is no such folder"):
        Segmenter.from_pretrained(tmp_path / "absent")
    with pytest.raises(WeightsError, match=r"cannot be loaded .*config.json"):
        Segmenter.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for damage, message in [
        ({**config, "format": "x"}, "its format is 'x'"),
        ({**config, "classes": ["cat"]}, "is damaged, or made by another version"),
        ({key: config[key] for key in config if key != "network"}, "KeyError: 'network'"),
        ([], "its format is None"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(damage))
        with pytest.raises(WeightsError, match=message):
            Segmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Segmenter.from_pretrained(tmp_path)


def test_a_folder_half_written_is_no_network(model, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    model.save_pretrained(tmp_path)
    monkeypatch.setattr("weakseg.models.hub.save_file", full)
    with pytest.raises(WeightsError, match=r"cannot write .*: No space left on the disk"):
        model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Segmenter.from_pretrained(tmp_path)


def test_networks_come_from_and_go_to_a_hub(model, tmp_path, monkeypatch):
    shelf = tmp_path / "hub"

    class Hub:
        def create_repo(self, repo, *, private, exist_ok):
            assert (repo, private, exist_ok) == ("ada/cats", True, True)

        def upload_folder(self, *, repo_id, folder_path):
            Segmenter.from_pretrained(folder_path).save_pretrained(shelf)
            return type("Commit", (), {"commit_url": f"https://hub/{repo_id}"})()

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert model.push_to_hub("ada/cats", private=True) == "https://hub/ada/cats"

    def download(repo, *, revision, allow_patterns):
        assert (repo, revision) == ("ada/cats", "v1")
        assert set(allow_patterns) == {"config.json", "model.safetensors"}
        return str(shelf)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert Segmenter.from_pretrained("ada/cats", revision="v1").class_names == ("cat", "Löwe")


def test_a_hub_out_of_reach_is_named(model, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", offline)
    with pytest.raises(WeightsError, match=r"ada/cats: there is no such folder.*no route"):
        Segmenter.from_pretrained("ada/cats")
    with pytest.raises(WeightsError, match=r"cannot publish to 'ada/cats'.*hf auth login"):
        model.push_to_hub("ada/cats")


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        ("deeplabv3plus", "tf_efficientnet_lite0"),
        ("deeplabv2", "resnet18"),
        ("unet", "resnet18"),
        ("fpn", "resnet18"),
    ],
)
def test_it_can_be_exported_for_any_size(decoder, name):
    backbone = BackboneSettings(name=name, weights="none")
    model = Segmenter(2, backbone, SegmenterSettings(decoder=decoder, channels=32)).eval()
    dim = torch.export.Dim
    shapes = {"images": {0: dim("batch"), 2: dim("height", min=33), 3: dim("width", min=33)}}
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.rand(2, 3, 70, 90),), dynamic_shapes=shapes
        ).module()
        for size in ((1, 3, 64, 64), (3, 3, 65, 131)):
            images = torch.rand(*size)
            torch.testing.assert_close(program(images), model(images), rtol=1e-3, atol=1e-5)


def test_a_saved_network_is_timms_trunk_and_smps_decoder(tmp_path):
    model = Segmenter(2, BackboneSettings(name="resnet18", weights="none"))
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    parts = {
        part: {
            name.removeprefix(f"{part}."): value
            for name, value in state.items()
            if name.startswith(f"{part}.")
        }
        for part in ("backbone", "decoder", "segmentation_head")
    }
    assert sum(map(len, parts.values())) == len(state)
    trunk = timm.create_model("resnet18", pretrained=False, num_classes=0)
    assert trunk.load_state_dict(parts["backbone"]) is not None
    theirs = smp.DeepLabV3Plus("tu-resnet18", encoder_weights=None, classes=3)
    theirs.decoder.load_state_dict(parts["decoder"])
    theirs.segmentation_head.load_state_dict(parts["segmentation_head"])
