import pytest
import torch
from accelerate.state import PartialState

from weakseg.training import device
from weakseg.training.device import Inference, accelerator_for, device_for
from weakseg.types import ConfigError


def test_unknown_and_missing_devices_are_refused():
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda or mps, got 'abacus'"):
        device_for("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="this machine has no cuda"):
            Inference("cuda", "auto")


@pytest.mark.parametrize(
    ("precision", "quick", "kind"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("fp32", True, torch.float32),
        ("bf16", False, torch.bfloat16),
    ],
)
def test_bf16_is_taken_where_the_cpu_has_it(monkeypatch, precision, quick, kind):
    monkeypatch.setattr(device, "_has_bf16", lambda _: quick)
    a = torch.ones(4, 4)
    with Inference("cpu", precision).autocast():
        assert (a @ a).dtype == kind
    assert (a @ a).dtype == torch.float32
    learning = "bf16" if kind == torch.bfloat16 else "no"
    assert accelerator_for("cpu", precision).mixed_precision == learning


def test_trainings_of_one_process_may_differ_in_precision():
    kinds = [accelerator_for("cpu", precision).mixed_precision for precision in ("bf16", "fp32")]
    assert kinds == ["bf16", "no"]


@pytest.fixture
def two_devices(monkeypatch):
    """A machine with a second device, which torch's own `meta` stands in for."""
    monkeypatch.setattr(
        device, "device_for", lambda name: torch.device("meta" if name == "auto" else name)
    )
    monkeypatch.setattr(device, "_takes_bf16", lambda *_: False)
    made = []

    def accelerator(**options):
        PartialState._shared_state.setdefault("device", torch.device("meta"))
        made.append(options)
        return PartialState._shared_state["device"]

    monkeypatch.setattr(device, "Accelerator", accelerator)
    kept = dict(PartialState._shared_state)
    yield made
    PartialState._shared_state.clear()
    PartialState._shared_state.update(kept)


def test_a_training_on_the_cpu_does_not_keep_the_next_one_there(two_devices):
    PartialState._shared_state["device"] = torch.device("cpu")
    assert accelerator_for("auto", "fp32") == torch.device("meta")
    PartialState._shared_state["debug"] = "kept"
    accelerator_for("auto", "fp32")
    assert PartialState._shared_state["debug"] == "kept"  # the same device: nothing is given up


def test_each_process_of_a_launcher_has_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_for("auto") == torch.device("cuda")
    for number, gpu in enumerate(("cuda:0", "cuda:1")):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        assert device_for("cuda") == device_for("auto") == torch.device(gpu)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="process 3 of this machine has no GPU left, it has 2"):
        device_for("cuda")
    assert device_for("cuda:1") == torch.device("cuda:1")
    assert device_for("cpu") == torch.device("cpu")
