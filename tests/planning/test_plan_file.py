import pytest

from weakseg.planning.data_facts import DataFacts
from weakseg.planning.plan_file import Machine, Plan, Reasoned, StageEstimate, read_plan
from weakseg.types import ConfigError


@pytest.fixture
def plan():
    return Plan(
        data=DataFacts(
            images=3, classes=2, counts=(1, 2), tags=3, untagged=0, long_side=60, short_side=40
        ),
        machine=Machine(device="cpu", processors=2, bf16=False, training_images_per_second=20),
        minutes=3.5,
        gigabytes=1.25,
        stages=(StageEstimate(stage="classify", minutes=3.5, gigabytes=1.25),),
        notes=("a note: with a colon",),
        settings={
            "fit.steps": Reasoned(value=440, why="it's the fewest: 440"),
            "fit.workers": Reasoned(value=None, why="#1"),
            "cams.scales": Reasoned(value=[0.5, 1.0], why="[a]"),
            "refine.kind": Reasoned(value="irn", why=""),
        },
    )


def test_a_plan_comes_back_from_its_file(plan, tmp_path):
    path = plan.save(tmp_path / "plan.yaml")
    assert read_plan(path) == plan
    assert plan.layer().values["fit"] == {"steps": 440, "workers": None}


def test_a_value_can_be_changed_by_hand(plan, tmp_path):
    path = plan.save(tmp_path / "plan.yaml")
    path.write_text(path.read_text().replace("value: 440", "value: 500"))
    assert read_plan(path).layer().values["fit"]["steps"] == 500


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fit: {epochs: 1}\n", "is no plan of this version"),
        ("format: weakseg-plan-0\n", "make one with weakseg plan"),
        ("format: weakseg-plan-1\n", "data: Field required"),
        ("- 1\n", "expected `section: …` lines"),
        ("format: [\n", "plan.yaml"),
    ],
)
def test_what_is_no_plan_is_refused(text, found, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"plan\.yaml") as error:
        read_plan(path)
    assert found in str(error.value)


def test_a_damaged_line_is_named(plan, tmp_path):
    path = plan.save(tmp_path / "plan.yaml")
    path.write_text(path.read_text().replace("minutes: 3.5\n", "minutes: soon\n", 1))
    with pytest.raises(ConfigError, match=r"plan\.yaml: minutes: .*correct the line"):
        read_plan(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_plan(tmp_path / "none.yaml")
