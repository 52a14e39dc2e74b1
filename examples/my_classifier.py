"""Class activation maps of a classifier that you have, with its own head and weights.

python examples/my_classifier.py photo.jpg map.png 207 281      (numbers of ImageNet's classes)
"""

import sys

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

import weakseg


def main(photo: str, out: str, classes: list[int], classifier: nn.Module | None = None) -> None:
    """Write where the classifier sees any of the classes, as gray values."""
    classifier = classifier or torchvision.models.resnet50(weights="DEFAULT")
    one_branch = weakseg.AMRSettings(compensation=False)  # the other one has learnt nothing yet
    model = weakseg.AMR.from_classifier(classifier, classes=classes, settings=one_branch)
    image = Image.open(photo).convert("RGB")
    image.thumbnail((512, 512))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # uint8 [1,3,H,W]
    maps = weakseg.class_activation_maps(model, pixels)["spotlight"][0]  # [K,h,w] in 0..1
    highest = (255 * maps.amax(dim=0)).byte().numpy()
    Image.fromarray(highest).resize(image.size, Image.Resampling.BILINEAR).save(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [int(number) for number in sys.argv[3:]])
