import copy

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from weakseg.data.datasets import ShuffledBatches
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.ops.losses import mask_loss
from weakseg.training.fit import fit, steps_done
from weakseg.training.mask_task import MaskTask, MaskTaskSettings, SegmentFitSettings

BACKBONE = BackboneSettings(name="resnet18", weights="none")
FIT = SegmentFitSettings(epochs=2, batch_size=2, workers=0, checkpoint_seconds=0.0, warmup=0.2)


def network():
    torch.manual_seed(0)
    return Segmenter(2, BACKBONE, SegmenterSettings(channels=32, dropout=0.3))


class Pictures(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, key):
        epoch, index = key
        generator = torch.Generator().manual_seed(epoch * 100 + index)
        image = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
        return image, (image[0] // 100).to(torch.uint8)


class Interrupted(MaskTask):
    at = None
    calls = 0

    def forward(self, batch):
        if self.calls == self.at:
            raise KeyboardInterrupt
        self.calls += 1
        return super().forward(batch)


def train(task, folder):
    loader = DataLoader(Pictures(), batch_sampler=ShuffledBatches(4, 2, 2))
    return fit(task, loader, FIT, folder=folder, device="cpu", seed=5)


def test_resuming_gives_the_same_averaged_network(tmp_path):
    settings = MaskTaskSettings(ema=0.9)
    whole = Interrupted(network(), settings)
    train(whole, tmp_path / "whole")
    broken = Interrupted(network(), settings)
    broken.at = 2
    with pytest.raises(KeyboardInterrupt):
        train(broken, tmp_path / "broken")
    assert steps_done(tmp_path / "broken") == 2
    resumed = Interrupted(network(), settings)
    train(resumed, tmp_path / "broken")
    assert resumed.calls == 2
    expected, got = whole.trained.state_dict(), resumed.trained.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert any(not torch.equal(expected[n], v) for n, v in whole.model.state_dict().items())


def test_the_average_follows_the_network():
    task = MaskTask(network(), MaskTaskSettings(ema=0.9))
    weight = task.model.segmentation_head[1].weight
    mean = weight.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            weight.add_(0.01)
        task.after_step()
        keep = min(0.9, step / (step + 10))
        mean = keep * mean + (1 - keep) * weight.detach()
    torch.testing.assert_close(task.trained.segmentation_head[1].weight, mean)
    assert task.trained is task.average


def test_without_averaging_the_network_itself_counts():
    model = network()
    task = MaskTask(model, MaskTaskSettings(ema=0.0))
    task.after_step()
    assert task.trained is model
    assert not any("average" in name for name in task.state_dict())


def test_the_average_has_no_gradients_and_is_in_no_group():
    task = MaskTask(network(), MaskTaskSettings())
    assert not any(p.requires_grad for p in task.average.parameters())
    groups = task.parameter_groups()
    seen = [id(p) for group in groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in task.model.parameters() if p.requires_grad}


def test_the_decoder_learns_faster():
    task = MaskTask(network(), MaskTaskSettings(decoder_lr=7))
    backbone, decoder = task.parameter_groups()
    assert backbone["lr_scale"] == 1
    assert decoder["lr_scale"] == 7
    inside = {id(p) for p in task.model.backbone.parameters()}
    assert all(id(p) in inside for p in backbone["params"])
    assert not any(id(p) in inside for p in decoder["params"])


def test_the_loss_and_the_agreement():
    model = network().eval()
    settings = MaskTaskSettings(blur=2, label_smoothing=0.1)
    weights = torch.tensor([0.5, 1.0, 2.0])
    task = MaskTask(model, settings, weights).eval()
    images = torch.rand(2, 3, 32, 40)
    with torch.no_grad():
        logits = model(images)
        labels = logits.argmax(dim=1).to(torch.uint8)
        labels[:, :16] = 255
        labels[:, 24:] = (labels[:, 24:] + 1) % 3
        losses = task((images, labels))
        expected = mask_loss(logits, labels, weights=weights, blur=2, label_smoothing=0.1)
    torch.testing.assert_close(losses["loss"], expected)
    assert float(losses["agreement"]) == pytest.approx(0.5)


def test_pieces_of_one_image_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 images: .*4 / 4"):
        SegmentFitSettings(batch_size=4, accumulate=4)


def test_a_step_learns_what_it_is_shown():
    model = network()
    before = copy.deepcopy(dict(model.named_parameters()))
    task = MaskTask(model, MaskTaskSettings())
    task.train()
    batch = tuple(
        torch.stack(part) for part in zip(*(Pictures()[0, i] for i in range(2)), strict=True)
    )
    task(batch)["loss"].backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-3)
    first = task(batch)["loss"]
    assert bool(first.isfinite())
    changed = {
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }
    assert any(name.startswith("backbone.stages.3") for name in changed)
    assert not any(name.startswith(("backbone.stem", "backbone.stages.0")) for name in changed)
