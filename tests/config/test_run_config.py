import pytest
from pydantic import BaseModel

from weakseg.config.layers import all_keys
from weakseg.config.run_config import ENVIRONMENT, PRESETS, RunConfig, load_config
from weakseg.types import ConfigError


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads_and_comes_back_from_yaml(preset, tmp_path):
    config = load_config(preset)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    for other in PRESETS:
        assert load_config(other, path) == config


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(
        ConfigError, match="unknown preset 'fats'; known: fast, standard, paper-voc"
    ):
        load_config("fats")


def test_the_later_wins(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\nfit:\n  epochs: 2\n  lr: 0.5\n")
    config = load_config("fast", str(path), ["fit.epochs=9", "fit.epochs=8"])
    assert (config.seed, config.fit.epochs, config.fit.lr) == (3, 8, 0.5)


def test_faults_name_their_place(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("fit:\n  epocs: 2\n")
    with pytest.raises(
        ConfigError, match=r"'fit\.epocs' \(.*c\.yaml\); did you mean 'fit\.epochs'"
    ):
        load_config(file=path)
    with pytest.raises(ConfigError, match=r"device: .*'tpu' \(--set device=tpu\)"):
        load_config(overrides=["device=tpu"])


def test_every_key_is_described_in_one_line_of_the_yaml():
    keys = all_keys(RunConfig)
    assert [key for key, description in keys.items() if not description] == []
    lines = load_config().to_yaml().splitlines()
    assert len(lines) >= len(keys) - 20  # sections that are null have no lines for their keys
    assert [line for line in lines if len(line) > 100 or "  # " not in line] == []


def test_all_settings_are_frozen_and_refuse_unknown_keys():
    def walk(model):
        assert model.model_config.get("frozen"), model
        assert model.model_config.get("extra") == "forbid", model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation)

    walk(RunConfig)


def test_where_it_is_computed_is_in_no_fingerprint():
    assert set(all_keys(RunConfig)) >= ENVIRONMENT
    names = tuple(RunConfig.model_fields)
    here = load_config().sections(names)
    there = load_config(
        overrides=[
            "device=cpu",
            "precision=fp32",
            "fit.workers=3",
            "cams.batch_size=2",
            "relate.fit.workers=0",
        ]
    ).sections(names)
    assert here == there
    assert load_config(overrides=["fit.epochs=77"]).sections(names) != here
    assert "fit.batch_size" in here


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("fit.optimizer=adamw", "fit.optimizer"),
        ("fit.least_steps=9", "fit.least_steps"),
        ("dry_run=2", "dry_run"),
    ],
)
def test_what_changes_nothing_is_in_no_fingerprint(setting, key):
    usual = load_config("fast").sections(("fit", "dry_run"))
    assert key not in usual
    changed = load_config("fast", overrides=[setting]).sections(("fit", "dry_run"))
    assert changed.keys() - usual.keys() == {key}
