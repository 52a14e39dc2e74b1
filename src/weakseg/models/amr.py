"""Activation modulation and recalibration: the attention modulation module and the two branches."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from weakseg.models.backbones import Backbone, BackboneSettings, keep_frozen
from weakseg.models.state_names import NamedState, StateNames, moved_paths
from weakseg.models.transformers import Features, TokenNorm, feature_map, on_feature_map
from weakseg.shared_batch import shared_mean, sharing_processes
from weakseg.types import ConfigError

Amplitude = Literal["density", "unit", "mean"]
Statistics = Literal["per_sample", "per_batch"]
Placement = Literal["stage", "block", "none"]
Supervision = Literal["refined", "maps"]


class AMRSettings(BaseModel):
    """The branches on a backbone and how the second one is modulated.

    Attributes:
        compensation: Whether there is a compensation branch; without it the network is a plain
            CAM network.
        supervision: How the compensation branch is corrected by the spotlight. `refined`: it learns
            at every position what the spotlight's refined map is sure of; its maps are
            probabilities then. `maps`: by the distance of the two branches' maps (the paper).
        shared_stages: How many stages both branches share, counted from the stem; frozen stages
            are shared in any case. What is shared is computed once; the branches' own stages are
            modulated.
        placement: Where the attention modulation modules stand: `stage`, before each stage of the
            branch (the paper's figure), `block`, on the residual branch of every block before the
            addition (the released code), or `none`: the branch is not modulated.
        amplitude: Height of the Gaussian, see `AttentionModulation`.
        statistics: Over what its mean and deviation are taken, see `AttentionModulation`.
        reduction: By how much the channel module's hidden layer is narrower than its input.
        gated: Whether the modulation begins as no modulation and its strength is learnt, see
            `AttentionModulation`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compensation: bool = Field(True, description="whether there is a compensation branch")
    supervision: Supervision = Field("refined", description="refined or maps")
    shared_stages: int = Field(1, ge=0, le=3, description="stages that both branches share")
    placement: Placement = Field("stage", description="stage, block or none")
    amplitude: Amplitude = Field("mean", description="density, unit or mean")
    statistics: Statistics = Field("per_sample", description="per_sample or per_batch")
    reduction: int = Field(16, ge=1, description="narrowing of the channel module's hidden layer")
    gated: bool = Field(True, description="the modulation's strength is learnt, from 0 on")


class BranchOutput(NamedTuple):
    """What a branch says of B images and K classes.

    Attributes:
        logits: Class scores [B,K], the mean of the maps before the rectification.
        cams: Class activation maps [B,K,h,w] on the last grid: relu(W·F), unbounded above, or of a
            branch whose scores are probabilities' logits σ(W·F), in 0..1.
        scores: W·F itself [B,K,h,w].
    """

    logits: Tensor
    cams: Tensor
    scores: Tensor


class AMROutput(NamedTuple):
    """The outputs of both branches; `compensation` is None in a plain CAM network."""

    spotlight: BranchOutput
    compensation: BranchOutput | None


class AttentionModulation(nn.Module):
    """Attention modulation module (AMM): channel, then spatial, each through a Gaussian.

    Middling activations are raised, the strongest and the weakest lowered:
    F_c = F · g(MLP(mean_hw F)), F_s = F_c · g(conv7×7[max_C F_c; mean_C F_c]), with
    g(x) = exp(−(x − μ)² / 2σ²) · amplitude, where μ and the unbiased deviation σ are those of x and
    carry no gradient. Activation Modulation and Recalibration (AAAI 2022), equations 3 to 6.

    The module fits timm's `attn_layer` slot and any feature map.

    Args:
        channels: C, channels of the feature map.
        reduction: The hidden layer has max(1, C / reduction) channels.
        amplitude: `density`: 1 / (√(2π)·σ), the normal density (released code); `unit`: 1, so that
            features never grow; `mean`: what makes the modulation's mean 1, so that features keep
            their scale and frozen batch norms stay valid.
        statistics: `per_sample`: μ and σ over the channels (positions) of each image;
            `per_batch`: over the whole batch (released code), which makes an image's output depend
            on its batch mates.
        gated: Modulates with 1 + γ·(g(x) − 1) instead of g(x), with γ learnt from 0 on, one for the
            channels and one for the positions: a trained network stays what it is at first. False:
            the paper's.
        device: Where the parameters are made.
        dtype: Their type.

    Raises:
        ValueError: A number is below 1, or a word is none of those.

    Example:
        >>> amm = AttentionModulation(64)
        >>> amm(torch.rand(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        amplitude: Amplitude = "mean",
        statistics: Statistics = "per_sample",
        *,
        gated: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(
                f"expected channels ≥ 1 and reduction ≥ 1, got {channels} and {reduction}"
            )
        for value, known in ((amplitude, get_args(Amplitude)), (statistics, get_args(Statistics))):
            if value not in known:
                raise ValueError(f"expected one of {', '.join(known)}, got {value!r}")
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        hidden = max(1, channels // reduction)
        self.channels, self.amplitude, self.statistics = channels, amplitude, statistics
        self.squeeze = nn.Linear(channels, hidden, **place)
        self.expand = nn.Linear(hidden, channels, **place)
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False, **place)
        self.norm = nn.BatchNorm2d(1, **place)
        self.strength: nn.Parameter | None = None
        if gated:
            self.strength = nn.Parameter(torch.zeros(2, **place))

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor: ...  # noqa: D102

    def forward(self, x: Tensor) -> Tensor:
        """Modulate a feature map.

        Args:
            x: Features [B,C,h,w].

        Returns:
            Modulated features [B,C,h,w].

        Raises:
            ValueError: The input is not [B,C,h,w] with this module's C.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"expected features [B,{self.channels},h,w], got {tuple(x.shape)}")
        # Means and deviations of bf16 values lose what the Gaussian needs.
        with torch.autocast(x.device.type, enabled=False):
            return self._modulated(x.to(self.conv.weight.dtype)).to(x.dtype)

    def _modulated(self, x: Tensor) -> Tensor:
        channel = self.expand(torch.relu(self.squeeze(x.mean(dim=(2, 3)))))
        x = x * self._modulation(channel, 0).to(x.dtype)[:, :, None, None]
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        spatial: Tensor = self.norm(self.conv(pooled))
        modulated: Tensor = x * self._modulation(spatial, 1).to(x.dtype)
        return modulated

    def _modulation(self, x: Tensor, place: int) -> Tensor:
        gaussian = self._gaussian(x)
        if self.strength is None:
            return gaussian
        return 1 + self.strength[place] * (gaussian - 1)

    def _gaussian(self, x: Tensor) -> Tensor:
        x = x.float()
        over = tuple(range(x.ndim)) if self.statistics == "per_batch" else tuple(range(1, x.ndim))
        detached = x.detach()
        shared = self.statistics == "per_batch" and self.training
        mean = detached.mean(dim=over, keepdim=True)
        mean = shared_mean(mean) if shared else mean
        count = math.prod(x.shape[axis] for axis in over)
        if shared and sharing_processes() > 1:
            variance = shared_mean((detached - mean).square().mean(dim=over, keepdim=True))
            count *= sharing_processes()
            deviation = (variance * (count / (count - 1))).sqrt().clamp_min(1e-6)
        elif count > 1:
            deviation = detached.std(dim=over, keepdim=True).clamp_min(1e-6)
        else:
            deviation = torch.ones_like(mean)
        modulation = torch.exp(-((x - mean) ** 2) / (2 * deviation**2))
        if self.amplitude == "density":
            return modulation / (math.sqrt(2 * math.pi) * deviation)
        if self.amplitude == "mean":
            usual = modulation.detach().mean(dim=over, keepdim=True)
            return modulation / (shared_mean(usual) if shared else usual)
        return modulation


class Branch(nn.Module):
    """The stages of a backbone that a branch has for itself, modulated or not, and the CAM head.

    Args:
        stages: The stages after the shared part; taken over, not copied.
        widths: Channels before the first of them and after each.
        classes: K, number of classes.
        modulation: Settings of the attention modulation modules, or None for a plain branch.
        probabilities: Whether the maps are σ(W·F) instead of relu(W·F).
    """

    def __init__(
        self,
        stages: nn.ModuleList,
        widths: tuple[int, ...],
        classes: int,
        modulation: AMRSettings | None = None,
        *,
        probabilities: bool = False,
    ) -> None:
        super().__init__()
        self.stages, self.probabilities = stages, probabilities
        self.modulation = nn.ModuleList()
        if modulation is not None and modulation.placement == "stage":
            self.modulation.extend(_modulation(width, modulation) for width in widths[:-1])
        elif modulation is not None and modulation.placement == "block":
            for stage, width in zip(stages, widths, strict=False):
                _modulate_blocks(stage, width, modulation)
        self.head = nn.Conv2d(widths[-1], classes, 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)

    if TYPE_CHECKING:

        def __call__(self, x: Features) -> BranchOutput: ...  # noqa: D102

    def forward(self, x: Features) -> BranchOutput:
        """Class scores and class activation maps from the shared features."""
        return self.classify(self.features(x))

    def features(self, x: Features) -> Tensor:
        """Last features [B,C,h,w] from the shared features."""
        return feature_map(self.stage_features(x)[-1])

    def stage_features(self, x: Features) -> list[Features]:
        """What the shared features become after each of its stages."""
        reached = []
        for index, stage in enumerate(self.stages):
            if index < len(self.modulation):
                x = on_feature_map(self.modulation[index], x)
            x = stage(x)
            reached.append(x)
        return reached

    def classify(self, features: Tensor) -> BranchOutput:
        """Class scores and class activation maps from the last features [B,C,h,w]."""
        scores = functional.conv2d(features, self.head.weight).float()
        logits = scores.mean(dim=(2, 3))
        if self.head.bias is not None:  # no part of a map: it is the same everywhere
            logits = logits + self.head.bias
        cams = scores.sigmoid() if self.probabilities else torch.relu(scores)
        return BranchOutput(logits, cams, scores)


class AMR(NamedState):
    """Spotlight and compensation branch on one backbone.

    The stem and the first stages are shared and computed once, the frozen ones of them without
    gradient; each branch has its own copy of the other stages and its own head. Activation
    Modulation and Recalibration (AAAI 2022), figure 2.

    The state has timm's own names: below `backbone.` the spotlight's stem and stages, below
    `compensation.backbone.` the other branch's stages.

    Args:
        classes: K, number of classes.
        backbone: Which network: its settings, timm's name of it, or a classifier of timm or
            torchvision itself, whose stages are copied with their weights.
        settings: Which branches, and how the second is modulated.
        load: False leaves the weights random: a state is loaded right after.

    Raises:
        ConfigError: The backbone cannot be cut into stages or dilated.
        ValueError: There is no class.
        WeightsError: Its weights cannot be had.

    Example:
        >>> model = AMR(20, BackboneSettings(name="resnet18", weights="none"))
        >>> output = model(torch.rand(2, 3, 224, 224))
        >>> output.spotlight.cams.shape
        torch.Size([2, 20, 14, 14])
    """

    def __init__(
        self,
        classes: int,
        backbone: BackboneSettings | str | nn.Module | None = None,
        settings: AMRSettings | None = None,
        *,
        load: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(classes, int) or classes < 1:
            raise ValueError(f"expected classes ≥ 1, how many there are, got {classes!r}")
        network = _backbone(backbone, load=load)
        self._assemble(network, classes, settings or AMRSettings())

    def _assemble(self, network: Backbone, classes: int, settings: AMRSettings) -> None:
        backbone = network.settings
        frozen = backbone.freeze_stages
        split = max(frozen, settings.shared_stages)
        self.settings, self.backbone_settings, self.classes = settings, backbone, classes
        self.widths, self.strides, self.cell = network.widths, network.strides, network.cell
        self.frozen = nn.Sequential(network.stem, *network.stages[:frozen])
        self.shared = nn.Sequential(*network.stages[frozen:split])
        stages, widths = network.stages[split:], network.widths[split:]
        self.spotlight = Branch(stages, widths, classes)
        self.compensation: Branch | None = None
        if settings.compensation:
            self.compensation = Branch(
                copy.deepcopy(stages),
                widths,
                classes,
                settings,
                probabilities=settings.supervision == "refined",
            )
        self.state_names = self._state_names(network.state_names.paths, frozen, split)
        self.register_buffer("mean", torch.tensor(network.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(network.std).view(-1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> AMROutput: ...  # noqa: D102

    def forward(self, images: Tensor) -> AMROutput:
        """Scores and maps of both branches.

        Args:
            images: Images [B,C,H,W] of the backbone's channels (RGB, unless set otherwise), in
                0..1, or uint8 in 0..255.

        Returns:
            Logits [B,K] and maps [B,K,h,w] of each branch; h is H / output stride, rounded up,
            or down by networks that cut their input into patches (ConvNeXt).
        """
        return self.branches(self.encode(images))

    def branches(self, shared: Features) -> AMROutput:
        """Scores and maps of both branches from the shared features."""
        compensation = self.compensation(shared) if self.compensation is not None else None
        return AMROutput(self.spotlight(shared), compensation)

    def encode(self, images: Tensor) -> Features:
        """The shared features of images [B,C,H,W] (0..1, or uint8)."""
        return self.encode_standardized(self.standardized(images))

    def encode_standardized(self, images: Tensor) -> Features:
        """The shared features of images that went through `standardized`."""
        with torch.no_grad():
            x = self.frozen(images)
        shared: Features = self.shared(x)
        return shared

    def standardized(self, images: Tensor) -> Tensor:
        """Images [B,C,H,W] (0..1, or uint8) with the mean and deviation the backbone expects."""
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"expected images [B,{len(self.mean)},H,W], got {tuple(images.shape)}")
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        return (images - self.mean) / self.std

    @torch.no_grad()
    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The spotlight's features after the stem and each stage, without gradient.

        Args:
            images: Images [B,C,H,W] in 0..1, or uint8 in 0..255.

        Returns:
            Five tensors [B,C_i,h_i,w_i] of `widths` at `strides`.
        """
        features = []
        x: Features = self.standardized(images)
        for part in (*self.frozen, *self.shared, *self.spotlight.stages):
            x = part(x)
            features.append(feature_map(x))
        return features

    @torch.no_grad()
    def details(self, images: Tensor) -> Tensor:
        """The spotlight's shallowest features on the last grid.

        They are as fine as the maps and still tell surfaces apart, where the last features only
        tell classes: what maps are spread along (`weakseg.ops.propagation`).

        Args:
            images: Images [B,C,H,W] in 0..1, or uint8 in 0..255.

        Returns:
            [B,C,h,w], the output of the first part of the first stage at the output stride.
        """
        last = self.strides.index(self.strides[-1], 1) - 1
        x: Features = self.standardized(images)
        stem, *stages = (*self.frozen, *self.shared, *self.spotlight.stages)
        for part in (stem, *stages[:last], next(stages[last].children())):
            x = part(x)
        return feature_map(x)

    @classmethod
    @torch.no_grad()
    def from_classifier(
        cls,
        classifier: nn.Module,
        *,
        classes: Sequence[int] | None = None,
        backbone: BackboneSettings | None = None,
        settings: AMRSettings | None = None,
    ) -> AMR:
        """A trained classifier, with its own head and weights, as the spotlight branch.

        The compensation branch is made beside it and begins as its copy. At output stride 32 the
        spotlight's logits are the classifier's own; a ViT's head is applied to each patch token,
        whatever token it reads otherwise.

        Args:
            classifier: A network of timm or torchvision whose linear classifier stands behind the
                mean over all positions; it is copied, and stays as it is.
            classes: Which of its outputs are the classes, in this order; None: all.
            backbone: How it is run: output stride, what is frozen; `name` and `weights` are not
                read. By default as it is, at output stride 32.
            settings: Which branches, and how the second is modulated.

        Raises:
            ConfigError: It cannot be cut into stages, or its classifier is not as said.
            ValueError: A class is none of its outputs.

        Example:
            >>> import timm
            >>> resnet = timm.create_model("resnet18", num_classes=5)
            >>> model = AMR.from_classifier(resnet, classes=[3, 1])
            >>> model(torch.rand(1, 3, 64, 64)).spotlight.logits.shape
            torch.Size([1, 2])
        """
        linear = _linear_head(classifier)
        chosen = list(range(linear.out_features)) if classes is None else list(classes)
        if not chosen or not all(0 <= index < linear.out_features for index in chosen):
            raise ValueError(
                f"expected classes in 0..{linear.out_features - 1}, outputs of the classifier, got "
                f"{chosen}"
            )
        how = backbone or BackboneSettings(output_stride=32)
        network = _backbone(classifier, how=how)
        if network.widths[-1] != linear.in_features:
            raise _no_linear_head(classifier)
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._assemble(network, len(chosen), settings or AMRSettings())
        norm = getattr(classifier, "fc_norm", None)
        for branch in (model.spotlight, model.compensation):
            if branch is None:
                continue
            if isinstance(norm, nn.LayerNorm):
                cast("nn.Sequential", branch.stages[-1]).append(TokenNorm(copy.deepcopy(norm)))
            branch.head.weight.copy_(linear.weight[chosen][:, :, None, None])
            if linear.bias is not None:
                branch.head.bias = nn.Parameter(linear.bias[chosen].clone())
        model.state_names = StateNames(model, model.state_names.paths)
        if network.dilates:
            whole = _backbone(classifier, how=BackboneSettings(output_stride=32))
            if not _same_logits(classifier, linear, whole):
                raise _no_linear_head(classifier)
        return model

    @torch.no_grad()
    def start_compensation(self) -> None:
        """Give the compensation branch the spotlight's weights; its modulation stays as it is.

        Raises:
            ValueError: There is no compensation branch.
        """
        if self.compensation is None:
            raise ValueError("expected a network with a compensation branch, got a plain one")
        own = self.compensation.state_dict()  # the tensors themselves, not copies
        for name, value in self.spotlight.state_dict().items():
            own[name].copy_(value)

    def backbone_state(self) -> dict[str, Tensor]:
        """The state of a `Backbone` with this network's stem and stages, the spotlight's own."""
        prefix = "backbone."
        return {
            name.removeprefix(prefix): value
            for name, value in self.state_dict().items()
            if name.startswith(prefix)
        }

    def _state_names(self, paths: Mapping[str, str], frozen: int, split: int) -> StateNames:
        parts = ["stem", *(f"stages.{index}" for index in range(4))]
        branch = parts[1 + split :]
        own = {
            **{f"frozen.{place}": part for place, part in enumerate(parts[: 1 + frozen])},
            **{f"shared.{place}": part for place, part in enumerate(parts[1 + frozen : 1 + split])},
            **{f"spotlight.stages.{place}": part for place, part in enumerate(branch)},
        }
        other = {f"compensation.stages.{place}": part for place, part in enumerate(branch)}
        saved = moved_paths(paths, own, "backbone.")
        return StateNames(self, saved | moved_paths(paths, other, "compensation.backbone."))

    def train(self, mode: bool = True) -> AMR:
        """As `nn.Module.train`, but frozen norms and frozen parts stay in eval mode."""
        super().train(mode)
        keep_frozen(self.frozen, norms=True)
        keep_frozen(self.shared, norms=self.backbone_settings.freeze_norms)
        branches = [self.spotlight, *([self.compensation] if self.compensation else [])]
        for branch in branches:
            keep_frozen(branch.stages, norms=self.backbone_settings.freeze_norms)
            for part in branch.modules():
                if isinstance(part, AttentionModulation):
                    part.train(mode)
        return self


def _backbone(
    network: BackboneSettings | str | nn.Module | None,
    *,
    load: bool = True,
    how: BackboneSettings | None = None,
) -> Backbone:
    """The backbone of settings, of a name, or of a network that is there and is copied."""
    if isinstance(network, str):
        network = BackboneSettings(name=network)
    if network is None or isinstance(network, BackboneSettings):
        return Backbone(network or BackboneSettings(), load=load)
    trained = getattr(network, "pretrained_cfg", None) or {}
    name = trained.get("architecture") or type(network).__name__
    settings = (how or BackboneSettings()).model_copy(update={"name": name, "weights": "none"})
    return Backbone(settings, network=copy.deepcopy(network))


def _linear_head(classifier: nn.Module) -> nn.Linear:
    """The linear layer of a classifier."""
    linear = [part for part in classifier.modules() if isinstance(part, nn.Linear)]
    own = getattr(classifier, "get_classifier", None)
    last = own() if callable(own) else (linear[-1] if linear else None)
    if not isinstance(last, nn.Linear):
        raise _no_linear_head(classifier)
    return last


def _same_logits(classifier: nn.Module, linear: nn.Linear, backbone: Backbone) -> bool:
    """Whether a classifier's logits are those of its linear layer on the mean of the features."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, backbone.settings.in_chans, 64, 96, generator=generator)
    expected = copy.deepcopy(classifier).eval()(images)
    found = linear(backbone.eval()(images)[-1].mean(dim=(2, 3)))
    return torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def _no_linear_head(classifier: nn.Module) -> ConfigError:
    return ConfigError(
        f"{type(classifier).__name__} does not classify by a linear layer behind the mean of its "
        "last features, as class activation maps need it; train a head on it: AMR(classes, network)"
    )


def _modulation(channels: int, settings: AMRSettings) -> AttentionModulation:
    return AttentionModulation(
        channels,
        settings.reduction,
        settings.amplitude,
        settings.statistics,
        gated=settings.gated,
    )


@torch.no_grad()
def _modulate_blocks(stage: nn.Module, width: int, settings: AMRSettings) -> None:
    """Put an AMM on the residual branch of every block, in timm's `drop_path` slot.

    That slot is where every residual block of timm ends its branch before the addition; what it
    hands on keeps its own drop path.
    """
    slots: list[tuple[nn.Module, nn.Module | None]] = []
    for block in stage.modules():
        slot = getattr(block, "drop_path", ...)
        if slot is None or isinstance(slot, nn.Module):
            slots.append((block, slot))
            block.drop_path = _WidthProbe()
    if not slots:
        raise ConfigError(
            "amr.placement: block needs residual blocks, which this backbone has not, or not as "
            "timm's convolutional networks have them; use placement: stage"
        )
    training = stage.training
    stage.eval()
    stage(torch.zeros(1, width, 16, 16))
    stage.train(training)
    for block, slot in slots:
        probe = block.drop_path
        assert isinstance(probe, _WidthProbe)
        if probe.width is None:
            setattr(block, "drop_path", slot)  # noqa: B010  a block without a shortcut
            continue
        modulation = _modulation(probe.width, settings)
        block.drop_path = nn.Sequential(modulation, slot) if slot is not None else modulation


class _WidthProbe(nn.Module):
    """Notes how many channels pass through a slot."""

    width: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.width = x.shape[1]
        return x
