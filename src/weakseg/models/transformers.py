"""Vision transformers as a stem and four stages: ViT, DeiT, DINOv2, EVA; and Swin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from timm.layers import Format
from torch import Tensor, nn
from torch.nn import functional

from weakseg.types import ConfigError


class Tokens(NamedTuple):
    """What goes from block to block of a transformer: patch tokens, and others before them.

    Attributes:
        values: [B,p+h·w,C]: p prefix tokens (class, registers), then the patches row by row.
        grid: h and w, patches down and across.
        rope: Rotary position embedding, as the blocks take it, of each block; None: the blocks take
            none.
    """

    values: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None

    @property
    def map(self) -> Tensor:
        """The patch tokens as features [B,C,h,w]."""
        height, width = self.grid
        patches = self.values[:, self.values.shape[1] - height * width :]
        return patches.transpose(1, 2).reshape(len(patches), -1, height, width)

    def with_map(self, features: Tensor) -> Tokens:
        """With other features [B,C,h,w] for the patch tokens; the prefix tokens stay."""
        patches = features.flatten(2).transpose(1, 2)
        prefix = self.values[:, : self.values.shape[1] - patches.shape[1]]
        return self._replace(values=torch.cat([prefix, patches], dim=1))


Features = Tensor | Tokens
"""What a part of a backbone takes and gives: features [B,C,h,w], or a transformer's tokens."""


def feature_map(x: Features) -> Tensor:
    """Features [B,C,h,w], of tokens those of the patches."""
    return x if isinstance(x, Tensor) else x.map


def on_feature_map(module: Callable[[Tensor], Tensor], x: Features) -> Features:
    """What a module makes of features [B,C,h,w]; of tokens it changes those of the patches."""
    return module(x) if isinstance(x, Tensor) else x.with_map(module(x.map))


class TokenStem(nn.Module):
    """Patch and position embedding; images that patches do not fit are resized to the nearest size.

    Args:
        network: A ViT or EVA of timm, whose blocks, last norm and head were taken away.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tokens:
        """The tokens of images [B,C,H,W], normalized as the network expects."""
        network: Any = self.network
        sides = network.patch_embed.patch_size
        images = _fitted(images, sides)
        embedded = network._pos_embed(network.patch_embed(images))
        values, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        drop = getattr(network, "patch_drop", None)
        if isinstance(drop, nn.Identity):
            values = drop(values)
        grid = (images.shape[-2] // sides[0], images.shape[-1] // sides[1])
        norm = getattr(network, "norm_pre", None)  # none in the EVA of older timm
        return Tokens(values if norm is None else norm(values), grid, rope)


class TokenBlock(nn.Module):
    """A block of a transformer, from tokens to tokens.

    Args:
        block: Of timm.
        place: Its number, where each block has its own rotary embedding.
    """

    def __init__(self, block: nn.Module, place: int | None = None) -> None:
        super().__init__()
        self.block, self.place = block, place

    def forward(self, x: Tokens) -> Tokens:
        """The tokens after the block."""
        if x.rope is None:
            return x._replace(values=self.block(x.values))
        rope = x.rope if self.place is None else x.rope[self.place]
        return x._replace(values=self.block(x.values, rope=rope))


class TokenNorm(nn.Module):
    """The norm behind the last block."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tokens) -> Tokens:
        """The tokens, normed."""
        return x._replace(values=self.norm(x.values))


class SwinStem(nn.Module):
    """Patch embedding; images that patches do not fit are resized to the nearest size.

    Args:
        embedding: Of a Swin transformer of timm.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, images: Tensor) -> Tensor:
        """Features [B,C,h,w] of images, normalized as the network expects."""
        x: Tensor = self.embedding(_fitted(images, self.embedding.patch_size))
        return x.permute(0, 3, 1, 2)


class ChannelsFirst(nn.Module):
    """A module of a network whose features are [B,h,w,C], from [B,C,h,w] to [B,C,h,w].

    Args:
        module: Of timm.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """The module's features."""
        y: Tensor = self.module(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


def _fitted(images: Tensor, sides: tuple[int, int]) -> Tensor:
    """Images [B,C,H,W] resized, if need be, so that patches of these sides fit."""
    size = [
        max(1, round(length / side)) * side
        for length, side in zip(images.shape[-2:], sides, strict=True)
    ]
    if size == list(images.shape[-2:]):
        return images
    return functional.interpolate(
        images, size=size, mode="bilinear", align_corners=False, antialias=True
    )


def cut_vit(model: Any, name: str, channels: int = 3) -> tuple[nn.Module, list[nn.Module]]:
    """The stem of a ViT or EVA, and four stages of equally many blocks, the norm behind the last.

    Args:
        model: A network of timm.
        name: Its name, for the error.
        channels: Of its images.

    Raises:
        ConfigError: It has fewer than four blocks.
    """
    # As timm does where it is asked for images of any size.
    model.dynamic_img_size, embedding = True, model.patch_embed
    embedding.strict_img_size, embedding.flatten = False, False
    embedding.output_fmt = Format.NHWC
    blocks = list(model.blocks)
    if len(blocks) < 4:
        raise ConfigError(
            f"backbone.name: {name} has {len(blocks)} blocks, too few for four stages; choose a "
            "larger one, such as vit_small_patch16_224"
        )
    mixed = bool(getattr(model, "rope_mixed", False))
    parts = [TokenBlock(block, k if mixed else None) for k, block in enumerate(blocks)]
    bounds = [round(len(parts) * quarter / 4) for quarter in range(5)]
    stages: list[nn.Module] = [nn.Sequential(*parts[i:j]) for i, j in pairwise(bounds)]
    stages[-1].append(TokenNorm(model.norm))  # type: ignore[operator]
    model.blocks, model.norm = nn.Identity(), nn.Identity()
    for rest in ("fc_norm", "head_drop", "head", "head_dist", "attn_pool"):
        if getattr(model, rest, None) is not None:
            setattr(model, rest, nn.Identity())
    return TokenStem(model), stages


def cut_swin(model: Any, name: str, channels: int = 3) -> tuple[nn.Module, list[nn.Module]]:
    """The stem of a Swin transformer and its four stages, the norm behind the last."""
    # As timm does with `strict_img_size=False`: images of any size.
    model.patch_embed.strict_img_size = False
    for block in model.modules():
        if hasattr(block, "dynamic_mask"):
            block.dynamic_mask = True
    stages: list[nn.Module] = [nn.Sequential(ChannelsFirst(layer)) for layer in model.layers]
    stages[-1].append(ChannelsFirst(model.norm))  # type: ignore[operator]
    return SwinStem(model.patch_embed), stages


@torch.no_grad()
def attention_maps(
    parts: Iterable[nn.Module], look: Callable[[Tensor], object], images: Tensor
) -> list[Tensor]:
    """How much each token of every block of a ViT looks at each other one.

    Args:
        parts: What the images go through.
        look: Sends them through.
        images: [B,C,H,W] that went through `standardized`.

    Returns:
        Of each block the mean of its heads, float32 [B,n,n], rows summing to 1; the patches are
        the last of the n tokens.

    Raises:
        ConfigError: The network has no attention over the whole image.
    """
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].float().mean(dim=1))

    blocks: list[Any] = [
        module
        for part in parts
        for module in part.modules()
        if hasattr(module, "fused_attn") and hasattr(module, "attn_drop")
    ]
    fused = [block.fused_attn for block in blocks]
    hooks = [block.attn_drop.register_forward_pre_hook(note) for block in blocks]
    try:
        for block in blocks:
            block.fused_attn = False  # a fused kernel keeps its rows to itself
        look(images)
    finally:
        for block, before, hook in zip(blocks, fused, hooks, strict=True):
            block.fused_attn = before
            hook.remove()
    # Swin looks within windows, each a row of the batch of its own.
    if not seen or {rows.shape for rows in seen} != {(len(images), *seen[0].shape[1:])}:
        raise ConfigError(
            "cams.method: this method needs attention over the whole image; choose a ViT "
            "(backbone.name=vit_small_patch16_224), or another method"
        )
    return seen
