import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from weakseg.training.fit import FitSettings, fit
from weakseg.training.memory import is_out_of_memory
from weakseg.types import RunError

CPU = "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried"
NO_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError(CPU),
    RuntimeError("MPS backend out of memory"),
]


class Line(nn.Module):
    """Images of numbers, of which only some fit into memory."""

    def __init__(self, most=99, error=None, late=False):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.most, self.error, self.late, self.sizes = most, error, late, []

    def forward(self, batch):
        x, y = batch
        self.sizes.append(len(x))
        loss = (self.layer(x) - y).square().mean()
        if len(x) > self.most:
            if self.late:  # while gradients are computed, of which some are there already
                self.layer.bias.grad = torch.full_like(self.layer.bias, 1e6)
            raise self.error
        return {"loss": loss}

    def parameter_groups(self):
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]


def train(task, folder, **changed):
    settings = FitSettings(batch_size=8, epochs=1, lr=0.1, workers=0).model_copy(update=changed)
    generator = torch.Generator().manual_seed(3)
    data = torch.randn(32, 3, generator=generator)
    pairs = list(zip(data, data.sum(1, keepdim=True), strict=True))
    batches = DataLoader(pairs, batch_size=8 // settings.accumulate)
    said = []
    fit(task, batches, settings, folder=folder, device="cpu", precision="fp32", say=said.append)
    return task, said


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("most", "accumulate"), [(4, 1), (3, 1), (1, 1), (1, 2), (2, 4), (1, 4)])
def test_halved_pieces_learn_the_same(tmp_path, error, most, accumulate):
    assert is_out_of_memory(error)
    whole, quiet = train(Line(), tmp_path / "whole", accumulate=accumulate)
    halved, said = train(Line(most, error, late=True), tmp_path / "halved", accumulate=accumulate)
    for a, b in zip(whole.parameters(), halved.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert quiet == []
    assert len(said) == sum(size > most for size in halved.sizes)
    assert sum(size for size in halved.sizes if size <= most) == 32
    if most < 8 // accumulate:
        assert "pieces" in said[0]


def test_memory_that_ends_at_a_later_piece(tmp_path):
    class Growing(Line):
        def forward(self, batch):
            self.most = 8 if len(self.sizes) < 3 else 2
            return super().forward(batch)

    whole, _ = train(Line(), tmp_path / "whole", accumulate=2)
    halved, said = train(Growing(8, MemoryError(), late=True), tmp_path / "halved", accumulate=2)
    assert halved.sizes[:7] == [4, 4, 4, 4, 2, 2, 2]
    assert len(said) == 1
    for a, b in zip(whole.parameters(), halved.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_single_image_that_does_not_fit(tmp_path):
    with pytest.raises(RunError, match=r"does not suffice for 1 image at once.*augment\.crop"):
        train(Line(0, RuntimeError(CPU)), tmp_path)


def test_a_batch_norm_that_needs_two_images(tmp_path):
    class Normed(Line):
        def forward(self, batch):
            found = super().forward(batch)
            nn.BatchNorm1d(3)(batch[0])
            return found

    with pytest.raises(RunError, match="does not suffice for 1 image at once"):
        train(Normed(1, MemoryError()), tmp_path)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no")])
def test_bugs_stay_bugs(tmp_path, error):
    with pytest.raises(type(error), match=str(error)):
        train(Line(0, error), tmp_path)
