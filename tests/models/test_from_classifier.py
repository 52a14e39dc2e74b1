"""Classifiers of one's own, of timm or torchvision, as the spotlight branch."""

import copy

import pytest
import timm
import torch
import torchvision

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.types import ConfigError

SMALL = {"num_classes": 5}
CLASSIFIERS = {
    "torchvision resnet": lambda: torchvision.models.resnet18(**SMALL),
    "torchvision mobilenet": lambda: torchvision.models.mobilenet_v2(**SMALL),
    "torchvision efficientnet": lambda: torchvision.models.efficientnet_b0(**SMALL),
    "timm resnet": lambda: timm.create_model("resnet18", **SMALL),
    "timm lite": lambda: timm.create_model("tf_efficientnet_lite0", **SMALL),
    "timm swin": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", strict_img_size=False, **SMALL
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_spotlight_is_the_classifier(name):
    torch.manual_seed(0)
    classifier = CLASSIFIERS[name]().eval()
    before = copy.deepcopy(classifier.state_dict())
    linear = [part for part in classifier.modules() if isinstance(part, torch.nn.Linear)][-1]
    torch.nn.init.normal_(linear.weight)
    torch.nn.init.normal_(linear.bias)
    model = AMR.from_classifier(classifier, classes=[3, 1]).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = classifier((images - model.mean) / model.std)[:, [3, 1]]
        output = model(images)
    scale = float(expected.abs().max())
    torch.testing.assert_close(output.spotlight.logits, expected, rtol=1e-3, atol=1e-3 * scale)
    # The bias is the same everywhere: it is no part of the maps.
    again = output.spotlight.scores.mean(dim=(2, 3)) + linear.bias[[3, 1]]
    torch.testing.assert_close(again, output.spotlight.logits)
    torch.testing.assert_close(output.compensation.scores, output.spotlight.scores)
    # It was copied: learning moves nothing of the classifier's own.
    model.train()(images).spotlight.logits.sum().backward()
    assert all(p.grad is None for p in classifier.parameters() if p is not linear.weight)
    for key, value in before.items():
        if not key.startswith(("fc", "classifier", "head")):
            assert torch.equal(classifier.state_dict()[key], value)
    other = AMR.from_classifier(classifier, classes=[0, 2])
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(images).spotlight.logits, output.spotlight.logits)


def test_a_finer_grid_is_the_same_network():
    torch.manual_seed(0)
    classifier = torchvision.models.resnet18(**SMALL)
    fine = AMR.from_classifier(classifier, backbone=BackboneSettings(output_stride=8)).eval()
    coarse = AMR.from_classifier(classifier).eval()
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        cams = fine(images).spotlight.scores[..., ::4, ::4]
        torch.testing.assert_close(cams, coarse(images).spotlight.scores, rtol=1e-3, atol=1e-4)


def test_a_vits_head_is_applied_to_patch_tokens():
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", **SMALL).eval()  # not made for any size
    torch.nn.init.normal_(vit.head.weight)
    model = AMR.from_classifier(vit, settings=AMRSettings(compensation=False)).eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        tokens = vit.forward_features((images - model.mean) / model.std)[:, 1:]
        expected = (tokens @ vit.head.weight.T).mT.reshape(1, 5, 14, 14)
        found = model(images).spotlight.scores
        assert model(torch.rand(1, 3, 64, 96)).spotlight.cams.shape == (1, 5, 4, 6)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.densenet121(**SMALL),  # a rectifier no module knows of
        lambda: timm.create_model("convnext_atto", **SMALL),  # a norm behind the mean
        lambda: timm.create_model("mobilenetv3_small_050", **SMALL),  # a layer behind the mean
        lambda: torchvision.models.vgg11(**SMALL),
    ],
    ids=["densenet", "convnext", "mobilenetv3", "vgg"],
)
def test_classifiers_without_class_activation_maps_are_refused(make):
    with pytest.raises(ConfigError, match="does not classify by a linear layer behind the mean"):
        AMR.from_classifier(make())


def test_outputs_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"expected classes in 0\.\.4"):
        AMR.from_classifier(torchvision.models.resnet18(**SMALL), classes=[5])


@pytest.mark.parametrize("given", ["name", "network"])
def test_a_backbone_is_given_by_name_or_itself(given, monkeypatch):
    network = timm.create_model("resnet18")
    if given == "name":
        real = timm.create_model
        monkeypatch.setattr(
            timm, "create_model", lambda name, pretrained, **options: real(name, **options)
        )
        assert AMR(3, "resnet18").widths == (64, 64, 128, 256, 512)
        return
    model = AMR(3, network)
    torch.testing.assert_close(
        model.backbone_state()["layer3.0.conv1.weight"], network.layer3[0].conv1.weight
    )
    assert model.strides[-1] == 16
    network.layer3[0].conv1.weight.data.zero_()
    assert model.backbone_state()["layer3.0.conv1.weight"].abs().sum() > 0
