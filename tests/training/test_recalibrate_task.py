import pytest
import torch
from pydantic import ValidationError

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.losses import (
    cross_pseudo_supervision,
    recalibration_loss,
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
