import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

import weakseg
from weakseg.config.run_config import load_config
from weakseg.pipeline import STAGES
from weakseg.planning.plan_file import read_plan
from weakseg.types import ConfigError, RunError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["image,tags"]
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'cat' if number % 2 else 'dog'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def stages(monkeypatch, quick_plans):
    """The stages replaced by ones that only write down with what they were called."""
    found = {}

    def stage(name):
        def function(context):
            found[name] = context.config
            return {}

        return SimpleNamespace(**{name: function})

    for row in STAGES:
        monkeypatch.setitem(sys.modules, f"weakseg.stages.{row.name}", stage(row.name))
    return found


def test_a_plan_is_written_and_told(weak, source, quick_plans, tmp_path):
    path = tmp_path / "plan.yaml"
    code, text, complaint = weak("plan", source, "--out", path)
    assert (code, complaint) == (0, "")
    plan = read_plan(path)
    assert plan.data.images == 6
    assert plan.minutes == pytest.approx(sum(own.minutes for own in plan.stages), abs=0.06)
    assert plan.stages[0].stage == "check"
    assert "validate" not in {own.stage for own in plan.stages}
    assert all(own.why for own in plan.settings.values())
    assert "fit.least_steps" in text
    assert "in all" in text
    assert text.rstrip().endswith(str(path))


def test_a_source_with_faults_gets_no_plan(weak, source, quick_plans, tmp_path):
    (source / "3.png").write_bytes(b"")
    path = tmp_path / "plan.yaml"
    code, _, line = weak("plan", source, "--out", path)
    assert code == 2
    assert "1 fault" in line
    assert not path.exists()
    assert not quick_plans  # nothing is measured in vain
    assert weak("plan", source, "--out", path, "--skip-bad")[0] == 0
    assert read_plan(path).data.images == 5


def test_a_plan_that_cannot_be_written(weak, source, quick_plans, tmp_path):
    (tmp_path / "file").touch()
    code, _, line = weak("plan", source, "--out", tmp_path / "file" / "plan.yaml")
    assert code == 2
    assert "cannot write" in line


def test_a_run_follows_the_plan_it_is_given(source, stages, tmp_path):
    plan = weakseg.plan(source, out=tmp_path / "plan.yaml")
    weakseg.run(source, tmp_path / "run", plan=tmp_path / "plan.yaml")
    assert stages["classify"].fit.steps == plan.settings["fit.steps"].value
    assert read_plan(tmp_path / "run" / "plan.yaml") == plan
    weakseg.run(source, tmp_path / "run", plan=plan)  # the same: nothing is refused


def test_a_run_makes_its_plan_once(source, stages, quick_plans, tmp_path, capsys):
    out = tmp_path / "run"
    weakseg.run(source, out, until="cams")
    kept = (out / "plan.yaml").read_bytes()
    assert len(quick_plans) == 1
    weakseg.run(source, out)
    assert len(quick_plans) == 1  # another would have other settings on a busier machine
    assert (out / "plan.yaml").read_bytes() == kept
    assert load_config(file=out / "config.yaml").refine.kind == "irn"
    assert "in all" in capsys.readouterr().out


def test_what_is_set_comes_before_the_plan_and_is_told(weak, source, stages, tmp_path):
    extra = tmp_path / "extra.yaml"
    extra.write_text(yaml.safe_dump({"cams": {"long_side": 96}}))
    words = ("--config", extra, "--set", "fit.steps=7", "--set", "seed=3")
    code, text, _ = weak("run", source, "--out", tmp_path / "run", *words)
    assert code == 0
    assert stages["classify"].fit.steps == 7
    assert stages["cams"].cams.long_side == 96
    line = next(line for line in text.splitlines() if "come before" in line)
    assert "--set fit.steps=7" in line
    assert str(extra) in line
    assert "fit.steps is 7 (planned: 441)" in line
    assert "cams.long_side is 96 (planned: 224)" in line
    assert "seed is" not in line  # nothing was planned for it


def test_a_preset_makes_no_plan_and_comes_before_one(weak, source, stages, quick_plans, tmp_path):
    out = tmp_path / "run"
    assert weak("run", source, "--out", out, "--preset", "fast")[0] == 0
    assert not quick_plans
    assert not (out / "plan.yaml").exists()
    assert stages["classify"].fit == load_config("fast").fit
    weak("plan", source, "--out", tmp_path / "plan.yaml")
    words = ("--preset", "fast", "--plan", tmp_path / "plan.yaml", "--out", tmp_path / "both")
    text = weak("run", source, *words)[1]
    assert stages["cams"].cams.long_side == 448
    assert "--preset fast come before" in text
    (out / "plan.yaml").write_bytes((tmp_path / "plan.yaml").read_bytes())
    text = weak("run", source, "--out", out, "--preset", "fast")[1]
    assert "which is not followed" in text


def test_a_run_begun_without_a_plan_goes_on_as_it_was(weak, source, stages, quick_plans, tmp_path):
    out = tmp_path / "run"
    weak("run", source, "--out", out, "--preset", "standard")
    code, text, _ = weak("run", source, "--out", out)
    assert code == 0
    assert "was begun without a plan: --preset standard" in text
    assert not quick_plans


def test_a_plan_is_kept_only_where_the_run_is_not_refused(source, stages, tmp_path):
    out = tmp_path / "run"
    weakseg.run(source, out, preset="standard")
    with pytest.raises(RunError, match="--force"):
        weakseg.run(source, out, plan=weakseg.plan(source))
    assert not (out / "plan.yaml").exists()


def test_a_damaged_plan_of_a_run_is_named(weak, source, stages, tmp_path):
    out = tmp_path / "run"
    weak("run", source, "--out", out)
    (out / "plan.yaml").write_text("format: other\n")
    code, _, line = weak("run", source, "--out", out)
    assert code == 2
    assert "plan.yaml is no plan" in line


def test_wrong_settings_are_found_before_anything_is_measured(source, quick_plans, tmp_path):
    with pytest.raises(ConfigError, match=r"fit\.epocs"):
        weakseg.run(source, tmp_path / "run", overrides=["fit.epocs=2"])
    with pytest.raises(ConfigError, match=r"fit\.epocs"):
        weakseg.plan(source, overrides=["fit.epocs=2"])
    assert not quick_plans


def test_print_config_of_a_plan(weak, source, quick_plans, tmp_path):
    path = tmp_path / "plan.yaml"
    weak("plan", source, "--out", path)
    text = weak("run", "--print-config", "--plan", path, "--set", "seed=4")[1]
    config = yaml.safe_load(text)
    assert config["fit"]["steps"] == 441
    assert config["seed"] == 4


def test_a_plan_that_fits_nothing_is_no_plan(weak, source, quick_plans, tmp_path):
    path = tmp_path / "plan.yaml"
    code, _, line = weak("plan", source, "--out", path, "--minutes", "0.1")
    assert code == 2
    assert "no plan fits 0.1 minutes: the shortest takes about" in line
    assert not path.exists()
    assert weak("plan", source, "--out", path, "--minutes", "-1")[0] == 2
    assert weak("plan", source, "--out", path, "--minutes", "soon")[0] == 2


def test_a_plan_fits_the_minutes_it_is_given(weak, source, quick_plans, tmp_path):
    path = tmp_path / "plan.yaml"
    weak("plan", source, "--out", path)
    minutes = read_plan(path).minutes
    assert weak("plan", source, "--out", path, "--minutes", str(0.7 * minutes))[0] == 0
    plan = read_plan(path)
    assert plan.minutes <= 0.7 * minutes
    assert any(note.startswith("to fit ") for note in plan.notes)
