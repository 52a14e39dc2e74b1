"""Recalibration: the compensation branch learns, corrected by the spotlight."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from weakseg.models.amr import AMR, AttentionModulation
from weakseg.ops.losses import Maps, cross_pseudo_supervision, recalibration_loss, tag_loss
from weakseg.training.fit import FitSettings


class RecalibrateFitSettings(FitSettings):
    """As `FitSettings`, with other defaults."""

    epochs: int = Field(2, ge=1, description="passes over the images")
    lr: float = Field(0.01, gt=0, description="highest learning rate")


class RecalibrateSettings(BaseModel):
    """How the compensation branch learns; `amr.supervision` says from what.

    Attributes:
        tag_weight: Weight of the loss on tags, beside that on refined maps. Where an object covers
            little of its image, a mean score above 0 contradicts scores below 0 around it.
        target: `refined`: what refined maps are sure of. `agreed`: of that, a class only where the
            raw maps are above their threshold, too; what only spreading found is not learnt.
        sure: Refined maps above this are of their class.
        unsure: Where all are below this there is background; between the two nothing is learnt.
        cps_weight: Weight λ of cross pseudo supervision, with `amr.supervision: maps`.
        cps_maps: Compare `raw` maps (the paper) or `normalized` ones.
        mutual: Whether cross pseudo supervision moves both branches (the paper) or the compensation
            branch alone (the released code).
        new_layers_lr: Learning rate of heads and modulation, as a multiple of the backbone's.
        compensation_lr: Learning rate of the compensation branch's stages, as a multiple of the
            backbone's.
        fit: How long and how fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag_weight: float = Field(0.0, ge=0, description="of the loss on tags")
    target: Literal["refined", "agreed"] = Field("refined", description="refined or agreed")
    sure: float = Field(0.67, ge=0, le=1, description="refined maps above this are of their class")
    unsure: float = Field(0.33, ge=0, le=1, description="below this they are background")
    cps_weight: float = Field(0.05, ge=0, description="weight of cross pseudo supervision")
    cps_maps: Maps = Field("normalized", description="raw or normalized")
    mutual: bool = Field(True, description="cross pseudo supervision moves both branches")
    new_layers_lr: float = Field(10.0, gt=0, description="times the backbone's learning rate")
    compensation_lr: float = Field(1.0, gt=0, description="times the backbone's learning rate")
    fit: RecalibrateFitSettings = Field(
        default_factory=RecalibrateFitSettings, description="how it learns"
    )

    @model_validator(mode="after")
    def _ordered(self) -> RecalibrateSettings:
        if self.unsure > self.sure:
            raise ValueError(f"unsure must be at most sure, got {self.unsure} and {self.sure}")
        return self


class RecalibrateTask(nn.Module):
    """The compensation branch of an AMR, which starts from a trained spotlight.

    With `supervision: refined` the spotlight stays as it is, and L = L_refined +
    w·L_cls(compensation), see `recalibration_loss`. With `maps` both branches learn:
    L = ½·L_cls(spotlight) + ½·L_cls(compensation) + λ·L_cps. Activation Modulation and
    Recalibration (AAAI 2022), equation 9.

    Args:
        model: The network, with both branches.
        settings: Weights and kinds of the losses.
    """

    def __init__(self, model: AMR, settings: RecalibrateSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        self.refined = model.settings.supervision == "refined"
        if self.refined:
            model.shared.requires_grad_(False)
            model.spotlight.requires_grad_(False)

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: Images [B,3,H,W] (uint8, or 0..1), the labels of refined maps uint8 [B,H,W] (255:
                not known) and tags [B,K] (0 or 1).

        Returns:
            `loss` and its parts, scalars.
        """
        images, labels, tags = batch
        model, settings = self.model, self.settings
        assert model.compensation is not None
        if not self.refined:
            return self._crossed(images, tags)
        found = model.compensation(model.encode(images))
        on_grid = functional.interpolate(
            labels[:, None].float(), size=found.scores.shape[-2:], mode="nearest-exact"
        )[:, 0].to(labels.dtype)
        refined = recalibration_loss(found.scores, on_grid, tags)
        if not settings.tag_weight:
            return {"loss": refined}
        of_tags = tag_loss(found.logits, tags)
        loss = refined + settings.tag_weight * of_tags
        return {"loss": loss, "tags": of_tags.detach(), "refined": refined.detach()}

    def _crossed(self, images: Tensor, tags: Tensor) -> dict[str, Tensor]:
        spotlight, compensation = self.model(images)
        assert compensation is not None
        first, second = (tag_loss(branch.logits, tags) for branch in (spotlight, compensation))
        cps = cross_pseudo_supervision(
            spotlight.cams,
            compensation.cams,
            tags,
            maps=self.settings.cps_maps,
            mutual=self.settings.mutual,
        )
        return {
            "loss": (first + second) / 2 + self.settings.cps_weight * cps,
            "spotlight": first.detach(),
            "compensation": second.detach(),
            "cps": cps.detach(),
        }

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters that learn, with `lr_scale`, the multiple of the learning rate."""
        model, settings = self.model, self.settings
        assert model.compensation is not None
        new = [*model.spotlight.head.parameters(), *model.compensation.head.parameters()]
        for part in model.compensation.modules():
            if isinstance(part, AttentionModulation):
                new += part.parameters()
        known = {id(parameter) for parameter in new}
        old = [*model.shared.parameters(), *model.spotlight.stages.parameters()]
        groups = (
            (old, 1.0),
            (new, settings.new_layers_lr),
            (
                [p for p in model.compensation.parameters() if id(p) not in known],
                settings.compensation_lr,
            ),
        )
        learning = [([p for p in group if p.requires_grad], scale) for group, scale in groups]
        return [{"params": group, "lr_scale": scale} for group, scale in learning if group]
