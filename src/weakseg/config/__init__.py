"""All settings of a run, composed of their owners' own; presets, files, overrides."""

from weakseg.config.run_config import PRESET_SPLITS, PRESETS, RunConfig, load_config

__all__ = ["PRESETS", "PRESET_SPLITS", "RunConfig", "load_config"]
