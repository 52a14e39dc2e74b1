"""The segmentation network: a decoder on a backbone, from an image to the label of every pixel."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from weakseg.models.amr import AMR
from weakseg.models.backbones import Backbone, BackboneSettings
from weakseg.models.cpu.batch_norm import EvenConv2d
from weakseg.models.decoders import DECODERS, build_decoder
from weakseg.models.hub import load_folder, push_folder, said, save_folder
from weakseg.types import ConfigError, WeightsError

FORMAT = "weakseg-segmenter-2"
"""Mark in `config.json` by which a folder is known to hold a network of this kind."""


class SegmenterSettings(BaseModel):
    """Which decoder stands on the backbone.

    Attributes:
        decoder: `deeplabv3plus`, `unet`, `fpn`, … of segmentation_models_pytorch, or `deeplabv2`.
        channels: Width of the decoder, where it has a choice.
        dropout: Share of the decoder's channels that its last layer does without in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: str = Field("deeplabv3plus", description="deeplabv3plus, deeplabv2, unet, fpn, …")
    channels: int = Field(256, ge=32, description="width of the decoder")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of channels left out in training")

    @field_validator("decoder")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DECODERS:
            raise ValueError(f"unknown decoder {name!r}; known: {', '.join(DECODERS)}")
        return name


class Segmenter(nn.Module):
    """From images to logits of background and K classes at every pixel.

    Args:
        classes: K, number of classes without background.
        backbone: Which network sees the images. Decoders that build their own pyramid (U-Net, FPN,
            …) run it at the output stride they are made for, with the same weights.
        settings: Which decoder.
        load: False leaves the backbone's weights random: a state is loaded right after.
        class_names: Names of the classes, K of them; `class 1`, … if None.
        long_side: Long side to which images are resized for this network, in pixels.
        ignore_alpha: Whether its images are read without their fourth channel.

    Attributes:
        classes: K.
        class_names: The classes' names, in the order of their labels 1..K.
        long_side: Long side to which images are resized for this network, in pixels.
        ignore_alpha: Whether its images are read without their fourth channel.
        backbone_settings: The backbone as it is run.
        settings: The decoder's.
        channels: Of its images: 3 is RGB, 1 gray, others the files' own.
        multiple: Sides of images are best multiples of this, in pixels.
        cell: Inside, images are padded to multiples of this many pixels.

    Raises:
        ConfigError: The backbone cannot be cut into stages, or does not suit the decoder.
        WeightsError: The backbone's weights cannot be had.

    Example:
        >>> model = Segmenter(20, BackboneSettings(name="resnet18", weights="none"))
        >>> model(torch.rand(2, 3, 225, 150)).shape
        torch.Size([2, 21, 225, 150])
    """

    def __init__(
        self,
        classes: int,
        backbone: BackboneSettings | None = None,
        settings: SegmenterSettings | None = None,
        *,
        load: bool = True,
        class_names: Sequence[str] | None = None,
        long_side: int = 500,
        ignore_alpha: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(classes, int) or classes < 1:
            raise ValueError(f"expected classes ≥ 1, how many there are, got {classes!r}")
        backbone, settings = backbone or BackboneSettings(), settings or SegmenterSettings()
        names = [f"class {k + 1}" for k in range(classes)] if class_names is None else class_names
        if len(names) != classes:
            raise ValueError(f"expected {classes} names of classes, got {len(names)}")
        row = DECODERS[settings.decoder]
        if row.stride is not None:
            backbone = backbone.model_copy(update={"output_stride": row.stride})
        self.backbone = Backbone(backbone, load=load)
        strides = self.backbone.strides
        self.ratios: tuple[float, ...] | None = None
        if not self.backbone.dilates:
            wanted = tuple(min(stride, row.stride or 16) for stride in (2, 4, 8, 16, 32))
            unit = min(1, strides[-1] / 16)
            self.ratios = tuple(s / (unit * w) for s, w in zip(strides, wanted, strict=True))
            strides = wanted
        if row.pyramid and strides != (2, 4, 8, 16, 32):
            raise ConfigError(
                f"segment.network.decoder: {settings.decoder} needs features at strides 2, 4, 8, "
                f"16 and 32, but {backbone.name} has {', '.join(map(str, strides))}; use unet, fpn "
                "or deeplabv3plus"
            )
        for part in self.backbone.modules():
            if type(part) is Conv2dSame:
                part.__class__ = EvenConv2d
        self.classes, self.class_names, self.long_side = classes, tuple(names), long_side
        self.ignore_alpha, self.channels = ignore_alpha, backbone.in_chans
        self.multiple = self.backbone.cell
        self.backbone_settings, self.settings, self.cell = backbone, settings, row.cell
        self.decoder, self.segmentation_head = build_decoder(
            settings.decoder,
            self.backbone.widths,
            strides[-1],
            channels=settings.channels,
            labels=classes + 1,
            dropout=settings.dropout,
        )
        mean, std = self.backbone.mean, self.backbone.std
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor: ...  # noqa: D102

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel.

        Args:
            images: Images [B,C,H,W] of any size, in 0..1, or uint8 in 0..255.

        Returns:
            Logits [B,K+1,H,W], background first.

        Raises:
            ValueError: The images are not [B,C,H,W].
        """
        return self.both(images)[0]

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of every pixel as of a call, and on the decoder's own grid as of `coarse`.

        Args:
            images: As for a call. Sides that are no multiples of `cell` are padded; the coarse
                logits are of the padded images.

        Returns:
            Logits [B,K+1,H,W] and [B,K+1,h,w], background first.

        Raises:
            ValueError: The images are not [B,C,H,W].
        """
        coarse, padded = self._coarse(images)
        full = functional.interpolate(coarse, size=padded, mode="bilinear")
        return _first(_first(full, 2, images.shape[2]), 3, images.shape[3]), coarse

    def coarse(self, images: Tensor) -> Tensor:
        """Logits on the decoder's own grid, for whoever enlarges them to another size at once.

        Args:
            images: As for a call, with sides that are multiples of `cell`.

        Returns:
            Logits [B,K+1,h,w], background first; a call enlarges them bilinearly.

        Raises:
            ValueError: The images are not [B,C,H,W], or a side is no multiple of `cell`.
        """
        if any(side % self.cell for side in images.shape[2:]):
            raise ValueError(
                f"expected sides that are multiples of {self.cell}, got {tuple(images.shape[2:])}"
            )
        return self._coarse(images)[0]

    @torch.no_grad()
    def shift_logits(self, shift: Tensor) -> None:
        """Adds a number to every pixel's logit of each label, for good.

        Args:
            shift: [K+1], background first.

        Raises:
            ValueError: It is not one number a label.
        """
        if shift.shape != (self.classes + 1,):
            raise ValueError(f"expected {self.classes + 1} numbers, got {tuple(shift.shape)}")
        convolutions = (m for m in self.segmentation_head.modules() if isinstance(m, nn.Conv2d))
        *_, last = convolutions
        assert last.bias is not None  # all decoders' heads have one
        last.bias.add_(shift.to(last.bias))

    def _coarse(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"expected images [B,{len(self.mean)},H,W], got {tuple(images.shape)}")
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        x = _extended((images - self.mean) / self.std, self.cell)
        features = self.backbone(x)
        if self.ratios is not None:
            pairs = zip(features, self.ratios, strict=True)
            features = [_rescaled(feature, ratio) for feature, ratio in pairs]
        logits: Tensor = self.segmentation_head(self.decoder([x, *features])).float()
        return logits, (x.shape[2], x.shape[3])

    def start_from(self, model: AMR) -> None:
        """Take over the stem and stages that classification trained (the spotlight's).

        Raises:
            ConfigError: They are of another network.
        """
        try:
            self.backbone.load_state_dict(model.backbone_state())
        except RuntimeError as error:
            raise ConfigError(
                f"the segmentation network's backbone ({self.backbone_settings.name}) is not that "
                f"of classification ({model.backbone_settings.name})"
            ) from error

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the network to a folder: `model.safetensors` and, last, `config.json`.

        Args:
            folder: Made if needed; an earlier network there is replaced.

        Raises:
            WeightsError: The folder cannot be written.
        """
        # Where the weights once came from is of no use to whoever gets them with this file.
        backbone = self.backbone_settings.model_copy(update={"weights": "none"})
        config = {
            "format": FORMAT,
            "classes": self.class_names,
            "backbone": backbone.model_dump(mode="json"),
            "network": self.settings.model_dump(mode="json"),
            "preprocessing": {
                "long_side": self.long_side,
                "ignore_alpha": self.ignore_alpha,
                "mean": self.backbone.mean,
                "std": self.backbone.std,
            },
        }
        save_folder(folder, config, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder_or_repo: Path | str, *, revision: str | None = None) -> Self:
        """Load a network, in eval mode.

        Args:
            folder_or_repo: A folder that `save_pretrained` wrote, as a run's `segment/model`, or a
                repository of the Hugging Face hub, as `owner/name`.
            revision: The repository's branch, tag or commit.

        Raises:
            WeightsError: There is no such folder or repository, or it holds no such network.

        Example:
            >>> model = Segmenter.from_pretrained("runs/cats/segment/model")  # doctest: +SKIP
            >>> model.class_names  # doctest: +SKIP
            ('cat', 'dog')
        """
        config, state = load_folder(folder_or_repo, FORMAT, revision=revision)
        try:
            sight = config["preprocessing"]
            side = sight["long_side"]
            if not isinstance(side, int) or side < 1:
                raise ValueError(f"its long_side is {side!r}")
            model = cls(
                len(config["classes"]),
                BackboneSettings(**config["backbone"]),
                SegmenterSettings(**config["network"]),
                load=False,
                class_names=config["classes"],
                long_side=side,
                ignore_alpha=sight.get("ignore_alpha", False) is True,
            )
            model.load_state_dict(state)
        except Exception as error:
            raise WeightsError(
                f"{folder_or_repo} is damaged, or made by another version ({said(error)}); make "
                "or download it anew"
            ) from error
        return model.eval()

    def push_to_hub(self, repo: str, *, private: bool = False) -> str:
        """Publish the network as a repository of the Hugging Face hub.

        Args:
            repo: The repository, as `owner/name`; made if needed.
            private: Whether a new repository is private.

        Returns:
            The commit's address.

        Raises:
            WeightsError: The hub cannot be reached or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_folder(folder, repo, private=private)


def _rescaled(x: Tensor, ratio: float) -> Tensor:
    """A transformer's features [B,C,h,w] on a grid finer by this ratio, as decoders expect them."""
    if ratio == 1:
        return x
    size = [max(1, round(side * ratio)) for side in x.shape[-2:]]
    return functional.interpolate(x, size=size, mode="bilinear", antialias=ratio < 1)


def _extended(x: Tensor, cell: int) -> Tensor:
    """Images [B,C,H,W] whose last row and column are repeated up to multiples of `cell`."""
    for axis in (2, 3):
        size = x.shape[axis]
        if torch.compiler.is_compiling() or size % cell:
            places = torch.arange((size + cell - 1) // cell * cell, device=x.device)
            x = x.index_select(axis, places.clamp(max=size - 1))
    return x


def _first(x: Tensor, axis: int, count: int) -> Tensor:
    if torch.compiler.is_compiling():
        # Unlike a slice, exported without a case of its own for images that fit.
        return x.index_select(axis, torch.arange(count, device=x.device))
    return x.narrow(axis, 0, count)
