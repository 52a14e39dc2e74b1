"""What is trained: modules whose forward returns the loss and what is worth logging."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from weakseg.data.transforms import MaskAugmentSettings
from weakseg.models.amr import AMR
from weakseg.models.irn import RelationNet
from weakseg.ops.affinity import pair_labels
from weakseg.ops.relation_losses import affinity_loss, relation_loss
from weakseg.training.fit import FitSettings


class RelateFitSettings(FitSettings):
    """How the relation network is trained (IRN, section 5.2)."""

    epochs: int = Field(3, ge=1, description="times every image is seen")
    lr: float = Field(0.1, gt=0, description="learning rate")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of steps with rising learning rate")


class RelateAugmentSettings(MaskAugmentSettings):
    """How images and seeds are varied for it."""

    long_side: tuple[int, int] = Field((288, 576), description="range of the long side (pixels)")
    color: float = Field(0.0, ge=0, lt=1, description="strength of brightness, contrast, colour")


class RelateSettings(BaseModel):
    """How the relation network learns.

    Attributes:
        radius: Pairs closer than this many pixels of the stride-4 grid are looked at.
        displacement: Whether displacements are learnt, too; masks of classes need boundaries alone.
        fit: How it learns.
        augment: How images are varied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: int = Field(10, ge=2, le=32, description="reach of pairs (pixels of the stride-4 grid)")
    displacement: bool = Field(False, description="learn displacements, too")
    fit: RelateFitSettings = Field(
        default_factory=RelateFitSettings, description="how the network learns"
    )
    augment: RelateAugmentSettings = Field(
        default_factory=RelateAugmentSettings, description="how images are varied"
    )


class RelationTask(nn.Module):
    """A relation network learning from confident seeds, over features that stay as they are.

    ½·affinity + ½·displacement, or the affinity alone for a network without displacement head
    (IRN, arXiv 1904.05044, equations 3 to 7).

    Args:
        features: The trained classification network; not changed, and computed once a step.
        net: What learns.
        radius: Pairs closer than this many pixels of the stride-4 grid are looked at.
    """

    def __init__(self, features: AMR, net: RelationNet, radius: int) -> None:
        super().__init__()
        self.features = features.requires_grad_(False).eval()
        self.net, self.radius = net, radius

    def train(self, mode: bool = True) -> RelationTask:
        """As `nn.Module.train`, but the features stay in eval mode."""
        super().train(mode)
        self.features.eval()
        return self

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: Images [B,3,H,W] (uint8, or 0..1) and seeds uint8 [B,H,W] (255: unknown).

        Returns:
            `loss` and its parts, scalars.
        """
        images, seeds = batch
        logits, displacement = self.net(self.features.pyramid(images))
        with torch.autocast(logits.device.type, enabled=False):  # the loss in float32
            return self._losses(logits.float(), displacement, seeds)

    def _losses(
        self, logits: Tensor, displacement: Tensor | None, seeds: Tensor
    ) -> dict[str, Tensor]:
        boundary = logits.sigmoid()
        on_grid = functional.interpolate(
            seeds[:, None].float(), size=boundary.shape[-2:], mode="nearest-exact"
        )[:, 0].to(torch.uint8)
        if displacement is None:
            loss, background, foreground, negative = affinity_loss(
                boundary, pair_labels(on_grid, self.radius), self.radius
            )
            offsets: dict[str, Tensor] = {}
        else:
            terms = relation_loss(boundary, displacement.float(), on_grid, self.radius)
            loss = terms.loss
            _, background, foreground, negative = terms.affinity
            offsets = {"displacement": terms.displacement.loss.detach()}
        return {
            "loss": loss,
            "alike_background": background.detach(),
            "alike_foreground": foreground.detach(),
            "different": negative.detach(),
            **offsets,
        }

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters that learn, with `lr_scale`; the displacement head learns ten times faster."""
        groups: list[dict[str, object]] = [
            {"params": list(self.net.boundary_head.parameters()), "lr_scale": 1.0}
        ]
        if self.net.displacement_head is not None:
            head = self.net.displacement_head
            groups.append({"params": list(head.parameters()), "lr_scale": 10.0})
        return groups
