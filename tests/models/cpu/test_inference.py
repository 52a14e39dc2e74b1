import copy

import pytest
import torch
from torch import nn

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.models.cpu.batch_norm import NormedConv2d
from weakseg.models.cpu.inference import InferenceConv2d, for_inference, mean_inputs


@pytest.fixture(params=["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
def network(request):
    torch.manual_seed(0)
    settings = BackboneSettings(name=request.param, weights="none")
    return AMR(3, settings, AMRSettings()).eval()


def scores(output):
    return torch.stack([branch.logits for branch in output])


@torch.no_grad()
def test_a_fixed_network_says_the_same(network):
    images = torch.rand(2, 3, 71, 96)
    before = copy.deepcopy(network.state_dict())
    still = for_inference(network)
    kinds = {type(part) for part in still.modules()}
    assert InferenceConv2d in kinds
    assert NormedConv2d not in kinds
    assert NormedConv2d in {type(part) for part in network.modules()}
    for found, expected in zip(still(images), network(images), strict=True):
        torch.testing.assert_close(found.cams, expected.cams, rtol=1e-4, atol=1e-5)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_convolution_is_corrected_by_its_own_inputs(network):
    images = torch.rand(2, 3, 64, 64)
    means = mean_inputs(network, lambda: network(images))
    names = {name for name, part in network.named_modules() if isinstance(part, NormedConv2d)}
    assert means.keys() == names
    first = next(
        name for name, _ in network.named_parameters() if name.endswith("convolution.weight")
    )
    expected = network.standardized(images).mean(dim=(0, 2, 3))
    torch.testing.assert_close(means[first.removesuffix(".convolution.weight")], expected)
    assert not network.frozen[0]._forward_pre_hooks
    plain, corrected = (
        for_inference(network, torch.bfloat16),
        for_inference(network, torch.bfloat16, means),
    )
    for name, part in corrected.named_modules():
        if (
            isinstance(part, InferenceConv2d)
            and part.weight.shape[-1] == 1
            and part.own.groups == 1
        ):
            other = plain.get_submodule(name)
            weight, _ = network.get_submodule(name).folded_weights()
            shift = (weight - other.weight.float()).flatten(1) @ means[name]
            torch.testing.assert_close(part.bias - other.bias, shift, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 8])
@torch.no_grad()
def test_the_correction_takes_the_mean_error_away(groups):
    torch.manual_seed(0)
    convolution = nn.Conv2d(8, 16, 3, groups=groups, bias=False)
    norm = nn.BatchNorm2d(16).eval()
    block = nn.Sequential(NormedConv2d(convolution, norm))
    x = torch.rand(4, 8, 30, 30) + 1
    means = mean_inputs(block, lambda: block(x))
    errors = {}
    for name, given in (("plain", None), ("corrected", means)):
        still = for_inference(block, torch.bfloat16, given)
        y = nn.functional.conv2d(
            x, still[0].weight.float(), still[0].bias, groups=groups
        )  # in float32: the weights' rounding alone
        errors[name] = (y - block(x)).mean(dim=(0, 2, 3)).abs().max()
        assert still(x).dtype == torch.bfloat16
        torch.testing.assert_close(still(x).float(), block(x), rtol=0.05, atol=0.05)
    assert errors["corrected"] < errors["plain"] / 5


@torch.no_grad()
def test_one_sided_padding_and_dilation_are_kept():
    torch.manual_seed(0)
    settings = BackboneSettings(name="tf_efficientnet_lite0", weights="none", output_stride=8)
    network = AMR(2, settings, AMRSettings()).eval()
    images = torch.rand(1, 3, 97, 61)
    found, expected = for_inference(network)(images), network(images)
    torch.testing.assert_close(scores(found), scores(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_without_the_fused_convolution_it_is_the_same(monkeypatch, kind):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6).eval()
    norm.weight.mul_(4)
    block = NormedConv2d(nn.Conv2d(4, 6, 3, padding=1, bias=False), norm, clamped=True)
    still = for_inference(nn.Sequential(block), kind)
    x = torch.randn(1, 4, 8, 8)
    expected = still(x)
    monkeypatch.setattr("weakseg.models.cpu.batch_norm._fusible", lambda _: False)
    found = still(x)
    assert found.dtype == kind
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
