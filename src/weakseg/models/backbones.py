"""Any timm backbone as a stem and four stages: strides, widths, frozen norms, weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from weakseg.models.chains import cut_by_strides, cut_chain, dilate, example_images
from weakseg.models.cpu.batch_norm import fold_batch_norms
from weakseg.models.state_names import NamedState, StateNames, module_paths
from weakseg.models.transformers import Features, cut_swin, cut_vit, feature_map
from weakseg.models.weights import OFFLINE_BACKBONE, load_weights
from weakseg.types import ConfigError

_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class BackboneKind:
    """A family of networks that are cut alike: a row of `BACKBONE_KINDS`.

    Attributes:
        modules: The modules of timm that define them; empty: all others.
        cut: From a network of timm, its name and its images' channels to the stem and four stages,
            each a module from features to features (see `Features`).
        options: Further arguments for `timm.create_model`.
        dilates: Whether it is a network of convolutions, whose last grid can be made finer.
        cells: Sides of images are to be multiples of so many cells of the last grid.
    """

    modules: tuple[str, ...]
    cut: Callable[[Any, str, int], tuple[nn.Module, list[nn.Module]]]
    options: Mapping[str, object] = field(default_factory=dict)
    dilates: bool = False
    cells: int = 1


BACKBONE_KINDS: Mapping[str, BackboneKind] = {
    "vit": BackboneKind(
        ("vision_transformer", "deit", "eva"), cut_vit, {"dynamic_img_size": True}, cells=2
    ),
    "swin": BackboneKind(("swin_transformer",), cut_swin, {"strict_img_size": False}),
    "chain": BackboneKind((), cut_chain, dilates=True),
}
"""How networks of timm are cut, the first that fits; a new kind is a new row."""

_BY_STRIDES = BackboneKind((), cut_by_strides, dilates=True)
"""Of other libraries."""

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

_CHAIN_CELL = 32
"""Sides of images for networks of convolutions are multiples of this, in pixels."""


class BackboneSettings(BaseModel):
    """Which network extracts features from the images.

    Attributes:
        name: A timm model: one whose `forward_features` is a chain of its parts (ResNet, RegNet,
            EfficientNet, MobileNet, ConvNeXt, DenseNet, …), or a transformer (ViT, DeiT, DINOv2,
            EVA, Swin).
        weights: `auto` (the packaged file for tf_efficientnet_lite0, timm's own for all others),
            `timm` (timm's own, from the hub), `none` (random), or the path of a state file
            (`.safetensors`, or `.pth` holding tensors only).
        in_chans: Channels of the images: 1 (gray), 3 (RGB), or as many bands as their files have.
            Pretrained weights are fitted to other numbers than 3 by timm.
        output_stride: Pixels of the image per cell of the last feature grid of networks of
            convolutions; a transformer's grid is its own.
        freeze_stages: How many stages stay as they are, counted from the stem; 0 freezes the stem
            alone, 1 the stem and the first stage.
        freeze_norms: Whether batch norms keep their pretrained statistics while training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(OFFLINE_BACKBONE, description="a timm model")
    weights: str = Field("auto", description="auto, timm, none, or the path of a state file")
    in_chans: int = Field(3, ge=1, le=64, description="channels of the images: 1, 3, or bands")
    output_stride: Literal[8, 16, 32] = Field(16, description="pixels per cell of the last grid")
    freeze_stages: int = Field(1, ge=0, le=3, description="stages that stay as they are")
    freeze_norms: bool = Field(True, description="keep the batch norms' pretrained statistics")


class Backbone(NamedState):
    """A timm network cut into a stem and four stages.

    The parts run one after the other give exactly timm's `forward_features`.
    Its state has timm's own names: the same model of timm loads it, but for the classifier.

    Attributes:
        stem: What comes before the first stage.
        stages: Four modules, ending at strides 4, 8, 16 and 32 before dilation.
        widths: Channels after the stem and each stage, five numbers.
        strides: Pixels per cell after the stem and each stage, five numbers.
        cell: Sides of images are best multiples of this, in pixels.
        dilates: Whether it is a network of convolutions.
        mean: Channel means the weights expect of images in 0..1.
        std: Channel standard deviations the weights expect of images in 0..1.

    Example:
        >>> backbone = Backbone(BackboneSettings(name="resnet18", weights="none"))
        >>> backbone.widths
        (64, 64, 128, 256, 512)
    """

    def __init__(
        self, settings: BackboneSettings, *, load: bool = True, network: Any = None
    ) -> None:
        """Build the network and load its weights, or take one that is there.

        Args:
            settings: Which network.
            load: False leaves the weights random: a state is loaded right after.
            network: A classifier of timm or torchvision, taken apart, with its weights; None: one
                of this name is made.

        Raises:
            ConfigError: timm has no such model, or it cannot be cut into stages or dilated.
            WeightsError: The weights cannot be had or do not fit.
        """
        super().__init__()
        if network is None:
            kind = _kind(settings.name)
            model = _create(settings.name, kind, settings.in_chans)
            if load:
                load_weights(model, settings.name, settings.weights)
        else:
            kind, model = _kind_of(network), network
        names = {id(part): name for name, part in model.named_modules()}
        stem, stages = kind.cut(model, settings.name, settings.in_chans)
        self.stem, self.stages = stem, nn.ModuleList(stages)
        if kind.dilates:
            for stage_index, reduction in enumerate((4, 8, 16, 32)):
                if reduction > settings.output_stride:
                    factor = reduction // settings.output_stride
                    dilate(self.stages[stage_index], factor // 2, factor)
        self.settings, self.cell, self.dilates = settings, _cell(model, kind), kind.dilates
        trained = getattr(model, "pretrained_cfg", _IMAGENET)
        self.mean, self.std = (
            _per_channel(trained[key], settings.in_chans) for key in ("mean", "std")
        )
        try:
            self.widths, self.strides = self._probe()
        except RuntimeError:
            self.widths, self.strides = (), (0,)
        if kind.dilates and self.strides[-1] != settings.output_stride:
            raise ConfigError(
                f"backbone.output_stride: {settings.name} cannot be run at stride "
                f"{settings.output_stride}; use output_stride: 32"
            )
        if kind.dilates:
            self._fold()
        self.state_names = StateNames(self, module_paths(self, names))
        for part in (self.stem, *self.stages[: settings.freeze_stages]):
            part.requires_grad_(False)

    @torch.no_grad()
    def _probe(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        side = 2 * self.cell
        x: Features = torch.zeros(1, self.settings.in_chans, side, side)
        widths, strides = [], []
        self.eval()
        for part in (self.stem, *self.stages):
            x = part(x)
            widths.append(feature_map(x).shape[1])
            strides.append(side // feature_map(x).shape[-1])
        self.train()
        return tuple(widths), tuple(strides)

    @torch.no_grad()
    def _fold(self) -> None:
        """Fold the norms of what is frozen, and all where norms are."""
        x = example_images(self.settings.in_chans, 64)
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
            x: Images [B,C,H,W], normalized by `mean` and `std`.

        Returns:
            Five tensors [B,C_i,h_i,w_i] of `widths` at `strides`.
        """
        features = []
        found: Features = x
        for part in (self.stem, *self.stages):
            found = part(found)
            features.append(feature_map(found))
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


@functools.cache
def cell_of(name: str) -> int:
    """What sides of images are best multiples of for a network, in pixels.

    So its grid covers an image to the edges, also at half the size.

    Raises:
        ConfigError: timm has no such model.
    """
    kind = _kind(name)
    if kind.dilates:
        return _CHAIN_CELL
    with torch.device("meta"):
        return _cell(_create(name, kind, 3), kind)


@functools.cache
def parameter_count(name: str) -> int:
    """How many weights a network of timm has, its classifier included.

    Raises:
        ConfigError: timm has no such model.
    """
    with torch.device("meta"):
        return sum(weight.numel() for weight in _create(name, _kind(name), 3).parameters())


def has_whole_attention(name: str) -> bool:
    """Whether every token of a network of timm looks at all of the image: a ViT, DeiT or EVA."""
    return _kind(name) is BACKBONE_KINDS["vit"]


def _cell(model: Any, kind: BackboneKind) -> int:
    if kind.dilates:
        return _CHAIN_CELL
    if hasattr(model, "layers"):  # each halves the grid of the patches but for the first
        return int(model.patch_embed.patch_size[0] * 2 ** (len(model.layers) - 1))
    return int(kind.cells * max(model.patch_embed.patch_size))


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    """A mean or deviation of each channel: of other channels than RGB that of all three."""
    found = tuple(float(value) for value in values)
    if len(found) == channels:
        return found
    return (sum(found) / len(found),) * channels


def _kind(name: str) -> BackboneKind:
    try:
        module = timm.models.model_entrypoint(name.split(".", maxsplit=1)[0]).__module__
    except (KeyError, RuntimeError):
        module = ""
    return _kind_of_module(module)


def _kind_of(network: nn.Module) -> BackboneKind:
    """The kind of a network that is there."""
    module = type(network).__module__
    if not module.startswith("timm."):
        return _BY_STRIDES
    return _kind_of_module(module)


def _kind_of_module(module: str) -> BackboneKind:
    last = module.rpartition(".")[2]
    return next(
        kind for kind in BACKBONE_KINDS.values() if not kind.modules or last in kind.modules
    )


def _create(name: str, kind: BackboneKind, channels: int) -> Any:
    try:
        return timm.create_model(name, pretrained=False, in_chans=channels, **kind.options)
    except RuntimeError as error:
        near = timm.list_models(f"*{name.split('.', maxsplit=1)[0][:8]}*")[:5]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ConfigError(f"backbone.name: timm has no model {name!r}{hint}") from error
