"""What two processes compute of the halves of a batch is what one computes of the whole."""

import sys

import torch
from torch import distributed, nn
from torch.nn import functional

from weakseg.models.amr import AttentionModulation
from weakseg.ops.losses import cross_pseudo_supervision, mask_loss, recalibration_loss
from weakseg.ops.relation_losses import relation_loss
from weakseg.shared_batch import shared_batch, shared_total


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.modulation = AttentionModulation(6, statistics="per_batch")
        self.drops = nn.ModuleList([nn.Dropout(0.5), nn.Dropout2d(0.3)])
        self.pooled = nn.BatchNorm1d(6)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, images, labels, tags):
        x = self.modulation(self.norm(self.conv(images)))
        for drop in self.drops:
            x = drop(x)
        logits = self.head(x) + self.pooled(x.mean(dim=(2, 3)))[:, :4, None, None]
        boundary, displacement = logits[:, :1].sigmoid(), logits[:, 1:3]
        return (
            mask_loss(logits, labels)
            + recalibration_loss(logits[:, 1:], labels, tags)
            + cross_pseudo_supervision(logits[:, 1:].relu(), logits[:, :3].relu(), tags)
            + relation_loss(boundary, displacement, labels, radius=3).loss
        )


def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, (4, 8, 8), generator=generator)
    labels[3, 1:] = 255  # so that the halves have different numbers of labels
    tags = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 1, 1]]).float()
    return torch.rand(4, 3, 8, 8, generator=generator), labels, tags


def learnt(network, processes, rank):
    own = [part.chunk(processes)[rank] for part in batch()]
    first = rank * len(own[0])
    with shared_batch(seed=7, first=first, count=len(own[0]), processes=processes):
        loss = network(*own)
    loss.backward()
    values = [loss.detach()[None], *(p.grad.flatten() for p in network.parameters())]
    mean = torch.cat(values)
    if processes > 1:
        distributed.all_reduce(mean)
        mean /= processes
    statistics = [b.flatten().float() for b in network.buffers()]
    return torch.cat([mean, *statistics])


def test_halves_make_the_whole(launched, tmp_path):
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    results = launched(*[[__file__, file] for file in files]).ended()
    assert [code for code, _ in results] == [0, 0], results
    whole = learnt(Network(), 1, 0)
    for file in files:
        torch.testing.assert_close(torch.load(file), whole, rtol=1e-4, atol=1e-5)


def test_dropout_draws_by_the_images_number():
    x, drop = torch.ones(6, 5, 4), nn.Dropout(0.5)
    with shared_batch(seed=3, first=0, count=6):
        whole = drop(x), drop(x)
    with shared_batch(seed=3, first=4, count=2):
        torch.testing.assert_close(drop(x[4:]), whole[0][4:])
    assert not torch.equal(whole[0], whole[1])
    assert len({tuple(row.flatten().tolist()) for row in whole[0]}) == 6
    assert set(whole[0].unique().tolist()) == {0.0, 2.0}
    drop.eval()
    with shared_batch(seed=3, first=0, count=6):
        assert torch.equal(drop(x), x)
        assert functional.dropout(x, 1.0).sum() == 0


def test_dropout_keeps_the_mean():
    with shared_batch(seed=1, first=0, count=50):
        kept = functional.dropout(torch.ones(50, 1000), 0.3).mean()
    assert abs(float(kept) - 1) < 0.01


def test_a_total_is_at_least_what_is_asked():
    assert float(shared_total(torch.tensor(0.0), least=1)) == 1
    assert float(shared_total(torch.tensor(3.0), least=1)) == 3


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    torch.save(learnt(Network(), 2, distributed.get_rank()), sys.argv[1])
    distributed.destroy_process_group()
