import importlib.machinery
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from weakseg import api
from weakseg.apps.trackers import Tail, check_tracker, followed
from weakseg.types import ConfigError


def write(run, stage, steps, end=""):
    folder = run / stage
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"step": step, "loss": 1 / step, "lr": 0.1}) + "\n" for step in steps]
    (folder / "log.jsonl").write_text("".join(rows) + end)


@pytest.fixture
def wandb(monkeypatch):
    """A package of that name that writes down what it is told."""
    module = ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    told = SimpleNamespace(rows=[], metrics=[], finished=0)

    def finish():
        told.finished += 1

    module.init = lambda **options: SimpleNamespace(
        log=told.rows.append,
        define_metric=lambda name, step_metric: told.metrics.append((name, step_metric)),
        finish=finish,
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    return told


def test_each_line_is_given_once_and_half_lines_later(tmp_path):
    tail = Tail(tmp_path)
    assert tail.new() == []
    write(tmp_path, "classify", [1, 2], '{"step": 3, "lo')
    assert tail.new() == [
        ("classify", 1, {"loss": 1.0, "lr": 0.1}),
        ("classify", 2, {"loss": 0.5, "lr": 0.1}),
    ]
    assert tail.new() == []
    write(tmp_path, "classify", [1, 2, 3])
    write(tmp_path, "relate", [1])
    assert [(stage, step) for stage, step, _ in tail.new()] == [("classify", 3), ("relate", 1)]


def test_a_training_that_is_resumed_is_followed_from_there(tmp_path):
    tail = Tail(tmp_path)
    write(tmp_path, "classify", range(1, 9))
    assert len(tail.new()) == 8
    write(tmp_path, "classify", range(1, 5))
    assert tail.new() == []
    write(tmp_path, "classify", range(1, 7))
    assert [step for _, step, _ in tail.new()] == [5, 6]


def test_wandb_gets_every_line_with_the_stages_own_steps(tmp_path, wandb):
    with followed(tmp_path, "wandb", seconds=0.01):
        write(tmp_path, "classify", [1, 2])
    assert wandb.metrics == [("classify/*", "classify/step")]
    assert wandb.rows == [
        {"classify/loss": 1.0, "classify/lr": 0.1, "classify/step": 1},
        {"classify/loss": 0.5, "classify/lr": 0.1, "classify/step": 2},
    ]
    assert wandb.finished == 1


def test_it_ends_when_the_run_fails(tmp_path, wandb):
    def fail():
        write(tmp_path, "classify", [1])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), followed(tmp_path, "wandb", seconds=60):
        fail()
    assert len(wandb.rows) == wandb.finished == 1


def test_tensorboard_gets_scalars_only_once_the_run_has_logs(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    with followed(tmp_path, "tensorboard", seconds=0.01):
        assert list(tmp_path.iterdir()) == []
        write(tmp_path, "classify", [1, 2])
    with followed(tmp_path, "tensorboard", seconds=0.01):
        write(tmp_path, "classify", [1, 2, 4])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("classify/loss")] == [
        (1, 1.0),
        (2, 0.5),
        (4, 0.25),
    ]


def test_unknown_and_missing_trackers_are_refused_before_anything_is_done(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown tracker 'tb'; known: tensorboard, wandb"):
        check_tracker("tb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        api.run(tmp_path / "photos", tmp_path / "run", log="wandb")
    assert not (tmp_path / "run").exists()


def test_rounds_are_followed_too(tmp_path):
    tail = Tail(tmp_path)
    write(tmp_path, "segment/round-1", [1, 2])
    write(tmp_path, "segment", [1])
    assert [(stage, step) for stage, step, _ in tail.new()] == [
        ("segment", 1),
        ("segment/round-1", 1),
        ("segment/round-1", 2),
    ]
