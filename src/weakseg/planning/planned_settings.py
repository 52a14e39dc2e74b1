"""Where the settings of a run come from: a preset, a plan, and what comes before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from weakseg.config.layers import Layer, assemble, assignment_layer, read_layer
from weakseg.config.run_config import PRESETS, RunConfig, load_config
from weakseg.pipeline import OF_MAPS
from weakseg.planning.plan_file import Plan, read_plan
from weakseg.runs.processes import told
from weakseg.runs.run_dir import PLAN, RunDir
from weakseg.types import ConfigError

BEFORE_PLANS = "standard"
"""The preset of runs that were begun without a plan."""


@dataclass(frozen=True)
class ChosenSettings:
    """All settings of a run.

    Attributes:
        config: The settings.
        plan: The plan that they follow; None: they follow none.
        notes: What is to be said of them.
    """

    config: RunConfig
    plan: Plan | None = None
    notes: tuple[str, ...] = ()


def layers_over(
    preset: str | None, file: Path | str | None, overrides: Sequence[str]
) -> list[Layer]:
    """What comes before a plan, the later over the earlier; all of it is checked.

    Args:
        preset: One of `PRESETS`; None: none.
        file: A YAML file of settings; None: none.
        overrides: Single settings, as `fit.steps=100`.

    Raises:
        ConfigError: The preset or a key is unknown, a value wrong, or the file unreadable.
    """
    layers = []
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        layers.append(Layer(PRESETS[preset], f"--preset {preset}"))
    if file is not None:
        layers.append(read_layer(Path(file)))
    layers += [assignment_layer(text) for text in overrides]
    assemble(RunConfig, layers)
    return layers


def settings_by_preset(
    preset: str, file: Path | str | None, overrides: Sequence[str], folder: RunDir
) -> ChosenSettings:
    """Settings without a plan; a plan that the run has is left aside.

    Raises:
        ConfigError: As for `load_config`.
    """
    config = load_config(preset, file, overrides)
    if (folder.path / PLAN).is_file():
        note = f"--preset {preset} comes before {folder.path / PLAN}, which is not followed"
        return ChosenSettings(config, notes=(note,))
    return ChosenSettings(config)


def settings_by_plan(plan: Plan, over: Sequence[Layer], place: Path | str) -> ChosenSettings:
    """Settings by a plan and what comes before it.

    Args:
        plan: The plan.
        over: What comes before it.
        place: What to call the plan, as `runs/cats/plan.yaml`.

    Raises:
        ConfigError: A setting of the plan is unknown or wrong.
    """
    config = assemble(RunConfig, [plan.layer(str(place)), *over])
    values = config.model_dump(mode="json")
    given_way = []
    for key, own in plan.settings.items():
        now = reduce(lambda section, name: section[name], key.split("."), values)
        if now != own.value:
            given_way.append(f"{key} is {now} (planned: {own.value})")
    if not given_way:
        return ChosenSettings(config, plan)
    places = ", ".join(dict.fromkeys(layer.place for layer in over))
    return ChosenSettings(config, plan, (f"{places} come before {place}: {', '.join(given_way)}",))


@dataclass(frozen=True)
class AskedSettings:
    """What somebody who starts a run asked for.

    Attributes:
        folder: The run's folder.
        chosen: The settings, where no plan has to be read or made for them.
        over: What comes before a plan.
    """

    folder: RunDir
    chosen: ChosenSettings | None
    over: Sequence[Layer] = ()

    @classmethod
    def of(
        cls,
        folder: RunDir,
        preset: str | None,
        plan: Plan | Path | str | None,
        config: RunConfig | Path | str | None,
        overrides: Sequence[str],
        *,
        maps: bool = False,
    ) -> AskedSettings:
        """Brings together what was asked for, see `weakseg.run`.

        Args:
            folder: The run's folder.
            preset: One of `PRESETS`, or None.
            plan: A plan, or the file of one.
            config: A file of settings, or all of them.
            overrides: Single settings.
            maps: Whether the run begins with maps of another program; then no plan is made.

        Raises:
            ConfigError: A setting is unknown or wrong, or a file cannot be read.
            ValueError: Settings are given both as a `RunConfig` and otherwise.
        """
        if isinstance(config, RunConfig):
            others = {"overrides": overrides, "maps": maps, "a plan": plan}
            for other in (name for name, given in others.items() if given):
                raise ValueError(f"expected {other} or a RunConfig, got both")
            return cls(folder, ChosenSettings(config))
        if maps:
            overrides = (*OF_MAPS, *overrides)
            preset = BEFORE_PLANS if preset is None and plan is None else preset
        if plan is not None:
            over = layers_over(preset, config, overrides)
            place = "the plan" if isinstance(plan, Plan) else plan
            known = plan if isinstance(plan, Plan) else read_plan(plan)
            return cls(folder, settings_by_plan(known, over, place), over)
        if preset is not None:
            return cls(folder, settings_by_preset(preset, config, overrides, folder))
        return cls(folder, None, layers_over(None, config, overrides))

    @property
    def config(self) -> RunConfig:
        """All settings, as far as they are known without making a plan."""
        return self.chosen.config if self.chosen else assemble(RunConfig, self.over)

    def settled(self, made: Callable[[], Plan] | None = None) -> ChosenSettings:
        """The settings: where nothing else was asked for, by the run's own plan, or a new one.

        A run that was begun with a plan goes on with it: another would have other steps and sizes
        where the machine is busier. Of several processes all come here; the first one reads or
        makes the plan.

        Args:
            made: Makes a plan; called in the first process, where the folder is no run yet.

        Raises:
            ConfigError: The run's plan is damaged, or a setting wrong.
        """
        if self.chosen is not None:
            return self.chosen
        place, found = self.folder.path / PLAN, None
        if made is not None and place.is_file():
            found = read_plan(place)
        elif made is not None and not self.folder.is_run:
            found = made()
        values = told(found.model_dump(mode="json") if found else None)
        if values is not None:
            return settings_by_plan(Plan.model_validate(values), self.over, place)
        standard = Layer(PRESETS[BEFORE_PLANS], f"--preset {BEFORE_PLANS}")
        note = f"{self.folder.path} was begun without a plan: {standard.place}"
        return ChosenSettings(assemble(RunConfig, [standard, *self.over]), notes=(note,))


def printed_settings(
    preset: str | None, plan: Path | None, file: Path | None, overrides: Sequence[str]
) -> RunConfig:
    """All settings that are known without a source: by a plan, or by a preset, else `standard`.

    Raises:
        ConfigError: As for `layers_over` and `read_plan`.
    """
    if plan is None:
        return load_config(preset or BEFORE_PLANS, file, overrides)
    return settings_by_plan(read_plan(plan), layers_over(preset, file, overrides), plan).config
