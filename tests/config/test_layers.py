from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from weakseg.config.layers import (
    Layer,
    all_keys,
    assemble,
    assignment_layer,
    read_layer,
    to_yaml,
)
from weakseg.types import ConfigError


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fit(Strict):
    epochs: int = Field(5, ge=1, description="passes over the images")
    lr: float = Field(0.01, gt=0)
    scales: tuple[float, ...] = (0.5, 1.0)
    weights: str | None = None

    @model_validator(mode="after")
    def _together(self):
        if self.epochs == 13 and self.lr > 1:
            raise ValueError("13 epochs need lr ≤ 1, got more")
        return self


class Crf(Strict):
    kind: Literal["crf"] = "crf"
    sigma: float = 3.0


class Pamr(Strict):
    kind: Literal["pamr"] = "pamr"
    steps: int = 10


class Config(Strict):
    seed: int = Field(0, description="of all: every 'random' choice")
    device: Literal["auto", "cpu"] = "auto"
    fit: Fit = Fit()
    refine: Crf | Pamr | None = Field(None, discriminator="kind")


def assembled(*assignments):
    return assemble(Config, [assignment_layer(text) for text in assignments])


def message(*assignments):
    with pytest.raises(ConfigError) as error:
        assembled(*assignments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_later_layers_win_key_by_key():
    preset = Layer({"fit": {"epochs": 2, "lr": 1}}, "preset fast")
    found = assemble(Config, [preset, assignment_layer("fit.lr=1e-3")])
    assert found.fit == Fit(epochs=2, lr=0.001)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fit.scales=[1, 2.5]", (1.0, 2.5)),
        ("fit.scales=[]", ()),
        ("fit.weights=a=b.pth", "a=b.pth"),
        ("fit.weights=null", None),
        ("fit.weights='5'", "5"),
        (" fit.epochs = 7", 7),
    ],
)
def test_values_of_assignments_are_yaml(text, value):
    key = text.partition("=")[0].strip().split(".")[1]
    assert getattr(assembled(text).fit, key) == value


@pytest.mark.parametrize("text", ["fit.epochs", "=5", "fit.=5", ".epochs=5", "fit..epochs=5", ""])
def test_assignments_of_another_form(text):
    assert "expected section.key=value" in message(text)


def test_a_value_that_is_no_yaml():
    assert "put lists in [ ]" in message("fit.scales=[1, 2")


@pytest.mark.parametrize(
    "text",
    [
        "x=&x {x: *x}",
        "seed=&x {x: *x}",
        "seed=2001-99-99",
        "seed=" + "[" * 3000,
        "seed=" + "9" * 5000,
        "seed=0x" + "9" * 5000,
        "seed" + ".a" * 3000 + "=1",
        "seed=" + "{a: " * 20 + "1" + "}" * 20,
        "a" * 5000 + "=1",
    ],
)
def test_hostile_assignments_are_told_in_short(text):
    assert len(message(text)) < 6000


@pytest.mark.parametrize(
    ("text", "found", "near"),
    [
        ("fit.epoch=5", "fit.epoch", "fit.epochs"),
        ("epochs=5", "epochs", "fit.epochs"),
        ("Fit.epochs=5", "Fit.epochs", "fit.epochs"),
        ("sead=5", "sead", "seed"),
        ("epochz=5", "epochz", "fit.epochs"),
        ("cams.lr=5", "cams.lr", "fit.lr"),
        ("refine.sigmaa=5", "refine.sigmaa", "refine.sigma"),
        ("quux=5", "quux", None),
    ],
)
def test_unknown_keys_name_the_nearest(text, found, near):
    told = message(text)
    assert f"unknown setting {found!r} (--set {text})" in told
    assert (f"did you mean {near!r}?" if near else "--print-config") in told


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("fit.epochs=five", "fit.epochs"),
        ("fit.epochs=0", "fit.epochs"),
        ("fit.epochs=2.5", "fit.epochs"),
        ("fit.scales=3", "fit.scales"),
        ("fit.scales=[1, x]", "fit.scales"),
        ("fit.lr=nan", "fit.lr"),
        ("fit=3", "fit"),
        ("seed.x=1", "seed"),
        ("device=gpu", "device"),
        ("refine.kind=foo", "refine"),
    ],
)
def test_wrong_values_name_key_value_and_place(text, key):
    told = message(text)
    assert told.startswith(f"{key}: ")
    assert ", got " in told
    if key != "refine":
        assert told.endswith(f"(--set {text})")


def test_a_check_of_a_whole_section_names_all_its_places():
    told = message("fit.lr=2", "fit.epochs=13", "seed=1")
    assert told == "fit: 13 epochs need lr ≤ 1, got more (--set fit.epochs=13, --set fit.lr=2)"


def test_all_wrong_values_are_told_at_once():
    told = message("fit.epochs=0", "seed=x")
    assert "fit.epochs" in told
    assert "seed" in told


def test_a_value_over_a_section_and_back():
    assert assembled("fit=3", "fit.epochs=4").fit.epochs == 4


def test_files(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 3\r\nfit:\r\n  lr: 1e-4\r\n")
    assert assemble(Config, [read_layer(path)]) == Config(seed=3, fit=Fit(lr=1e-4))
    path.write_text("fit:\nseed: 4\n")
    assert assemble(Config, [read_layer(path)]) == Config(seed=4)
    path.write_text("")
    assert assemble(Config, [read_layer(path)]) == Config()
    path.write_text("fit:\n  epoch: 3\n")
    with pytest.raises(
        ConfigError, match=r"'fit\.epoch' \(.*c\.yaml\); did you mean 'fit\.epochs'"
    ):
        assemble(Config, [read_layer(path)])
    path.write_text("3: x\n")
    with pytest.raises(ConfigError, match="unknown setting '3'"):
        assemble(Config, [read_layer(path)])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"fit: {", r"c\.yaml:"),
        (b"- 1\n", "found \\[1\\]"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"seed: 1\nfit: &x {x: *x}\n", r"c\.yaml:2: an anchor &x"),
        (b"fit: " + b"[" * 3000, r"c\.yaml:1: nested"),
        (b"#" * 5_000_000, "longer than"),
        (b"!!python/object/apply:os.getcwd []", r"c\.yaml:1: could not determine a constructor"),
    ],
)
def test_files_that_are_no_settings(tmp_path, content, told):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as error:
        read_layer(path)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*c\.yaml: No such file"):
        read_layer(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            seed=3,
            fit=Fit(lr=1e-7, scales=(), weights="a: b # c, [d] 'e' \"f\" größe\nx"),
            refine=Pamr(steps=3),
        ),
        Config(fit=Fit(weights="null", scales=(1e20, 1e-20))),
        Config(fit=Fit(weights="")),
    ],
)
def test_yaml_round_trip(tmp_path, config):
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert assemble(Config, [read_layer(path)]) == config


def test_yaml_shows_descriptions():
    text = to_yaml(Config())
    assert "seed: 0  # of all: every 'random' choice\n" in text
    assert "fit:\n  epochs: 5  # passes over the images\n" in text
    assert "  scales: [0.5, 1.0]\n" in text


def test_all_keys():
    keys = all_keys(Config)
    assert keys["fit.epochs"] == "passes over the images"
    assert {"seed", "fit", "fit.lr", "refine", "refine.sigma", "refine.steps"} <= keys.keys()
