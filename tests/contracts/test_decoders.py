"""What every decoder must do."""

import pytest
import torch

from weakseg.models.backbones import BackboneSettings
from weakseg.models.decoders import DECODERS, ParallelConvolutions
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.types import ConfigError


def segmenter(decoder, name="resnet18", stride=16, **settings):
    torch.manual_seed(0)
    backbone = BackboneSettings(name=name, weights="none", output_stride=stride)
    return Segmenter(3, backbone, SegmenterSettings(decoder=decoder, channels=32, **settings))


@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_have_the_size_of_the_image(decoder):
    model = segmenter(decoder).eval()
    with torch.no_grad():
        for size in ((1, 1), (33, 70), (97, 31)):
            logits = model(torch.rand(2, 3, *size))
            assert logits.shape == (2, 4, *size)
            assert torch.isfinite(logits).all()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_gradients_reach_every_parameter_that_learns(decoder, half):
    model = segmenter(decoder, dropout=0.0).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(torch.rand(2, 3, 64, 64))
    logits.square().sum().backward()
    # A bias that only shifts what a norm takes away again has none.
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert without == []


@pytest.mark.parametrize("decoder", DECODERS)
def test_batch_mates_change_nothing(decoder):
    model = segmenter(decoder).eval()
    images = torch.rand(3, 3, 64, 96)
    with torch.no_grad():
        together, alone = model(images)[1:2], model(images[1:2])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_are_shifted_label_by_label(decoder):
    model = segmenter(decoder).eval()
    image, shift = torch.rand(1, 3, 64, 64), torch.tensor([0.5, -1.0, 0.0, 2.0])
    with torch.no_grad():
        before = model(image)
        model.shift_logits(shift)
        torch.testing.assert_close(model(image), before + shift[:, None, None])
    with pytest.raises(ValueError, match="expected 4 numbers"):
        model.shift_logits(shift[1:])


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_same_image_gives_the_same_logits(decoder):
    model = segmenter(decoder, dropout=0.5).eval()
    image = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(model(image), model(image))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "regnety_002"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_other_families_of_backbones(decoder, name):
    if name == "convnext_atto" and DECODERS[decoder].pyramid:
        with pytest.raises(ConfigError, match=r"needs features at strides.*use unet, fpn or"):
            segmenter(decoder, name)
        return
    with torch.no_grad():
        assert segmenter(decoder, name).eval()(torch.rand(1, 3, 50, 64)).shape == (1, 4, 50, 64)


@pytest.mark.parametrize("decoder", [name for name, row in DECODERS.items() if row.stride is None])
@pytest.mark.parametrize("stride", [8, 32])
def test_decoders_that_take_any_stride(decoder, stride):
    model = segmenter(decoder, stride=stride).eval()
    assert model.backbone.strides[-1] == stride
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)


def test_the_rates_of_deeplab_v2():
    head = ParallelConvolutions(8, 5, stride=8)
    assert [part.dilation for part in head.convolutions] == [(r, r) for r in (6, 12, 18, 24)]
    x = torch.rand(2, 8, 9, 7)
    torch.testing.assert_close(head(x), sum(part(x) for part in head.convolutions))
    assert [p.dilation[0] for p in ParallelConvolutions(8, 5, 16).convolutions] == [3, 6, 9, 12]
