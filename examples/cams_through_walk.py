"""Class activation maps of any program, walked up to the edges of the image: a mask.

python examples/cams_through_walk.py photo.jpg cams.npy mask.png      (cams.npy: [K,h,w])
"""

import sys

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

import weakseg


def edges(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """Where colours change, 0..1 [h,w]; `weakseg refine` learns better boundaries from maps."""
    small = np.asarray(image.convert("L").resize(size[::-1], Image.Resampling.BOX), np.float32)
    down, right = np.gradient(small)
    steep = torch.from_numpy(np.hypot(down, right))
    return (steep / steep.quantile(0.98).clamp_min(1)).clamp(max=1)


def main(photo: str, cams: str, out: str) -> None:
    """Walk on a grid of stride 4, enlarge, and let the CRF follow the pixels."""
    image = Image.open(photo).convert("RGB")
    grid = (-(-image.height // 4), -(-image.width // 4))
    maps = torch.from_numpy(np.load(cams)).float().clamp_min(0)[None]
    maps = functional.interpolate(maps, grid, mode="bilinear")[0]
    walked = weakseg.random_walk(maps**1.5, edges(image, grid))
    walked /= walked.amax(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    full = functional.interpolate(walked[None], (image.height, image.width), mode="bilinear")[0]
    scores = torch.cat([torch.full_like(full[:1], 0.5), full])  # background wins below 0.5
    labels = weakseg.dense_crf(image, scores / scores.sum(dim=0))
    Image.fromarray(labels.numpy()).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
