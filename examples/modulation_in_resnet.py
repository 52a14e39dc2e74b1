"""Attention modulation in a ResNet of your own: python examples/modulation_in_resnet.py."""

import timm
import torch
from torch import Tensor, nn

import weakseg


class ModulatedResNet(nn.Module):
    """A ResNet-18 whose third stage's features are modulated before the fourth sees them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.resnet = timm.create_model("resnet18", num_classes=classes)
        self.resnet.layer3.append(weakseg.AttentionModulation(256, gated=True))

    def forward(self, images: Tensor) -> Tensor:
        """Scores [B,K]."""
        logits: Tensor = self.resnet(images)
        return logits


def main() -> None:
    """One step of training with each."""
    in_every_block = timm.create_model(
        "resnet18", num_classes=5, block_args={"attn_layer": weakseg.AttentionModulation}
    )
    images, tags = torch.rand(2, 3, 64, 64), torch.eye(2, 5)
    for network in (ModulatedResNet(5), in_every_block):
        loss = nn.functional.multilabel_soft_margin_loss(network(images), tags)
        loss.backward()
        print(f"{type(network).__name__}: loss {loss.item():.2f}")


if __name__ == "__main__":
    main()
