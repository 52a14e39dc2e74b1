"""What every backbone must do, on a dozen families of networks."""

import copy

import pytest
import timm
import torch
from torch import nn

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import Backbone, BackboneSettings
from weakseg.models.cpu.batch_norm import NormedConv2d, clamped_in_place, fold_batch_norms
from weakseg.types import ConfigError, WeightsError

FAMILIES = [
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "resnet18",
    "resnet50",
    "resnet26d",
    "resnext50_32x4d",
    "regnety_002",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "convnext_atto",
    "convnextv2_atto",
    "densenet121",
    "repvgg_a0",
    "rexnet_100",
]

# Grid of the last features of an image of 112×224 pixels, and what sides are best multiples of.
TRANSFORMERS = {
    "vit_tiny_patch16_224": ((7, 14), 32),
    "deit_tiny_distilled_patch16_224": ((7, 14), 32),
    "vit_small_patch14_dinov2": ((8, 16), 28),
    "vit_small_patch14_reg4_dinov2": ((8, 16), 28),
    "eva02_tiny_patch14_224": ((8, 16), 28),
    "vit_small_patch16_dinov3": ((7, 14), 32),
    "swin_tiny_patch4_window7_224": ((4, 7), 32),
}

PARTS = ["tf_efficientnet_lite0", "resnet18", "densenet121", "resnetv2_50"]


def random_norms(model):
    """Statistics and weights that a folding mistake would not survive."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            module.weight.data.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            module.bias.data.copy_(torch.randn(module.num_features, generator=generator) * 0.1)


@pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")  # even kernels, dilated
@pytest.mark.parametrize("name", FAMILIES)
def test_stages_widths_strides_and_outputs(name):
    backbone = Backbone(BackboneSettings(name=name, weights="none"))
    assert backbone.strides[1:] == (4, 8, 16, 16)
    assert not any(p.requires_grad for p in backbone.stem.parameters())
    assert not any(p.requires_grad for p in backbone.stages[0].parameters())
    assert all(p.requires_grad for p in backbone.stages[3].parameters())
    with torch.no_grad():
        features = backbone.eval()(torch.rand(2, 3, 96, 128))
    for feature, width, stride in zip(features, backbone.widths, backbone.strides, strict=True):
        assert feature.shape == (2, width, 96 // stride, 128 // stride)
    model = AMR(5, backbone.settings, AMRSettings()).eval()
    with torch.no_grad():
        output = model(torch.rand(1, 3, 96, 128))
    assert output.compensation.cams.shape == (1, 5, 6, 8)
    assert torch.isfinite(output.compensation.cams).all()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_features_are_those_of_timms_forward_intermediates(name, tmp_path):
    torch.manual_seed(0)
    sizes = {"strict_img_size": False} if "swin" in name else {"dynamic_img_size": True}
    whole = timm.create_model(name, pretrained=False, **sizes).eval()
    path = tmp_path / "weights.pth"
    torch.save(whole.state_dict(), path)
    backbone = Backbone(BackboneSettings(name=name, weights=str(path))).eval()
    grid, cell = TRANSFORMERS[name]
    assert backbone.cell == cell
    x = torch.rand(2, 3, 112, 224)
    depth = len(whole.layers) if "swin" in name else len(whole.blocks)
    ends = [round(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)]
    with torch.no_grad():
        last, expected = whole.forward_intermediates(x, indices=ends)
        got = backbone(x)
    for i in range(3):
        torch.testing.assert_close(got[i + 1], expected[i], rtol=1e-3, atol=1e-4)
    last = last.permute(0, 3, 1, 2) if last.ndim == 4 else last
    if last.ndim == 3:
        last = last[:, -grid[0] * grid[1] :].mT.reshape(2, -1, *grid)
    torch.testing.assert_close(got[-1], last, rtol=1e-3, atol=1e-4)
    assert got[-1].shape[-2:] == grid
    assert [feature.shape[1] for feature in got] == list(backbone.widths)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_both_branches_of_a_transformer(name):
    torch.manual_seed(0)
    model = AMR(3, BackboneSettings(name=name, weights="none"), AMRSettings(gated=False))
    theirs = timm.create_model(name, pretrained=False, num_classes=0)
    missing, unexpected = theirs.load_state_dict(model.backbone_state(), strict=False)
    assert unexpected == []
    assert all(key.startswith(("fc_norm", "head")) for key in missing)  # behind the last features
    again = AMR(3, BackboneSettings(name=name, weights="none"), AMRSettings(gated=False))
    again.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 96, 61)  # sizes that no patch fits
    with torch.no_grad():
        both, alone = model.eval()(images), again.eval()(images[:1])
    for branch, single in zip(both, alone, strict=True):
        assert torch.isfinite(branch.scores).all()
        torch.testing.assert_close(branch.scores[:1], single.scores, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(both.spotlight.scores, both.compensation.scores)
    assert model.details(images).shape[-2:] == both.spotlight.cams.shape[-2:]
    output = model.train()(images)
    (output.spotlight.logits.square() + output.compensation.logits.square()).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None or not parameter.requires_grad, key


def test_blocks_of_transformers_are_not_modulated_silently():
    settings = BackboneSettings(name="vit_tiny_patch16_224", weights="none")
    with pytest.raises(ConfigError, match="use placement: stage"):
        AMR(3, settings, AMRSettings(placement="block"))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_channels_are_one_setting(name, channels, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False)
    path = tmp_path / "rgb.pth"
    torch.save(theirs.state_dict(), path)
    settings = BackboneSettings(name=name, weights=str(path), in_chans=channels)
    model = AMR(3, settings, AMRSettings()).eval()
    first = next(v for v in Backbone(settings).state_dict().values() if v.ndim == 4)
    rgb = next(v for v in theirs.state_dict().values() if v.ndim == 4)
    assert first.shape[1] == channels
    # Weights are fitted, not drawn anew.
    assert torch.equal(first, timm.models.adapt_input_conv(channels, rgb))
    with torch.no_grad():
        assert model(torch.rand(1, channels, 64, 64)).spotlight.cams.shape == (1, 3, 4, 4)
    with pytest.raises(ValueError, match=f"expected images .B,{channels},H,W., got"):
        model(torch.rand(1, channels + 1, 64, 64))


@pytest.mark.parametrize("name", FAMILIES)
def test_both_branches_learn_in_bf16(name):
    model = AMR(3, BackboneSettings(name=name, weights="none"), AMRSettings()).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.rand(2, 3, 64, 64))
    assert output.spotlight.logits.dtype == torch.float32
    (output.spotlight.logits.square() + output.compensation.logits.square()).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", PARTS)
def test_parts_give_what_the_whole_network_gives(name, tmp_path):
    whole = timm.create_model(name, pretrained=False).eval()
    with torch.no_grad():
        random_norms(whole)
        path = tmp_path / "weights.pth"
        torch.save(whole.state_dict(), path)
        backbone = Backbone(BackboneSettings(name=name, weights=str(path), output_stride=32))
        x = torch.rand(2, 3, 64, 96)
        expected = whole.forward_features(x)
        got = backbone.eval()(x)[-1]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert any(isinstance(module, NormedConv2d) for module in backbone.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_state_is_timms_own(name):
    backbone = Backbone(BackboneSettings(name=name, weights="none"))
    with torch.no_grad():
        random_norms(backbone)
    theirs = timm.create_model(name, pretrained=False, num_classes=0)
    state = backbone.state_dict()
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert unexpected == []
    # What stands behind the last features, before the classifier, is not the backbone's.
    assert all(
        key.startswith(("head", "classifier", "fc", "conv_head", "norm_head")) for key in missing
    )
    assert all(torch.equal(theirs.state_dict()[key], value) for key, value in state.items())
    again = Backbone(backbone.settings)
    again.load_state_dict(state)
    assert list(again.state_dict()) == list(state)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(x)[-1], backbone.eval()(x)[-1])


@pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")
@pytest.mark.parametrize("placement", ["stage", "block"])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "convnext_atto"])
def test_both_branches_states_are_timms_own(name, placement):
    torch.manual_seed(0)
    model = AMR(3, BackboneSettings(name=name, weights="none"), AMRSettings(placement=placement))
    theirs = timm.create_model(name, pretrained=False, num_classes=0)
    state = model.state_dict()
    _, unexpected = theirs.load_state_dict(model.backbone_state(), strict=False)
    assert unexpected == []
    prefix = "compensation.backbone."
    names = {key.removeprefix(prefix) for key in state if key.startswith(prefix)}
    unknown = {key for key in names if key not in theirs.state_dict()}
    assert names - unknown  # its own stages
    assert all(".drop_path." in key for key in unknown)  # the modules inside blocks
    assert bool(unknown) == (placement == "block")
    nested = nn.ModuleDict({"model": model}).state_dict()  # as a checkpoint of a task has them
    other = AMR(3, BackboneSettings(name=name, weights="none"), AMRSettings(placement=placement))
    nn.ModuleDict({"model": other}).load_state_dict(nested)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(other.eval()(x), model.eval()(x), strict=True):
            assert torch.equal(a.cams, b.cams)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_dilation_is_that_of_timm(name, stride, tmp_path):
    dilated = timm.create_model(name, pretrained=False, output_stride=stride).eval()
    path = tmp_path / "weights.pth"
    torch.save(dilated.state_dict(), path)
    backbone = Backbone(BackboneSettings(name=name, weights=str(path), output_stride=stride)).eval()
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        expected, got = dilated.forward_features(x), backbone(x)[-1]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_dilation_refines_the_grid_and_changes_nothing_between():
    settings = {"name": "resnet18", "weights": "none"}
    torch.manual_seed(0)
    coarse = Backbone(BackboneSettings(**settings, output_stride=32)).eval()
    torch.manual_seed(0)
    fine = Backbone(BackboneSettings(**settings, output_stride=16)).eval()
    x = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(fine(x)[-1][..., ::2, ::2], coarse(x)[-1], rtol=1e-3, atol=1e-4)


def test_folding_keeps_outputs_and_gradients():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1, bias=False),
        nn.BatchNorm2d(4),
    ).eval()
    with torch.no_grad():
        random_norms(network)
    x = torch.rand(2, 3, 6, 6)
    loss = network(x).square().sum()
    loss.backward()
    expected = [network[0].weight.grad, network[1].weight.grad, network[4].bias.grad]
    network.zero_grad()
    fast = fold_batch_norms(network, x)
    again = fast(x).square().sum()
    again.backward()
    torch.testing.assert_close(again, loss)
    got = [fast[0].convolution.weight.grad, fast[0].norm.weight.grad, fast[3].norm.bias.grad]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert isinstance(fast[1], nn.Identity)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_clamped_convolution_is_that_and_relu6_with_and_without_gradient(groups, stride):
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 3, padding=1, stride=stride, groups=groups, bias=False)
    norm = nn.BatchNorm2d(4).eval()
    norm.weight.data.mul_(9)
    network = nn.Sequential(convolution, norm, nn.ReLU6())
    x = torch.randn(2, 4, 7, 9, requires_grad=True)
    truth = network(x)
    truth.square().sum().backward()
    wanted, x.grad = (x.grad, convolution.weight.grad.clone()), None
    clamped = NormedConv2d(copy.deepcopy(convolution), norm, clamped=True)
    clamped.convolution.weight.grad = None
    y = clamped(x)
    y.square().sum().backward()
    assert 0 < float((truth == 6).float().mean()) < 1
    torch.testing.assert_close(y, truth)
    torch.testing.assert_close(x.grad, wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(clamped.convolution.weight.grad, wanted[1], rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(clamped(x), truth)


def test_the_clamp_has_the_gradient_of_relu6():
    x = torch.tensor([-1.0, 0.0, 0.5, 6.0, 7.0], requires_grad=True)
    nn.functional.relu6(x).square().sum().backward()
    expected, x.grad = x.grad, None
    y = clamped_in_place(x * 1)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, expected)
    assert torch.equal(y, nn.functional.relu6(x))


def test_a_convolution_used_twice_is_not_folded():
    class Preactivation(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    network = Preactivation().eval()
    with torch.no_grad():
        random_norms(network)
        x = torch.rand(1, 3, 4, 4)
        expected = network(x)
        torch.testing.assert_close(fold_batch_norms(network, x)(x), expected)


def test_packaged_weights_are_the_default():
    torch.manual_seed(0)
    first = Backbone(BackboneSettings())
    torch.manual_seed(1)
    second = Backbone(BackboneSettings())
    assert first.mean == (0.5, 0.5, 0.5)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_packaged_weights_know_imagenet():
    # A photograph-like check without a photograph: the loaded classifier's features must differ
    # between inputs much more than random weights' do.
    x = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        features = Backbone(BackboneSettings()).eval()(x)[-1]
    assert torch.isfinite(features).all()
    assert (features > 0).any()


def test_unknown_model_names_its_neighbours():
    with pytest.raises(ConfigError, match=r"no model 'resnet5'.*near it: .*resnet5"):
        Backbone(BackboneSettings(name="resnet5"))


def test_a_network_without_stages_is_refused_with_a_remedy():
    with pytest.raises(ConfigError, match="cannot be cut into four stages; choose"):
        Backbone(BackboneSettings(name="mixer_s32_224", weights="none"))


def test_unreachable_hub_gives_a_remedy(monkeypatch):
    real = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to the hub")
        return real(name, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"cannot be fetched.*backbone.weights=FILE.*lite0"):
        Backbone(BackboneSettings(name="resnet18"))


@pytest.mark.parametrize("content", [b"", b"not a state"])
def test_a_broken_file_of_weights_is_named(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable state file"):
        Backbone(BackboneSettings(name="resnet18", weights=str(path)))


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet34", pretrained=False).state_dict(), path)
    with pytest.raises(WeightsError, match="does not fit resnet18"):
        Backbone(BackboneSettings(name="resnet18", weights=str(path)))


def test_a_missing_file_of_weights_is_named():
    with pytest.raises(WeightsError, match="there is no file"):
        Backbone(BackboneSettings(name="resnet18", weights="missing.safetensors"))
