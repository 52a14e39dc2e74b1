"""What is trained: modules whose forward returns the loss and what is worth logging."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from weakseg.models.amr import AMR, AttentionModulation, Branch
from weakseg.ops.losses import Maps, cross_pseudo_supervision, tag_loss


class TagTaskSettings(BaseModel):
    """How AMR learns from tags.

    Attributes:
        cps_weight: Weight λ of the cross pseudo supervision.
        cps_maps: Compare `raw` maps (the paper) or `normalized` ones.
        mutual: Whether cross pseudo supervision moves both branches (the paper) or the compensation
            branch alone (the released code).
        new_layers_lr: Learning rate of heads and modulation, as a multiple of the backbone's.
        compensation_lr: Learning rate of the compensation branch's stages, as a multiple of the
            backbone's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cps_weight: float = Field(0.05, ge=0, description="weight of cross pseudo supervision")
    cps_maps: Maps = Field("normalized", description="raw or normalized")
    mutual: bool = Field(True, description="cross pseudo supervision moves both branches")
    new_layers_lr: float = Field(10.0, gt=0, description="times the backbone's learning rate")
    compensation_lr: float = Field(1.0, gt=0, description="times the backbone's learning rate")


class TagTask(nn.Module):
    """AMR learning from tags.

    L = ½·L_cls(spotlight) + ½·L_cls(compensation) + λ·L_cps; with one branch L = L_cls.
    Activation Modulation and Recalibration (AAAI 2022), equation 9.

    Args:
        model: The network.
        settings: Weights and kinds of the losses.
    """

    def __init__(self, model: AMR, settings: TagTaskSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: Images [B,3,H,W] (uint8, or 0..1) and tags [B,K] (0 or 1).

        Returns:
            `loss` and its parts, scalars.
        """
        images, tags = batch
        spotlight, compensation = self.model(images)
        first = tag_loss(spotlight.logits, tags)
        if compensation is None:
            return {"loss": first}
        second = tag_loss(compensation.logits, tags)
        cps = cross_pseudo_supervision(
            spotlight.cams,
            compensation.cams,
            tags,
            maps=self.settings.cps_maps,
            mutual=self.settings.mutual,
        )
        loss = (first + second) / 2 + self.settings.cps_weight * cps
        return {
            "loss": loss,
            "spotlight": first.detach(),
            "compensation": second.detach(),
            "cps": cps.detach(),
        }

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters that learn, with `lr_scale`, the multiple of the learning rate."""
        new: list[nn.Parameter] = []
        old = [p for p in self.model.shared.parameters() if p.requires_grad]
        compensation: list[nn.Parameter] = []
        for name, module in self._branches():
            fresh = {id(p) for p in module.head.parameters()}
            for part in module.modules():
                if isinstance(part, AttentionModulation):
                    fresh |= {id(p) for p in part.parameters()}
            for parameter in module.parameters():
                if not parameter.requires_grad:
                    continue
                if id(parameter) in fresh:
                    new.append(parameter)
                else:
                    (old if name == "spotlight" else compensation).append(parameter)
        groups: list[dict[str, object]] = [
            {"params": old, "lr_scale": 1.0},
            {"params": new, "lr_scale": self.settings.new_layers_lr},
        ]
        if compensation:
            groups.append({"params": compensation, "lr_scale": self.settings.compensation_lr})
        return groups

    def _branches(self) -> Iterator[tuple[str, Branch]]:
        yield "spotlight", self.model.spotlight
        if self.model.compensation is not None:
            yield "compensation", self.model.compensation
