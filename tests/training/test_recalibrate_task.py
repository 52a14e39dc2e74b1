import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.losses import (
    cross_pseudo_supervision,
    recalibration_loss,
    refined_labels,
    tag_loss,
)
from weakseg.training.recalibrate_task import RecalibrateSettings, RecalibrateTask

BACKBONE = BackboneSettings(name="resnet18", weights="none", output_stride=32)
TAGS = torch.tensor([[1.0, 0], [0, 1]])
LABELS = torch.zeros(2, 64, 64, dtype=torch.uint8)
LABELS[0, :32] = 1
LABELS[1, :, :32] = 255
LABELS[1, 40:, 40:] = 2
BATCH = (torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), LABELS, TAGS)


def test_the_papers_loss_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    model = AMR(2, BACKBONE, AMRSettings(supervision="maps")).eval()
    with torch.no_grad():
        losses = RecalibrateTask(model, RecalibrateSettings(cps_weight=0.3))(BATCH)
        a, b = model(BATCH[0])
        expected = (tag_loss(a.logits, TAGS) + tag_loss(b.logits, TAGS)) / 2
        expected += 0.3 * cross_pseudo_supervision(a.cams, b.cams, TAGS)
    torch.testing.assert_close(losses["loss"], expected)
    assert set(losses) == {"loss", "spotlight", "compensation", "cps"}


def test_the_refined_loss_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    model = AMR(2, BACKBONE).eval()
    with torch.no_grad():
        alone = RecalibrateTask(model, RecalibrateSettings())(BATCH)
        losses = RecalibrateTask(model, RecalibrateSettings(tag_weight=0.7))(BATCH)
        found = model(BATCH[0]).compensation
        labels = LABELS[:, 16::32, 16::32]  # the middle of each cell of the network's grid
        refined = recalibration_loss(found.scores, labels, TAGS)
        expected = refined + 0.7 * tag_loss(found.logits, TAGS)
    torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close(alone["loss"], refined)


def test_recalibration_averages_each_kind_of_position_by_itself():
    scores = torch.randn(2, 2, 1, 4)
    labels = torch.tensor([[[1, 0, 0, 255]], [[2, 1, 255, 255]]], dtype=torch.uint8)
    one, zero = torch.ones(()), torch.zeros(())
    positive = [bce(scores[0, 0, 0, 0], one), bce(scores[1, 1, 0, 0], one)]
    negative = [bce(scores[0, 0, 0, k], zero) for k in (1, 2)] + [bce(scores[1, 1, 0, 1], zero)]
    absent = [bce(scores[0, 1, 0, k], zero) for k in range(4)]
    absent += [bce(scores[1, 0, 0, k], zero) for k in range(4)]
    expected = sum(torch.stack(part).mean() for part in (positive, negative, absent)) / 3
    torch.testing.assert_close(recalibration_loss(scores, labels, TAGS), expected)


def test_nothing_known_is_no_number_to_fear():
    unknown = torch.full((1, 3, 3), 255, dtype=torch.uint8)
    loss = recalibration_loss(torch.randn(1, 2, 3, 3), unknown, torch.ones(1, 2))
    assert float(loss) == 0


def test_labels_are_what_maps_are_sure_of():
    maps = torch.tensor([[[0.9, 0.5, 0.1, 0.7]], [[0.2, 0.9, 0.2, 0.68]]])
    labels = refined_labels(maps, torch.tensor([2, 4]), sure=0.67, unsure=0.33)
    assert labels.tolist() == [[3, 5, 0, 3]]
    doubtful = refined_labels(torch.full((1, 1, 2), 0.5), torch.tensor([0]), sure=0.67, unsure=0.33)
    assert doubtful.tolist() == [[255, 255]]
    none = refined_labels(torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.int64), sure=1, unsure=0)
    assert none.shape == (2, 3)
    assert not none.any()


def test_thresholds_are_in_order():
    with pytest.raises(ValidationError, match=r"unsure must be at most sure, got 0\.8 and 0\.67"):
        RecalibrateSettings(unsure=0.8)


@pytest.mark.parametrize("supervision", ["refined", "maps"])
@pytest.mark.parametrize("placement", ["stage", "block", "none"])
def test_every_trainable_parameter_is_in_one_group_with_its_rate(supervision, placement):
    settings = AMRSettings(supervision=supervision, placement=placement)
    model = AMR(2, BACKBONE, settings)
    task = RecalibrateTask(model, RecalibrateSettings(new_layers_lr=7, compensation_lr=3))
    groups = task.parameter_groups()
    seen = [id(p) for group in groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in model.parameters() if p.requires_grad}
    rate = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert {rate[id(p)] for p in model.compensation.head.parameters()} == {7}
    modulation = {rate[id(p)] for p in model.compensation.modulation.parameters()}
    assert modulation == ({7} if placement == "stage" else set())
    stages = [p for p in model.compensation.stages.parameters() if p.requires_grad]
    assert {rate[id(p)] for p in stages} == ({3, 7} if placement == "block" else {3})
    moved = {id(p) for p in model.spotlight.parameters()} & set(seen)
    assert bool(moved) == (supervision == "maps")
    task.train()
    task(BATCH)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
