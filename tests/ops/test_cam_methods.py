"""Every CAM method against its published formula, gradients by backward passes."""

import pytest
import timm
import torch
import torchcam.methods
from torch.nn import functional
from torch.testing import assert_close

from weakseg import api
from weakseg.activation_maps import branch_maps, class_activation_maps
from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.cam_methods import (
    CAM_METHODS,
    FORWARD_ONLY,
    OF_ATTENTION,
    cam,
    grad_cam_plus_plus,
    layer_cam,
)
from weakseg.ops.cams import CamSettings
from weakseg.ops.propagation import feature_affinity
from weakseg.types import ConfigError

MAPS = AMRSettings(supervision="maps", shared_stages=1)
VIT = "vit_tiny_patch16_224"


def gradients(features, weights, k):
    """Of the class's score, the mean of its 1×1 convolution, in every feature."""
    leaf = features.clone().requires_grad_()
    score = torch.einsum("c,bchw->bhw", weights[k], leaf).mean(dim=(1, 2)).sum()
    (found,) = torch.autograd.grad(score, leaf)
    return found


def slow_grad_cam(features, gradient):
    return (gradient.sum(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()


def slow_grad_cam_plus_plus(features, gradient):
    below = 2 * gradient**2 + gradient**3 * features.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(below == 0, torch.zeros_like(below), gradient**2 / below)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def slow_layer_cam(features, gradient):
    return (gradient.relu() * features).sum(dim=1).relu()


SLOW = {
    cam: slow_grad_cam,
    grad_cam_plus_plus: slow_grad_cam_plus_plus,
    layer_cam: slow_layer_cam,
}


@pytest.mark.parametrize("method", SLOW, ids=lambda method: method.__name__)
def test_methods_of_the_last_features_are_their_formulas(method):
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(2, 6, 4, 5, generator=generator) - 0.2
    weights = torch.randn(3, 6, generator=generator)
    weights[1, 2] = 0
    found = method(features, weights)
    assert found.shape == (2, 3, 4, 5)
    for k in range(3):
        expected = SLOW[method](features, gradients(features, weights, k))
        assert_close(found[:, k], expected, rtol=1e-4, atol=1e-6)
    assert float(found.amax()) > 0
    assert float(found.amin()) >= 0


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(1)
    model = AMR(3, BackboneSettings(name="resnet18", weights="none"), MAPS).eval()
    for branch in (model.spotlight, model.compensation):
        torch.nn.init.normal_(branch.head.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(1)
    return AMR(3, BackboneSettings(name=VIT, weights="none"), MAPS).eval()


def views(method, model, images, present=(True, True, True)):
    return branch_maps(
        model,
        [model.spotlight, model.compensation],
        model.standardized(images),
        method=method,
        present=torch.tensor(present),
    )


def test_region_cam_is_its_formula(resnet):
    images = torch.rand(2, 3, 64, 96)
    found = views("region-cam", resnet, images)[0]
    x = resnet.encode(images).detach().requires_grad_()
    reached = [x, *resnet.spotlight.stage_features(x)]
    size = reached[-1].shape[-2:]
    for k in range(3):
        score = resnet.spotlight.classify(reached[-1]).logits[:, k].sum()
        slopes = torch.autograd.grad(score, reached, retain_graph=True)
        parts = []
        for features, slope in zip(reached, slopes, strict=True):
            part = (slope.clamp(min=0) * features.detach()).sum(dim=1, keepdim=True).clamp(min=0)
            peak = part.amax(dim=(2, 3), keepdim=True)
            parts.append(functional.interpolate(part / peak, size, mode="bilinear", antialias=True))
        mean = torch.cat(parts, dim=1).mean(dim=1)
        for b in range(2):
            stacked = torch.cat(
                [
                    functional.normalize(
                        functional.interpolate(
                            f.detach()[b : b + 1], size, mode="bilinear", antialias=True
                        ),
                        dim=1,
                    )
                    for f in reached
                ],
                dim=1,
            )[0]
            expected = feature_affinity(stacked) @ mean[b].flatten()
            assert_close(found[b, k].flatten(), expected, rtol=1e-3, atol=1e-5)


def test_climbing_begins_with_cam_and_raises_the_class(resnet, monkeypatch):
    images = torch.rand(2, 3, 64, 64)
    monkeypatch.setattr("weakseg.ops.cam_methods.CLIMBING_STEPS", 1)
    assert_close(views("climbing", resnet, images), views("cam", resnet, images))
    monkeypatch.setattr("weakseg.ops.cam_methods.CLIMBING_PENALTY", 0.0)
    seen = []
    logits = lambda x: resnet.spotlight(resnet.encode_standardized(x)).logits  # noqa: E731
    hook = resnet.frozen.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach().clone()))
    monkeypatch.setattr("weakseg.ops.cam_methods.CLIMBING_STEPS", 6)
    maps = branch_maps(
        resnet,
        [resnet.spotlight],
        resnet.standardized(images),
        method="climbing",
        present=torch.tensor([False, True, False]),
    )[0]
    hook.remove()
    climbed = seen[1:]  # the first is for the shared features
    assert len(climbed) == 6
    goals = [float((2 * logits(x)[:, 1] - logits(x).sum(dim=1)).sum()) for x in climbed]
    assert goals == sorted(goals)
    assert goals[-1] > goals[0]
    moved = (climbed[1] - climbed[0]).abs().amax(dim=(1, 2, 3))
    assert_close(moved, torch.full((2,), 0.08), rtol=0.2, atol=0)
    assert_close(
        maps[:, 1], sum(resnet.spotlight(resnet.encode_standardized(x)).cams[:, 1] for x in climbed)
    )
    assert float(maps[:, [0, 2]].abs().max()) == 0


def attention_of_timm(model, images):
    """Each block's softmax, by hand from its own queries and keys."""
    rows, hooks = [], []

    def note(block, inputs):
        x = inputs[0]
        b, n, _ = x.shape
        q, k, _ = block.qkv(x).reshape(b, n, 3, block.num_heads, -1).permute(2, 0, 3, 1, 4)
        rows.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1))

    parts = (model.frozen, model.shared, model.spotlight)
    for part in parts:
        for module in part.modules():
            if hasattr(module, "qkv"):
                hooks.append(module.register_forward_pre_hook(note))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return rows


def test_attention_and_rollout_are_their_formulas(vit):
    images = torch.rand(2, 3, 64, 96)
    rows = attention_of_timm(vit, images)
    assert len(rows) == 12
    with torch.no_grad():
        cams = vit(images).spotlight.cams
    flat = cams.flatten(2)
    mean = torch.stack(rows).mean(dim=0)[:, 1:, 1:]
    expected = torch.stack([flat[b] @ mean[b].T for b in range(2)]).view_as(cams)
    assert_close(views("attention", vit, images)[0], expected, rtol=1e-3, atol=1e-6)
    flow = torch.eye(25).expand(2, 25, 25)
    for block in rows:
        flow = (block + torch.eye(25)) / 2 @ flow
    assert_close(flow.sum(dim=2), torch.ones(2, 25))
    expected = torch.einsum("bij,bki->bkj", flow[:, 1:, 1:], flat).view_as(cams)
    assert_close(views("rollout", vit, images)[0], expected, rtol=1e-3, atol=1e-6)
    assert all(m.fused_attn for m in vit.modules() if hasattr(m, "fused_attn"))


@pytest.mark.parametrize("method", ["attention", "rollout"])
@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_methods_of_attention_refuse_networks_without(method, name):
    model = AMR(2, BackboneSettings(name=name, weights="none"), MAPS).eval()
    with pytest.raises(ConfigError, match=r"attention over the whole image; choose a ViT"):
        class_activation_maps(
            model, torch.rand(1, 3, 64, 64), settings=CamSettings(method=method, scales=(1.0,))
        )


@pytest.mark.parametrize("method", sorted(OF_ATTENTION))
def test_a_run_refuses_them_before_it_trains(method, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match=f"{method} needs attention .* resnet18 has not"):
        api.run(
            tmp_path / "data",
            tmp_path / "run",
            overrides=("backbone.name=resnet18", f"cams.method={method}"),
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_in_both_branches_whatever_the_batch(method, resnet, vit, monkeypatch):
    monkeypatch.setattr("weakseg.ops.cam_methods.CLIMBING_STEPS", 3)
    model = vit if method in ("attention", "rollout") else resnet
    images = torch.rand(3, 3, 64, 64)
    settings = CamSettings(method=method, scales=(1.0, 1.5))
    tags = [{0}, {1, 2}, set()]
    together = class_activation_maps(model, images, tags, settings)
    assert together.keys() == {"spotlight", "compensation", "weighted"}
    for name, maps in together.items():
        assert maps.shape == (3, 3, 16, 16)
        assert torch.isfinite(maps).all()
        assert 0 <= float(maps.min()) <= float(maps.max()) <= 1
        assert float(maps[0, 0].max()) == pytest.approx(1, abs=1e-5)
        assert float(maps[0, 1:].max()) == float(maps[1, 0].max()) == float(maps[2].max()) == 0
        alone = class_activation_maps(model, images[1:2], tags[1:2], settings)[name]
        assert_close(maps[1:2], alone, rtol=1e-2, atol=2e-3)
    again = class_activation_maps(model, images, tags, settings)
    assert all(torch.equal(together[name], again[name]) for name in together)
    assert not any(p.grad is not None for p in model.parameters())


def test_methods_differ():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, 8, 6, 6, generator=generator)
    weights = torch.randn(1, 8, generator=generator)
    unit = [maps / maps.amax() for maps in (method(features, weights) for method in SLOW)]
    for i, one in enumerate(unit):
        assert all(not torch.allclose(one, other, atol=1e-2) for other in unit[:i])
    assert CAM_METHODS.keys() > FORWARD_ONLY


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cam", torchcam.methods.CAM),
        ("grad-cam", torchcam.methods.GradCAM),
        # Not GradCAMpp: in torchcam 0.5 the division of its α goes to a copy and is lost.
        ("layer-cam", torchcam.methods.LayerCAM),
    ],
)
def test_maps_are_those_of_torchcam(name, theirs):
    torch.manual_seed(0)
    classifier = timm.create_model("resnet18", num_classes=4).eval()
    torch.nn.init.normal_(classifier.fc.weight, std=0.1)
    model = AMR.from_classifier(classifier, classes=[0, 1, 2, 3]).eval()
    images = torch.rand(1, 3, 64, 96)
    mine = views(name, model, images, (True,) * 4)[0][0]
    options = {"fc_layer": "fc"} if name == "cam" else {}
    with theirs(classifier, target_layer="layer4", **options) as extractor:
        for k in range(4):
            scores = classifier(model.standardized(images).requires_grad_())
            (found,) = extractor(k, scores, normalized=False)
            unit, found = (x / x.max().clamp_min(1e-12) for x in (mine[k], found[0].relu()))
            assert_close(unit, found.detach(), rtol=1e-3, atol=1e-4)
    assert float(mine.amax(dim=(1, 2)).gt(0).sum()) >= 2


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ValueError, match="expected one of cam, grad-cam"):
        CamSettings(method="gradcam")
