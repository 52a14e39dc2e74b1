"""Decoders of segmentation networks: those of segmentation_models_pytorch, and DeepLab-v2's."""

# ruff: noqa: PLC0415  the package is imported when one of its decoders is built
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weakseg.models.cpu.depthwise import use_fast_gradients

Widths = tuple[int, ...]
Built = tuple[nn.Module, int]
"""A module from [images, five features] to features, and how many channels these have."""


@dataclass(frozen=True)
class Decoder:
    """A row of the table.

    Attributes:
        build: From the widths of images and features (six numbers), the backbone's output stride
            and the wanted channels to the decoder.
        stride: The backbone's output stride that it is made for; None: any.
        pyramid: Whether each feature must be half the size of the one before.
        kernel: Side of the last convolution's window.
        cell: Images are padded to multiples of this many pixels.
    """

    build: Callable[[Widths, int, int], Built]
    stride: int | None = None
    pyramid: bool = False
    kernel: int = 1
    cell: int = 32


class LastFeatures(nn.Module):
    """Hands on the last features as they are."""

    def forward(self, features: list[Tensor]) -> Tensor:
        """The last of several features."""
        return features[-1]


class ParallelConvolutions(nn.Module):
    """DeepLab-v2's classifier: 3×3 convolutions of several rates, summed.

    DeepLab (TPAMI 2018), "atrous spatial pyramid pooling", ASPP-L: rates 6, 12, 18 and 24 at
    stride 8; at other strides they are scaled so that they see as far in the image.

    Args:
        width: Channels of the features.
        labels: K+1, background and classes.
        stride: Pixels of the image per cell of the features.
    """

    def __init__(self, width: int, labels: int, stride: int) -> None:
        super().__init__()
        rates = [max(1, rate * 8 // stride) for rate in (6, 12, 18, 24)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, labels, 3, padding=rate, dilation=rate) for rate in rates
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B,K+1,h,w] of features [B,C,h,w]."""
        return torch.stack([convolution(x) for convolution in self.convolutions]).sum(dim=0)


def _deeplabv2(widths: Widths, stride: int, channels: int) -> Built:
    return LastFeatures(), widths[-1]


def _deeplabv3(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder

    return DeepLabV3Decoder(widths[-1], channels, _rates(stride), False, 0.0), channels


def _deeplabv3plus(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

    decoder = DeepLabV3PlusDecoder(widths, 5, channels, _rates(stride), 16, True, 0.0)
    # Theirs fits stride 16, and its corners are aligned where all other resizing here is not.
    decoder.up = nn.Upsample(scale_factor=stride // 4, mode="bilinear")
    return decoder, channels


def _fpn(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

    # Its norms are over groups of channels, of which there are 32.
    width = max(32, channels // 2 // 32 * 32)
    return FPNDecoder(widths, 5, channels, width, dropout=0.0), width


def _linknet(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder

    return LinknetDecoder(widths, 32), 32


def _manet(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder

    return MAnetDecoder(widths, _halving(channels)), _halving(channels)[-1]


def _pan(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder

    return PANDecoder(widths, 5, max(1, channels // 8)), max(1, channels // 8)


def _pspnet(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder

    return PSPDecoder(widths, out_channels=2 * channels, dropout=0.0), 2 * channels


def _segformer(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder

    return SegformerDecoder(widths, 5, channels), channels


def _unet(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

    return UnetDecoder(widths, _halving(channels)), _halving(channels)[-1]


def _unetplusplus(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

    return UnetPlusPlusDecoder(widths, _halving(channels)), _halving(channels)[-1]


def _upernet(widths: Widths, stride: int, channels: int) -> Built:
    from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

    return UPerNetDecoder(widths, 5, channels), channels


DECODERS: dict[str, Decoder] = {
    "deeplabv2": Decoder(_deeplabv2),
    "deeplabv3": Decoder(_deeplabv3),
    "deeplabv3plus": Decoder(_deeplabv3plus),
    "fpn": Decoder(_fpn, stride=32),
    "linknet": Decoder(_linknet, stride=32, pyramid=True),
    "manet": Decoder(_manet, stride=32, pyramid=True, kernel=3),
    "pan": Decoder(_pan, stride=16, kernel=3, cell=128),
    "pspnet": Decoder(_pspnet, kernel=3),
    "segformer": Decoder(_segformer, stride=32),
    "unet": Decoder(_unet, stride=32, kernel=3),
    "unetplusplus": Decoder(_unetplusplus, stride=32, pyramid=True, kernel=3),
    "upernet": Decoder(_upernet, stride=32),
}
"""All decoders by name."""


def build_decoder(
    name: str, widths: Widths, stride: int, *, channels: int, labels: int, dropout: float
) -> tuple[nn.Module, nn.Module]:
    """A decoder and the head on it.

    Args:
        name: A key of `DECODERS`.
        widths: Channels of the backbone's five features.
        stride: Pixels of the image per cell of the last of them.
        channels: The decoder's own, where it has a choice.
        labels: K+1, background and classes.
        dropout: Share of the channels that the head does without in training, 0..1.

    Returns:
        From [images, five features] to features, and from these to logits [B,K+1,h,w].
    """
    row = DECODERS[name]
    decoder, width = row.build((3, *widths), stride, channels)
    if any(True for _ in decoder.parameters()):
        from segmentation_models_pytorch.base.initialization import initialize_decoder

        initialize_decoder(decoder)
    last: nn.Module
    if name == "deeplabv2":
        last = ParallelConvolutions(width, labels, stride)
    else:
        last = nn.Conv2d(width, labels, row.kernel, padding=row.kernel // 2)
    for part in last.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.01)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
    use_fast_gradients(decoder)
    # smp's heads, too, call the convolution "0".
    return decoder, nn.Sequential(OrderedDict({"dropout": nn.Dropout2d(dropout), "0": last}))


def _rates(stride: int) -> tuple[int, int, int]:
    """Rates 6, 12, 18 at stride 16, as far in the image at others. DeepLabv3+ (ECCV 2018)."""
    return 96 // stride, 192 // stride, 288 // stride


def _halving(channels: int) -> tuple[int, ...]:
    return tuple(max(8, channels >> step) for step in range(5))
