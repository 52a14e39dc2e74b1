"""Scribbles on an object and beside it, completed by random walks that boundaries stop."""

from __future__ import annotations

import torch
from torch import Tensor

from weakseg.ops.arguments import finite_maps
from weakseg.ops.walk import Walker

OBJECT, BESIDE = 1, 2
"""Values of a scribble: on the object, and on what is not."""


@torch.no_grad()
def complete_scribbles(
    scribbles: Tensor,
    boundary: Tensor,
    *,
    radius: int = 5,
    beta: float = 10.0,
    rounds: int = 4,
    steps: int = 64,
) -> Tensor:
    """How much more each pixel belongs to the object than to what is beside it.

    Both scribbles walk at once; after every round each pixel's two shares are made to sum to 1, and
    scribbled pixels get back what they were said to be. In the limit this is the random walker of
    Grady (IEEE TPAMI 2006) on the affinities of `random_walk`.

    Args:
        scribbles: uint8 [h,w]: `OBJECT`, `BESIDE`, 0 elsewhere; both must be there.
        boundary: Probability of a boundary in 0..1, [h,w].
        radius: Reach of a step, in pixels.
        beta: Exponent of the affinities.
        rounds: How often scribbles are renewed.
        steps: Steps between.

    Returns:
        float32 [h,w] in -1..1, above 0 where the object is; 0 where neither scribble arrives.

    Raises:
        ValueError: The shapes differ, or one of both scribbles is missing.

    Example:
        >>> wall = torch.zeros(5, 11)
        >>> wall[:, 5] = 1
        >>> scribbles = torch.zeros(5, 11, dtype=torch.uint8)
        >>> scribbles[2, 2], scribbles[2, 8] = OBJECT, BESIDE
        >>> lead = complete_scribbles(scribbles, wall)
        >>> bool((lead[:, :5] > 0).all()), bool((lead[:, 6:] < 0).all())
        (True, True)
    """
    if scribbles.shape != boundary.shape or scribbles.ndim != 2:
        raise ValueError(
            f"expected scribbles and boundary [h,w] of one size, got {tuple(scribbles.shape)} and "
            f"{tuple(boundary.shape)}"
        )
    fixed = torch.stack([scribbles == OBJECT, scribbles == BESIDE]).float()
    if not bool(fixed.flatten(1).any(dim=1).all()):
        raise ValueError("expected a scribble on the object and one beside it; one is missing")
    boundary = finite_maps(boundary, "a boundary map")
    free = 1 - fixed.sum(dim=0)
    # A scribble holds on a boundary, too.
    boundary = boundary.float() * free
    walker = Walker(boundary, radius=radius, beta=beta)
    shares, open_ground = fixed, (1 - boundary).flatten()
    for _ in range(rounds):
        walked = walker(shares.flatten(1) * open_ground, steps).view_as(fixed)
        total = walked.sum(dim=0)
        shares = torch.where(total > 0, walked / total.clamp_min(1e-30), torch.zeros(()))
        shares = shares * free + fixed
    return shares[0] - shares[1]
