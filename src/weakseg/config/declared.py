"""The settings that a stage declares, and no others: so that its fingerprint cannot lie."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from weakseg.config.run_config import ENVIRONMENT, RunConfig

_EVERYWHERE = frozenset(("seed",))


class _Declared:
    """Passes on the settings that are declared; any other is an error of whoever reads it."""

    __slots__ = ("_names", "_prefix", "_settings", "_stage")

    def __init__(self, settings: object, stage: str, names: frozenset[str], prefix: str) -> None:
        self._settings, self._stage, self._names, self._prefix = settings, stage, names, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        key = f"{self._prefix}{name}"
        if key in self._names:
            return getattr(self._settings, name)
        if any(declared.startswith(f"{key}.") for declared in self._names):
            inner = getattr(self._settings, name)
            return _Declared(inner, self._stage, self._names, f"{key}.")
        raise UndeclaredSettingError(
            f"stage {self._stage!r} reads the setting {key!r}, which its row in pipeline.STAGES "
            "does not declare; add it to the row's `reads`"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _Declared, (self._settings, self._stage, self._names, self._prefix)


class UndeclaredSettingError(RuntimeError):
    """A stage reads a setting that its row in the table of stages does not declare."""


def declared_settings(config: RunConfig, stage: str, reads: Iterable[str]) -> RunConfig:
    """The settings as a stage may read them.

    Args:
        config: All settings.
        stage: The stage, for the error.
        reads: Sections, or single settings as `refine.maps`. The seed, and what says only where and
            how fast to compute (`ENVIRONMENT`), may always be read.

    Returns:
        What looks like the settings. Reading another one is an `UndeclaredSettingError`.

    Example:
        >>> settings = declared_settings(load_config("fast"), "cams", ["cams"])  # doctest: +SKIP
        >>> settings.cams.long_side  # doctest: +SKIP
        448
    """
    names = frozenset(reads) | ENVIRONMENT | _EVERYWHERE
    return cast(RunConfig, _Declared(config, stage, names, ""))
