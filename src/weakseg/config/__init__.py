"""All settings of a run, composed of their owners' own; presets, files, overrides."""

from weakseg.config.run_config import PRESETS, RunConfig, load_config

__all__ = ["PRESETS", "RunConfig", "load_config"]
