"""Learning from masks: the segmentation network's loss, its averaged weights, all its settings."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from weakseg.data.transforms import MaskAugmentSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.ops.losses import mask_loss
from weakseg.ops.tta import PredictSettings
from weakseg.shared_batch import shared_total
from weakseg.training.fit import FitSettings
from weakseg.types import IGNORE


class MaskTaskSettings(BaseModel):
    """How a segmentation network learns from masks.

    Attributes:
        decoder_lr: Learning rate of the decoder, as a multiple of the backbone's.
        ema: Share of the averaged weights that a step keeps; 0: no average, the last weights count.
        blur: Labels are averaged over the pixels this far around; see `mask_loss`.
        label_smoothing: Share of every label that is spread evenly over all; see `mask_loss`.
        balance: The least share of the loss that a label has, in even shares. 0: every pixel counts
            as much; 1: every label. See `balancing_weights`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder_lr: float = Field(10.0, gt=0, description="times the backbone's learning rate")
    ema: float = Field(0.99, ge=0, lt=1, description="averaging of weights; 0: none")
    blur: int = Field(0, ge=0, le=32, description="reach of the labels' average (pixels)")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label spread over all labels"
    )
    balance: float = Field(
        0.25, ge=0, le=1, description="least share of a label; 0: pixels count alike; 1: labels do"
    )


class SegmentFitSettings(FitSettings):
    """As `FitSettings`, with other defaults.

    AdamW learns classes of few pixels, too, in steps in which gradient descent finds none of them.
    """

    epochs: int = Field(10, ge=1, description="passes over the images")
    batch_size: int = Field(8, ge=1, description="images per step")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="sgd or adamw")
    lr: float = Field(2e-4, gt=0, description="highest learning rate")

    @model_validator(mode="after")
    def _pieces(self) -> SegmentFitSettings:
        if self.batch_size // self.accumulate < 2:
            raise ValueError(
                "the decoder's norms need pieces of at least 2 images: batch_size / accumulate is "
                f"{self.batch_size} / {self.accumulate}"
            )
        return self


class SegmentSettings(BaseModel):
    """How the segmentation network comes from the masks.

    Masks from tags are partly wrong, and a network that is trained long enough learns their faults
    by heart. How long that is shows without truth: the network agrees more and more with the masks
    it is trained on, but with those of images that were held out only as long as it learns what
    images have in common. The stage notes both (`agreement` in `done.json`); epochs, learning rate
    and averaging are chosen where the held-out agreement is highest.

    Attributes:
        backbone: The network that sees the images; None: the run's, with the weights that
            classification ended with.
        network: The decoder.
        task: The loss.
        fit: The training.
        augment: How images and masks are varied.
        long_side: Long side to which images are resized for the finished network, in pixels.
        rounds: How often it is trained. From the second time on, the masks are those that the
            network before gives the training images within their tags.
        relabel: How that network predicts them.
        held_out: Share of the images that are not trained on but measured.
        truth_masks: Train on the true masks instead, for as many steps, to see what the same
            network could reach; images without truth are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: BackboneSettings | None = Field(
        None, description="another network; null: the run's, as classification left it"
    )
    network: SegmenterSettings = Field(
        default_factory=SegmenterSettings, description="the decoder on the backbone"
    )
    task: MaskTaskSettings = Field(default_factory=MaskTaskSettings, description="the loss")
    fit: SegmentFitSettings = Field(
        default_factory=SegmentFitSettings, description="how segmentation learns"
    )
    augment: MaskAugmentSettings = Field(
        default_factory=MaskAugmentSettings, description="how images and masks are varied"
    )
    long_side: int = Field(480, ge=32, description="long side of images for the network (pixels)")
    rounds: int = Field(1, ge=1, le=9, description="trainings; from the second, on its own masks")
    relabel: PredictSettings = Field(
        default_factory=PredictSettings, description="how masks for another round are made"
    )
    held_out: float = Field(0.04, ge=0, le=0.5, description="share of images measured only")
    truth_masks: bool = Field(False, description="train on true masks instead: the bound")


class MaskTask(nn.Module):
    """A segmentation network learning from masks.

    Args:
        model: The network.
        settings: The loss and the averaging.
        weights: Of the labels in the loss [K+1]; all alike if None.

    Attributes:
        average: The network with the averaged weights, if they are averaged. Over the first steps
            the average is shorter, so that it never holds on to random weights.
    """

    def __init__(
        self, model: Segmenter, settings: MaskTaskSettings, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        self.average: Segmenter | None = None
        if settings.ema:
            self.average = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.weights: Tensor | None
        self.steps: Tensor

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: Images [B,3,H,W] (uint8, or 0..1) and labels [B,H,W], 255 where unknown.

        Returns:
            `loss`, and `agreement`, the share of labelled pixels that get their label; scalars.
        """
        images, labels = batch
        logits = self.model(images)
        settings = self.settings
        with torch.autocast(logits.device.type, enabled=False):  # the loss in float32
            loss = mask_loss(
                logits,
                labels,
                weights=self.weights,
                blur=settings.blur,
                label_smoothing=settings.label_smoothing,
            )
        known = labels != IGNORE
        agreeing = (logits.detach().argmax(dim=1) == labels) & known
        labelled = shared_total(known.sum().float(), least=1)
        return {"loss": loss, "agreement": agreeing.sum() / labelled}

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters that learn, with `lr_scale`, the multiple of the learning rate."""
        own = [self.model.decoder, self.model.segmentation_head]
        return [
            {"params": [p for part in parts for p in part.parameters() if p.requires_grad], **scale}
            for parts, scale in (
                ([self.model.backbone], {"lr_scale": 1.0}),
                (own, {"lr_scale": self.settings.decoder_lr}),
            )
        ]

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the averaged weights towards the network's."""
        if self.average is None:
            return
        self.steps += 1
        steps = int(self.steps)
        keep = min(self.settings.ema, steps / (steps + 10))
        now = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[name], 1 - keep)
            else:
                value.copy_(now[name])

    @property
    def trained(self) -> Segmenter:
        """The network to use: the averaged one, if weights are averaged."""
        return self.model if self.average is None else self.average
