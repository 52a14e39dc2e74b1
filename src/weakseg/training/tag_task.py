"""Learning from tags: the spotlight branch alone, a plain CAM network."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from weakseg.models.amr import AMR
from weakseg.ops.losses import tag_loss


class TagTaskSettings(BaseModel):
    """How the spotlight branch learns from tags.

    Attributes:
        new_layers_lr: Learning rate of the head, as a multiple of the backbone's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    new_layers_lr: float = Field(10.0, gt=0, description="times the backbone's learning rate")


class TagTask(nn.Module):
    """A CAM network learning from tags.

    Args:
        model: The network; of two branches the spotlight learns.
        settings: How.
    """

    def __init__(self, model: AMR, settings: TagTaskSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: Images [B,3,H,W] (uint8, or 0..1) and tags [B,K] (0 or 1).

        Returns:
            `loss`, a scalar.
        """
        images, tags = batch
        return {"loss": tag_loss(self.model.spotlight(self.model.encode(images)).logits, tags)}

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters that learn, with `lr_scale`, the multiple of the learning rate."""
        parts = (self.model.shared, self.model.spotlight.stages)
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        head = list(self.model.spotlight.head.parameters())
        return [
            {"params": trained, "lr_scale": 1.0},
            {"params": head, "lr_scale": self.settings.new_layers_lr},
        ]
