"""The file of a plan: settings with reasons, and what the run is expected to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weakseg.config.layers import Layer, read_layer
from weakseg.files import write_atomic
from weakseg.planning.choices import Choice, as_layer
from weakseg.planning.data_facts import DataFacts
from weakseg.types import ConfigError

FORMAT: Literal["weakseg-plan-1"] = "weakseg-plan-1"
"""Mark by which a file is known to be a plan."""


class Reasoned(BaseModel):
    """A setting's value and the reason for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Any = Field(description="As in a file of settings.")
    why: str = Field("", description="The reason, in words.")


class Machine(BaseModel):
    """What the plan was made for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(description="cpu, cuda or mps.")
    processors: int = Field(ge=1, description="That this process may use.")
    free_gigabytes: float | None = Field(None, ge=0, description="Memory; null: not known.")
    bf16: bool = Field(description="Whether it computes in bf16.")
    training_images_per_second: float = Field(gt=0, description="Of the classifier.")


class StageEstimate(BaseModel):
    """What a stage is expected to take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = Field(description="Its name.")
    minutes: float = Field(ge=0, description="Of the clock.")
    gigabytes: float = Field(ge=0, description="Memory at its highest.")


class Plan(BaseModel):
    """What a run will be like, and why. `weakseg run SOURCE --plan FILE` uses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["weakseg-plan-1"] = FORMAT
    data: DataFacts = Field(description="What the data are like.")
    machine: Machine = Field(description="What it was made for.")
    minutes: float = Field(ge=0, description="Expected in all.")
    gigabytes: float = Field(ge=0, description="Memory at its highest.")
    disk_gigabytes: float = Field(0.0, ge=0, description="What the run writes.")
    stages: tuple[StageEstimate, ...] = Field(description="The same by stage.")
    notes: tuple[str, ...] = Field((), description="What else is to be known.")
    settings: dict[str, Reasoned] = Field(description="By their keys, as fit.steps.")

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The settings with their reasons."""
        return tuple(Choice(key, own.value, own.why) for key, own in self.settings.items())

    def layer(self, place: str = "the plan") -> Layer:
        """The settings alone, to be laid under others.

        Args:
            place: What to call them in an error, as the file's path.
        """
        return as_layer(self.choices, place)

    def to_yaml(self) -> str:
        """The plan as a file holds it; `read_plan` reads it back."""
        return "".join(_lines(self))

    def save(self, path: Path | str) -> Path:
        """Writes the file, whole or not at all.

        Raises:
            RunError: It cannot be written.
        """
        write_atomic(Path(path), self.to_yaml().encode())
        return Path(path)


def read_plan(path: Path | str) -> Plan:
    """Reads a plan.

    Raises:
        ConfigError: It is missing, or no plan.
    """
    values = read_layer(Path(path)).values
    if values.get("format") != FORMAT:
        raise ConfigError(
            f"{path} is no plan of this version (it has no line `format: {FORMAT}`); make one with "
            "weakseg plan, or give settings with --config"
        )
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ConfigError(
            f"{path}: {where}: {fault['msg']}; correct the line, or make the plan anew"
        ) from None


def reasoned(choices: Sequence[Choice]) -> dict[str, Reasoned]:
    """Choices as a plan holds them; of each setting the last one."""
    return {each.setting: Reasoned(value=each.value, why=each.why) for each in choices}


def _lines(plan: Plan) -> Iterator[str]:
    yield (
        "# A plan of weakseg: `weakseg run SOURCE --plan FILE` uses it. Values may be changed;\n"
        "# what --preset, --config and --set say comes before.\n"
    )
    values = plan.model_dump(mode="json")
    for key in ("settings", "stages", "notes"):
        values.pop(key)
    yield _yaml(values)
    yield "stages:\n"
    for own in plan.stages:
        yield f"- {_flow(own.model_dump(mode='json'))}\n"
    yield _yaml({"notes": list(plan.notes)})
    yield "settings:\n"
    for key, each in plan.settings.items():
        yield f"  {key}:\n    value: {_flow(each.value)}\n    why: {_flow(each.why)}\n"


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return text


def _flow(value: object) -> str:
    # As an item of a list: a document of a scalar alone would end in `...`.
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return text.strip().removeprefix("[").removesuffix("]")
