import torch

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.losses import tag_loss
from weakseg.training.tag_task import TagTask, TagTaskSettings

BACKBONE = BackboneSettings(name="resnet18", weights="none", output_stride=32)
BATCH = (torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.tensor([[1.0, 0], [0, 1]]))


def test_the_loss_is_that_of_the_spotlights_scores():
    model = AMR(2, BACKBONE, AMRSettings(compensation=False)).eval()
    with torch.no_grad():
        losses = TagTask(model, TagTaskSettings())(BATCH)
        expected = tag_loss(model(BATCH[0]).spotlight.logits, BATCH[1])
    assert set(losses) == {"loss"}
    torch.testing.assert_close(losses["loss"], expected)


def test_every_trainable_parameter_is_in_one_group_with_its_rate():
    model = AMR(2, BACKBONE, AMRSettings(compensation=False))
    groups = TagTask(model, TagTaskSettings(new_layers_lr=7)).parameter_groups()
    seen = [id(p) for group in groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in model.parameters() if p.requires_grad}
    rate = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert {rate[id(p)] for p in model.spotlight.head.parameters()} == {7}
