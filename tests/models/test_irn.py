import pytest
import torch

from weakseg.models.irn import BoundaryHead, DisplacementHead, RelationNet, grid_size

RESNET = ((64, 64, 128, 256, 512), (4, 4, 8, 16, 16))
LEVELS = {
    "published": RESNET,
    "stem-at-2": ((16, 24, 40, 112, 320), (2, 4, 8, 16, 32)),
    "no-stem": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "plain": ((48, 48), (16, 16)),
    "fine-only": ((8, 12), (2, 4)),
}


def features_of(widths, strides, image=(66, 97), batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(
            batch, width, -(-image[0] // stride), -(-image[1] // stride), generator=generator
        )
        for width, stride in zip(widths, strides, strict=True)
    ]


@pytest.mark.parametrize("name", LEVELS)
def test_maps_lie_on_the_stride_4_grid(name):
    widths, strides = LEVELS[name]
    maps = RelationNet(widths, strides)(features_of(widths, strides))
    h, w = (17, 25) if 4 in strides else (20, 28)
    assert maps.boundary_logits.shape == (2, 1, h, w)
    assert maps.displacement.shape == (2, 2, h, w)


def test_size_may_be_given():
    widths, strides = LEVELS["plain"]
    maps = RelationNet(widths, strides)(features_of(widths, strides), size=(17, 25))
    assert maps.boundary_logits.shape[-2:] == maps.displacement.shape[-2:] == (17, 25)


@pytest.mark.parametrize("name", LEVELS)
def test_every_parameter_receives_gradient(name):
    widths, strides = LEVELS[name]
    net = RelationNet(widths, strides)
    maps = net(features_of(widths, strides))
    loss = maps.boundary_logits.square().mean() + (maps.displacement - 1).square().mean()
    loss.backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_published_layers():
    net = RelationNet(*RESNET)
    boundary = net.boundary_head
    assert [level[0].weight.shape[:2] for level in boundary.levels] == [(32, c) for c in RESNET[0]]
    assert all(level[0].bias is None and level[1].num_groups == 4 for level in boundary.levels)
    assert boundary.merge.weight.shape == (1, 160, 1, 1)
    head = net.displacement_head
    assert [level[0].out_channels for level in head.levels] == [64, 128, 256, 256, 256]
    assert head.merge_coarse[0].weight.shape[:2] == (256, 768)
    assert head.merge_fine[0].weight.shape[:2] == (256, 448)
    assert head.offsets.weight.shape == (2, 256, 1, 1)


def test_batch_mates_do_not_mix():
    net = RelationNet(*RESNET).eval()
    features = features_of(*RESNET, batch=3)
    together = net(features)
    alone = net([feature[1:2] for feature in features])
    torch.testing.assert_close(together.boundary_logits[1:2], alone.boundary_logits)
    torch.testing.assert_close(together.displacement[1:2], alone.displacement)


def test_mean_displacement_is_taken_off_in_evaluation_only():
    net = RelationNet(*RESNET)
    features = features_of(*RESNET)
    raw = net(features).displacement
    net.set_displacement_mean(torch.tensor([1.5, -2.0]))
    torch.testing.assert_close(net(features).displacement, raw)
    shift = raw - net.eval()(features).displacement
    torch.testing.assert_close(shift, torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand_as(shift))


def test_mean_displacement_is_saved():
    net, other = RelationNet(*RESNET), RelationNet(*RESNET)
    net.set_displacement_mean(torch.tensor([0.25, 3.0]))
    other.load_state_dict(net.state_dict())
    assert other.displacement_mean.tolist() == [0.25, 3.0]


@pytest.mark.parametrize("mean", [torch.zeros(3), torch.tensor([1.0, float("nan")])])
def test_wrong_mean_is_refused(mean):
    with pytest.raises(ValueError, match="two finite numbers"):
        RelationNet(*RESNET).set_displacement_mean(mean)


def test_features_are_not_changed():
    features = features_of(*RESNET)
    before = [feature.clone() for feature in features]
    RelationNet(*RESNET)(features)
    assert all(torch.equal(a, b) for a, b in zip(features, before, strict=True))


def test_grid_size_takes_the_nearest_stride():
    maps = [torch.zeros(1, 1, 33, 49), torch.zeros(1, 1, 5, 7)]
    assert grid_size(maps, (2, 16)) == (17, 25)
    assert grid_size(maps[1:], (16,)) == (20, 28)


@pytest.mark.parametrize("head", [BoundaryHead, DisplacementHead])
def test_wrong_arguments_are_explained(head):
    with pytest.raises(ValueError, match="as many widths as strides"):
        head((8, 8), (4,))
    with pytest.raises(ValueError, match="positive"):
        head((8, 0), (4, 8))
    with pytest.raises(ValueError, match=r"of widths \(8, 16\)"):
        head((8, 16), (4, 8))([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)])


def test_too_many_maps_for_the_displacement_head():
    with pytest.raises(ValueError, match="at most 5"):
        DisplacementHead((8,) * 6, (4,) * 6)
