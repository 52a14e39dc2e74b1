import os
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.resnet import Bottleneck

from weakseg.models.amr import AMR, AMRSettings, AttentionModulation
from weakseg.models.backbones import BackboneSettings
from weakseg.models.cpu.batch_norm import NormedConv2d
from weakseg.training.recalibrate_task import RecalibrateSettings, RecalibrateTask

GOLDEN = Path(os.environ.get("WEAKSEG_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
KEYS = {
    "squeeze.weight": "ChannelAMM__mlp__1__weight",
    "squeeze.bias": "ChannelAMM__mlp__1__bias",
    "expand.weight": "ChannelAMM__mlp__3__weight",
    "expand.bias": "ChannelAMM__mlp__3__bias",
    "conv.weight": "SpatialAMM__spatial__conv__weight",
    "norm.weight": "SpatialAMM__spatial__bn__weight",
    "norm.bias": "SpatialAMM__spatial__bn__bias",
    "norm.running_mean": "SpatialAMM__spatial__bn__running_mean",
    "norm.running_var": "SpatialAMM__spatial__bn__running_var",
    "norm.num_batches_tracked": "SpatialAMM__spatial__bn__num_batches_tracked",
}


def golden_files():
    files = sorted(GOLDEN.glob("amm_*.npz"))
    reason = pytest.mark.skip(reason=f"no amm_*.npz in {GOLDEN}; set WEAKSEG_GOLDEN")
    return files or [pytest.param(None, marks=reason)]


@pytest.mark.parametrize("path", golden_files(), ids=lambda p: p.stem if p else "absent")
@pytest.mark.parametrize("statistics", ["per_batch", "per_sample"])
def test_amm_golden(path, statistics):
    case = np.load(path)
    x, expected = torch.from_numpy(case["x"]), torch.from_numpy(case["y"])
    channels, hidden = x.shape[1], case[KEYS["squeeze.weight"]].shape[0]
    amm = AttentionModulation(channels, channels // hidden, "density", statistics).eval()
    amm.load_state_dict({name: torch.from_numpy(case[key]) for name, key in KEYS.items()})
    with torch.no_grad():
        y = amm(x)
    close = torch.allclose(y, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert close == (statistics == "per_batch" or len(x) == 1)


@pytest.mark.parametrize("amplitude", ["density", "unit", "mean"])
def test_modulation_is_the_gaussian_of_its_formula(amplitude):
    torch.manual_seed(0)
    amm = AttentionModulation(8, 2, amplitude).eval()
    x = torch.rand(2, 8, 5, 6)
    z = amm.expand(torch.relu(amm.squeeze(x.mean((2, 3)))))
    slow = torch.empty_like(x)
    for b in range(2):

        def gauss(values):
            mean, deviation = values.mean(), values.std()
            g = torch.exp(-((values - mean) ** 2) / (2 * deviation**2))
            if amplitude == "density":
                return g / (np.sqrt(2 * np.pi) * deviation)
            return g / g.mean() if amplitude == "mean" else g

        channel = x[b] * gauss(z[b])[:, None, None]
        pooled = torch.stack([channel.max(0).values, channel.mean(0)])[None]
        slow[b] = channel * gauss(amm.norm(amm.conv(pooled))[0])
    torch.testing.assert_close(amm(x), slow, rtol=1e-4, atol=1e-6)


def test_unit_amplitude_never_raises_and_mean_amplitude_keeps_scale():
    torch.manual_seed(0)
    x = torch.rand(3, 16, 9, 7)
    assert (AttentionModulation(16, 4, "unit")(x) <= x).all()
    y = AttentionModulation(16, 4, "mean")(torch.ones(3, 16, 9, 7))
    assert 0.8 < float(y.mean().detach()) < 1.2


def test_modulation_survives_one_position_and_one_channel():
    assert torch.isfinite(AttentionModulation(1).eval()(torch.rand(1, 1, 1, 1))).all()


def test_modulation_names_the_shape_it_wants():
    with pytest.raises(ValueError, match=r"expected features \[B,8,h,w\], got \(2, 4, 3, 3\)"):
        AttentionModulation(8)(torch.rand(2, 4, 3, 3))


def test_modulation_fits_the_attention_slot_of_timm():
    block = Bottleneck(64, 16, attn_layer=AttentionModulation)
    assert isinstance(block.se, AttentionModulation)
    assert block(torch.rand(2, 64, 8, 8)).shape == (2, 64, 8, 8)


def test_block_placement_is_the_attention_slot():
    backbone = BackboneSettings(name="resnet50", weights="none", output_stride=32)
    model = AMR(2, backbone, AMRSettings(placement="block", shared_stages=1))
    blocks = [m for m in model.compensation.modules() if isinstance(m, Bottleneck)]
    assert len(blocks) == 4 + 6 + 3
    assert all(isinstance(block.drop_path, AttentionModulation) for block in blocks)
    block = blocks[0].eval()
    x = torch.rand(1, 256, 8, 8)
    amm, block.drop_path = block.drop_path, None
    block.se = amm
    in_slot = block(x)
    block.se, block.drop_path = None, amm
    torch.testing.assert_close(block(x), in_slot)
    assert not any(isinstance(m, AttentionModulation) for m in model.spotlight.modules())


@pytest.fixture(scope="module", params=["stage", "block"])
def model(request):
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none")
    model = AMR(3, backbone, AMRSettings(placement=request.param))
    for module in model.modules():
        if isinstance(module, NormedConv2d):
            # timm starts the last norm of a block at 0: nothing would flow through the block.
            torch.nn.init.uniform_(module.norm.weight, 0.5, 1.0)
        if isinstance(module, AttentionModulation):
            torch.nn.init.constant_(module.strength, 0.7)  # it starts at 0
    return model


def test_shared_stages_are_computed_once_and_nothing_else_is_shared(model):
    spotlight = {id(p) for p in model.spotlight.parameters()}
    compensation = {id(p) for p in model.compensation.parameters()}
    assert not spotlight & compensation
    assert not any(p.requires_grad for p in model.frozen.parameters())
    assert all(p.requires_grad for p in model.shared.parameters() if p.ndim == 4)
    calls = []
    parts = (model.frozen, model.shared)
    hooks = [part.register_forward_hook(lambda part, *_: calls.append(part)) for part in parts]
    model(torch.rand(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert calls == [*parts]


@pytest.mark.parametrize(("frozen", "shared"), [(0, 0), (1, 0), (1, 1), (1, 2), (2, 1), (0, 3)])
def test_frozen_stages_are_shared_in_any_case(frozen, shared):
    backbone = BackboneSettings(name="resnet18", weights="none", freeze_stages=frozen)
    model = AMR(3, backbone, AMRSettings(shared_stages=shared, supervision="maps"))
    assert len(model.frozen) == 1 + frozen
    assert len(model.shared) == max(frozen, shared) - frozen
    assert len(model.compensation.modulation) == 4 - max(frozen, shared)
    task = RecalibrateTask(model, RecalibrateSettings())
    groups = [g["params"] for g in task.parameter_groups()]
    learning = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(id(p) for group in groups for p in group) == sorted(learning)


def test_every_trainable_parameter_receives_gradient(model):
    model.train()
    output = model(torch.rand(2, 3, 96, 96))
    loss = sum(branch.logits.square().sum() + branch.cams.sum() for branch in output)
    model.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_batch_mates_never_change_an_output(model):
    model.eval()
    images = torch.rand(3, 3, 96, 80)
    with torch.no_grad():
        together, alone, again = model(images), model(images[1:2]), model(images[1:2])
    for a, b, c in zip(together, alone, again, strict=True):
        torch.testing.assert_close(a.cams[1:2], b.cams, rtol=1e-4, atol=1e-6)
        assert torch.equal(b.cams, c.cams)


def test_statistics_over_the_batch_do_let_batch_mates_in():
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none")
    model = AMR(3, backbone, AMRSettings(statistics="per_batch", gated=False)).eval()
    images = torch.rand(2, 3, 64, 64) * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1)
    with torch.no_grad():
        together, alone = model(images), model(images[:1])
    assert not torch.allclose(together.compensation.logits[:1], alone.compensation.logits)


def test_logits_are_the_mean_of_the_unrectified_maps(model):
    with torch.no_grad():
        features = model.spotlight.features(model.encode(torch.rand(1, 3, 64, 64)))
        output = model.spotlight.classify(features)
    weight = model.spotlight.head.weight[:, :, 0, 0]
    scores = torch.einsum("kc,bchw->bkhw", weight, features)
    torch.testing.assert_close(output.logits, scores.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.cams, scores.relu(), rtol=1e-4, atol=1e-5)


def test_bytes_and_fractions_give_the_same(model):
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(model(images).spotlight, model(images / 255).spotlight)


def test_training_keeps_pretrained_statistics_and_moves_the_modulations_own():
    # A preactivation network keeps norms that cannot be folded.
    torch.manual_seed(0)
    model = AMR(2, BackboneSettings(name="resnetv2_50", weights="none", output_stride=32)).train()
    model(torch.rand(2, 3, 64, 64))
    moved = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d) and int(module.num_batches_tracked) > 0
    }
    own = {
        f"{name}.norm"
        for name, module in model.named_modules()
        if isinstance(module, AttentionModulation)
    }
    assert moved == own
    assert own


def test_one_branch_is_a_plain_cam_network():
    backbone = BackboneSettings(name="resnet18", weights="none")
    output = AMR(4, backbone, AMRSettings(compensation=False))(torch.rand(1, 3, 64, 64))
    assert output.compensation is None
    assert output.spotlight.logits.shape == (1, 4)


@pytest.mark.parametrize(("frozen", "shared"), [(0, 0), (1, 2), (2, 1)])
def test_the_pyramid_ends_in_the_spotlights_features(frozen, shared):
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none", freeze_stages=frozen)
    model = AMR(3, backbone, AMRSettings(shared_stages=shared)).eval()
    images = torch.rand(2, 3, 64, 96)
    pyramid = model.pyramid(images)
    assert [x.shape[1] for x in pyramid] == list(model.widths)
    assert [64 // x.shape[2] for x in pyramid] == list(model.strides)
    with torch.no_grad():
        last = model.spotlight.features(model.encode(images))
    torch.testing.assert_close(pyramid[-1], last)
    assert not any(x.requires_grad for x in pyramid)


@pytest.mark.parametrize(("name", "channels"), [("tf_efficientnet_lite0", 80), ("resnet18", 256)])
def test_details_are_the_shallowest_features_on_the_last_grid(name, channels):
    model = AMR(3, BackboneSettings(name=name, weights="none")).eval()
    details = model.details(torch.rand(1, 3, 64, 96))
    assert details.shape == (1, channels, 4, 6)


def test_compensation_starts_as_the_spotlight(model):
    model.start_compensation()
    for name, value in model.spotlight.state_dict().items():
        assert torch.equal(model.compensation.state_dict()[name], value)
    unmodulated = AMR(3, model.backbone_settings, AMRSettings(placement="none"))
    unmodulated.start_compensation()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        spotlight, compensation = unmodulated.eval()(x)
    torch.testing.assert_close(spotlight.scores, compensation.scores)
    assert not any(isinstance(part, AttentionModulation) for part in unmodulated.modules())
    with pytest.raises(ValueError, match="with a compensation branch"):
        AMR(3, model.backbone_settings, AMRSettings(compensation=False)).start_compensation()


def test_maps_of_refined_supervision_are_probabilities():
    backbone = BackboneSettings(name="resnet18", weights="none")
    x = torch.rand(1, 3, 64, 64)
    for supervision, expected in (("refined", torch.sigmoid), ("maps", torch.relu)):
        model = AMR(3, backbone, AMRSettings(supervision=supervision)).eval()
        with torch.no_grad():
            spotlight, compensation = model(x)
        torch.testing.assert_close(compensation.cams, expected(compensation.scores))
        torch.testing.assert_close(spotlight.cams, torch.relu(spotlight.scores))


@pytest.mark.parametrize("placement", ["stage", "block"])
def test_a_gated_branch_begins_as_the_spotlight_and_learns_how_strongly_to_modulate(placement):
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none")
    model = AMR(3, backbone, AMRSettings(placement=placement, gated=True)).eval()
    for module in model.modules():
        if isinstance(module, NormedConv2d):  # see above
            torch.nn.init.uniform_(module.norm.weight, 0.5, 1.0)
    model.start_compensation()
    images = torch.rand(2, 3, 64, 64)
    output = model(images)
    torch.testing.assert_close(output.compensation.scores, output.spotlight.scores)
    output.compensation.scores.square().sum().backward()
    modules = [m for m in model.compensation.modules() if isinstance(m, AttentionModulation)]
    assert modules
    for module in modules:
        assert float(module.strength.grad.abs().min()) > 0
        module.strength.data.fill_(1.0)
    ungated = AMR(3, backbone, AMRSettings(placement=placement, gated=False)).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith(".strength")}
    ungated.load_state_dict(state)
    with torch.no_grad():  # at strength 1 it is the module as published
        torch.testing.assert_close(
            ungated(images).compensation.scores, model(images).compensation.scores
        )
