"""Parameter names in state files: those of the libraries that the parts come from."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

from torch import nn

Value = TypeVar("Value")


class StateNames:
    """How the modules of a network are called in its state file.

    A network that is cut, folded or copied still holds the modules of the library's network that
    it was made from. Its own paths to them are an inner matter; a state file names them as the
    library does, so that other tools can load it.

    Args:
        network: The network as it stands, its tensors under their own names.
        paths: From a module's own path to its path in the state file; what lies below a module
            follows it, and what lies below none keeps its name.
    """

    def __init__(self, network: nn.Module, paths: Mapping[str, str]) -> None:
        self.paths = dict(paths)
        self._names = {key: self._saved(key) for key in nn.Module.state_dict(network)}

    def _saved(self, key: str) -> str:
        path = key.rpartition(".")[0]
        while path and path not in self.paths:
            path = path.rpartition(".")[0]
        if not path:
            return key
        below = key.removeprefix(f"{path}.")
        return ".".join(part for part in (self.paths[path].removesuffix("."), below) if part)

    def rename(self, state: MutableMapping[str, Value], prefix: str, *, loading: bool) -> None:
        """Rename a network's tensors in place: to the state file's names, or back from them.

        Args:
            state: Its tensors, and maybe others.
            prefix: What the names of its own begin with.
            loading: Whether the names are those of a state file; what it does not have is left out.
        """
        names = self._names
        if loading:
            names = {saved: own for own, saved in names.items()}
        taken = {
            new: state.pop(f"{prefix}{old}")
            for old, new in names.items()
            if f"{prefix}{old}" in state
        }
        state.update({f"{prefix}{new}": value for new, value in taken.items()})


class NamedState(nn.Module):
    """A network whose state file has other names than its modules, see `StateNames`."""

    state_names: StateNames

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As `nn.Module.state_dict`, with the names of the state file."""
        state = super().state_dict(*args, **kwargs)
        self.state_names.rename(state, kwargs.get("prefix", ""), loading=False)
        return state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self.state_names.rename(state_dict, prefix, loading=True)
        super()._load_from_state_dict(state_dict, prefix, *args)


def module_paths(network: nn.Module, names: Mapping[int, str]) -> dict[str, str]:
    """From the own path of a network's modules to what another network called the same modules.

    Args:
        network: As it stands.
        names: By the `id` of a module its path in the other network.
    """
    modules = network.named_modules(remove_duplicate=False)
    return {path: names[id(part)] for path, part in modules if id(part) in names}


def moved_paths(paths: Mapping[str, str], parts: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The paths of parts of a network that have come to stand somewhere else.

    Args:
        paths: Of the network that they were taken from, see `module_paths`.
        parts: From the new own path of each part to its path there.
        prefix: What comes before their names in the new state file.
    """
    return {
        f"{new}{path.removeprefix(old)}": f"{prefix}{name}"
        for new, old in parts.items()
        for path, name in paths.items()
        if path == old or path.startswith(f"{old}.")
    }
