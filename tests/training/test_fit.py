import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from weakseg.data.datasets import ShuffledBatches
from weakseg.data.loading import KeptErrors, collated
from weakseg.faults import FileError
from weakseg.training.fit import (
    CHECKPOINT,
    LOG,
    FitSettings,
    fit,
    random_seed,
    schedule,
    steps_done,
)
from weakseg.types import RunError

SETTINGS = FitSettings(
    epochs=3,
    batch_size=4,
    lr=0.1,
    warmup=0.2,
    clip=1.0,
    workers=0,
    checkpoint_seconds=0.0,
)


class Points(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, key):
        epoch, index = key
        generator = torch.Generator().manual_seed(epoch * 100 + index)
        x = torch.randn(3, generator=generator)
        return x, x.sum()[None]


class Line(nn.Module):
    def __init__(self, interrupt_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.drop = nn.Dropout(0.3)
        self.calls, self.interrupt_at = 0, interrupt_at

    def forward(self, batch):
        x, y = batch
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        self.calls += 1
        return {"loss": (self.layer(self.drop(x)) - y).square().mean(), "size": x.norm().detach()}

    def parameter_groups(self):
        return [
            {"params": [self.layer.weight], "lr_scale": 1.0},
            {"params": [self.layer.bias], "lr_scale": 10.0},
        ]


class Steady(Line):
    def __init__(self):
        super().__init__()
        self.drop = nn.Identity()


def loader(settings=SETTINGS, seed=0):
    batches = ShuffledBatches(
        10, settings.batch_size, settings.epochs, seed, pieces=settings.accumulate
    )
    return DataLoader(Points(), batch_sampler=batches)


def train(task, folder, settings=SETTINGS, **options):
    return fit(task, loader(settings), settings, folder=folder, device="cpu", seed=5, **options)


def log_of(folder):
    lines = (folder / LOG).read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("at", [1, 4, 8])
def test_resuming_gives_what_not_interrupting_gives(tmp_path, at, optimizer):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    settings = SETTINGS.model_copy(update={"optimizer": optimizer})
    whole = Line()
    train(whole, straight, settings)
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=at), broken, settings)
    assert steps_done(broken) == at
    resumed = Line()
    torch.nn.init.zeros_(resumed.layer.weight)
    summary = train(resumed, broken, settings)
    assert summary.resumed_at == at
    assert summary.steps == 9
    assert resumed.calls == 9 - at
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert log_of(straight) == log_of(broken)
    assert [line["step"] for line in log_of(broken)] == list(range(1, 10))


class Vanishing(Points):
    def __getitem__(self, key):
        if key[0] == 1:
            raise FileError("a.jpg", "image_missing", "there is no such file", "add it")
        return super().__getitem__(key)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_goes_while_training(tmp_path, workers):
    batches = DataLoader(
        KeptErrors(Vanishing()),
        batch_sampler=ShuffledBatches(10, 4, 3, 0),
        num_workers=workers,
        collate_fn=collated,
    )
    with pytest.raises(FileError, match=r"^a\.jpg: there is no such file; add it$"):
        fit(Line(), batches, SETTINGS, folder=tmp_path, device="cpu")
    assert steps_done(tmp_path) == 3


@pytest.mark.parametrize(
    ("number", "told"),
    [(28, r"No space left .*\(0\.0 MB are needed and [\d.]+ MB are free\)"), (5, "cannot write")],
)
def test_a_disk_that_is_full_while_training(tmp_path, monkeypatch, number, told):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError(f"Error while serializing: I/O error: it (os error {number})")

    monkeypatch.setattr("weakseg.training.fit.save_file", full)
    with pytest.raises(RunError, match=told):
        train(Line(), tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full_while_logging(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "weakseg.training.fit.write_atomic", lambda path, _: path.symlink_to("/dev/full")
    )
    with pytest.raises(RunError, match=r"log\.jsonl: No space left"):
        train(Line(), tmp_path)


class Spiky(Steady):
    """One batch has a gradient a thousand times as long as the others'."""

    def forward(self, batch):
        losses = super().forward(batch)
        return {"loss": losses["loss"] * (1000 if self.calls == 6 else 1)}


def test_a_rare_long_gradient_is_shortened(tmp_path):
    settings = SETTINGS.model_copy(update={"lr": 0.01, "momentum": 0.0})
    tasks = {}
    for name, kind, clip in (("usual", Steady, 4), ("spiky", Spiky, 4), ("free", Spiky, 0)):
        tasks[name] = kind()
        train(tasks[name], tmp_path / name, settings.model_copy(update={"clip": clip}))
    apart = {
        name: float((tasks[name].layer.weight - tasks["usual"].layer.weight).detach().norm())
        for name in ("spiky", "free")
    }
    assert 0 < apart["spiky"] < 0.1 < 1 < apart["free"]


def test_steps_of_usual_length_stay_as_they_are(tmp_path):
    one, two = Steady(), Steady()
    train(one, tmp_path / "one", SETTINGS.model_copy(update={"clip": 100.0}))
    train(two, tmp_path / "two", SETTINGS.model_copy(update={"clip": 0.0}))
    assert torch.equal(one.layer.weight, two.layer.weight)


def test_a_finished_training_does_nothing_more(tmp_path):
    train(Line(), tmp_path)
    again = Line()
    assert train(again, tmp_path).steps == 9
    assert again.calls == 0


@pytest.mark.parametrize("kind", [Steady, Line], ids=["steady", "dropout"])
def test_pieces_of_a_batch_add_up_to_it(tmp_path, kind):
    whole = SETTINGS.model_copy(update={"batch_size": 6})
    pieces = whole.model_copy(update={"accumulate": 2})
    one, two = kind(), kind()
    train(one, tmp_path / "one", whole, precision="fp32")
    train(two, tmp_path / "two", pieces, precision="fp32")
    assert two.calls == 2 * one.calls
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_learning_rates_follow_the_schedule_and_the_groups(tmp_path):
    train(Line(), tmp_path)
    for line in log_of(tmp_path):
        factor = schedule(line["step"] - 1, 9, power=0.9, warmup=0.2)
        assert line["lr"] == pytest.approx(0.1 * factor)


def test_schedule_rises_then_decays():
    values = [schedule(step, 100, power=0.9, warmup=0.1) for step in range(100)]
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[50] == pytest.approx(0.5**0.9)
    assert 0 < values[0] < 0.2
    assert schedule(0, 10, power=0.9, warmup=0) == 1


def test_only_weights_decay(tmp_path):
    class Frozen(Line):
        def forward(self, batch):
            return {"loss": (self.layer.weight.sum() + self.layer.bias.sum()) * 0.0}

    task = Frozen()
    before = [p.detach().clone() for p in task.parameters()]
    train(task, tmp_path, SETTINGS.model_copy(update={"weight_decay": 0.1}))
    assert (task.layer.weight.abs() < before[0].abs()).all()
    assert torch.equal(task.layer.bias, before[1])


def test_adamw_steps_by_the_learning_rate_however_long_the_gradient(tmp_path):
    class Steep(Line):
        def forward(self, batch):
            return {"loss": 1e4 * self.layer.weight.sum() + 1e-4 * self.layer.bias.sum()}

    task = Steep()
    before = [p.detach().clone() for p in task.parameters()]
    settings = SETTINGS.model_copy(update={"optimizer": "adamw", "weight_decay": 0.0, "clip": 0.0})
    train(task, tmp_path, settings)
    steps = sum(line["lr"] for line in log_of(tmp_path))
    for parameter, old, scale in zip(task.parameters(), before, (1, 10), strict=True):
        assert torch.allclose(old - parameter, torch.tensor(scale * steps), rtol=1e-3)


def test_a_loss_that_is_no_number_stops_with_a_remedy(tmp_path):
    class Broken(Line):
        def forward(self, batch):
            return {"loss": self.layer.weight.sum() * math.nan}

    with pytest.raises(RunError, match=r"loss is nan at step 1; lower this stage's learning rate"):
        train(Broken(), tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"no tensors")
    with pytest.raises(RunError, match="cannot be resumed from"):
        train(Line(), tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(Line(), tmp_path)
    other = Line()
    other.layer = nn.Linear(4, 1)
    with pytest.raises(RunError, match="remove it to train from the start"):
        train(other, tmp_path)


def test_checkpoints_hold_tensors_only(tmp_path):
    train(Line(), tmp_path)
    state = load_file(tmp_path / CHECKPOINT)
    assert {"task.layer.weight", "task.layer.bias"} <= set(state)
    assert any(name.startswith("optimizer.") for name in state)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=4), tmp_path)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 5, "lo')
    train(Line(), tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, 10))


class Drawing(Line):
    """Writes down what each piece draws at random."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, batch):
        self.drawn.append(float(torch.rand(())))
        return super().forward(batch)


def test_every_piece_and_step_draws_its_own_numbers(tmp_path):
    settings = SETTINGS.model_copy(update={"accumulate": 2})
    task = Drawing()
    train(task, tmp_path, settings)
    assert len(set(task.drawn)) == len(task.drawn) > 4
    assert len({random_seed(seed, step) for seed in (0, 1) for step in range(50)}) == 2 * 50


@given(st.integers(1, 500), st.integers(1, 9), st.integers(1, 32), st.integers(1, 300))
def test_few_images_are_passed_over_until_the_fewest_steps(images, epochs, batch, least):
    settings = FitSettings(epochs=epochs, batch_size=batch, least_steps=least)
    passes = settings.passes(images)
    steps = -(-images // batch)
    assert passes >= epochs
    assert passes * steps >= least
    assert passes == epochs or (passes - 1) * steps < least
    assert FitSettings(epochs=epochs, batch_size=batch).passes(images) == epochs
