import copy

import pytest
import torch

from weakseg.models.amr import AMR
from weakseg.models.backbones import BackboneSettings
from weakseg.models.irn import RelationNet
from weakseg.training.relation_task import RelationTask


@pytest.fixture(params=[False, True], ids=["boundary", "both heads"])
def task(request):
    torch.manual_seed(0)
    features = AMR(2, BackboneSettings(name="resnet18", weights="none"))
    net = RelationNet(features.widths, features.strides, displacement=request.param)
    return RelationTask(features, net, radius=4)


def batch():
    seeds = torch.zeros(2, 64, 64, dtype=torch.uint8)
    seeds[:, :, 32:] = 2
    seeds[:, 50:] = 255
    return torch.rand(2, 3, 64, 64), seeds


def test_heads_learn_and_features_stay(task):
    task.train()
    before = copy.deepcopy(task.features.state_dict())
    parameters = [p for group in task.parameter_groups() for p in group["params"]]
    optimizer = torch.optim.SGD(parameters, lr=0.03)
    losses, images = [], batch()
    for _ in range(12):
        found = task(images)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
    assert sum(losses[-3:]) < sum(losses[:3])
    after = task.features.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is not None for p in parameters)
    assert {id(p) for p in parameters} == {id(p) for p in task.net.parameters()}


def test_bf16_learns_nearly_the_same(task):
    task.train()
    found = {}
    for half in (False, True):
        task.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            torch.manual_seed(1)
            loss = task(batch())["loss"]
        loss.backward()
        assert loss.dtype == torch.float32
        found[half] = float(loss.detach())
        assert all(p.grad.isfinite().all() for p in task.net.parameters())
    assert found[True] == pytest.approx(found[False], rel=0.05)


def test_a_displacement_head_is_logged_and_learns_ten_times_faster(task):
    has_head = task.net.displacement_head is not None
    assert ("displacement" in task(batch())) == has_head
    assert [group["lr_scale"] for group in task.parameter_groups()] == (
        [1.0, 10.0] if has_head else [1.0]
    )


def test_unknown_seeds_teach_nothing(task):
    images, seeds = batch()
    loss = task((images, torch.full_like(seeds, 255)))["loss"]
    assert float(loss.detach()) == 0
