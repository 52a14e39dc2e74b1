import torch

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.losses import cross_pseudo_supervision, tag_loss
from weakseg.training.tag_task import TagTask, TagTaskSettings

BACKBONE = BackboneSettings(name="resnet18", weights="none", output_stride=32)
BATCH = (torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.tensor([[1.0, 0], [0, 1]]))


def test_loss_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    model = AMR(2, BACKBONE).eval()
    settings = TagTaskSettings(cps_weight=0.3)
    with torch.no_grad():
        losses = TagTask(model, settings)(BATCH)
        a, b = model(BATCH[0])
        expected = (tag_loss(a.logits, BATCH[1]) + tag_loss(b.logits, BATCH[1])) / 2
        expected += 0.3 * cross_pseudo_supervision(a.cams, b.cams, BATCH[1])
    torch.testing.assert_close(losses["loss"], expected)
    assert set(losses) == {"loss", "spotlight", "compensation", "cps"}


def test_one_branch_has_one_loss():
    model = AMR(2, BACKBONE, AMRSettings(compensation=False)).eval()
    assert set(TagTask(model, TagTaskSettings())(BATCH)) == {"loss"}


def test_every_trainable_parameter_is_in_one_group_with_its_rate():
    model = AMR(2, BACKBONE)
    groups = TagTask(model, TagTaskSettings(new_layers_lr=7, compensation_lr=3)).parameter_groups()
    seen = [id(p) for group in groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in model.parameters() if p.requires_grad}
    rate = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert {rate[id(p)] for p in model.spotlight.head.parameters()} == {7}
    assert {rate[id(p)] for p in model.compensation.modulation.parameters()} == {7}
    trained = [p for p in model.compensation.stages.parameters() if p.requires_grad]
    assert {rate[id(p)] for p in trained} == {3}
