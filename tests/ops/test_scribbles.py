import time

import pytest
import torch

from weakseg.ops.affinity import displacements, pair_affinity
from weakseg.ops.scribbles import BESIDE, OBJECT, complete_scribbles


def scene(height=30, width=40):
    boundary = torch.full((height, width), 0.02)
    boundary[8, 10:25] = boundary[22, 10:25] = 0.98
    boundary[8:23, 10] = boundary[8:23, 24] = 0.98
    scribbles = torch.zeros(height, width, dtype=torch.uint8)
    scribbles[15, 14:18] = OBJECT
    scribbles[2, 5:30] = BESIDE
    return scribbles, boundary


def test_the_object_ends_at_its_boundary():
    lead = complete_scribbles(*scene())
    assert bool((lead[9:22, 11:24] > 0).all())
    outside = torch.ones_like(lead, dtype=torch.bool)
    outside[8:23, 10:25] = False
    assert bool((lead[outside] < 0).all())
    assert lead.abs().max() <= 1


def test_scribbles_stay_what_they_were_said_to_be():
    scribbles, boundary = scene()
    boundary[15, 14:18] = 1.0  # even on a boundary
    lead = complete_scribbles(scribbles, boundary)
    assert bool((lead[scribbles == OBJECT] == 1).all())
    assert bool((lead[scribbles == BESIDE] == -1).all())


def test_in_the_limit_it_is_the_random_walker():
    """Against the linear system of Grady's random walker, solved densely."""
    torch.manual_seed(0)
    height, width, radius, beta = 7, 8, 2, 3.0
    boundary = torch.rand(height, width)
    scribbles = torch.zeros(height, width, dtype=torch.uint8)
    scribbles[1, 1], scribbles[5, 6] = OBJECT, BESIDE
    seeded = (scribbles > 0).flatten()
    held = boundary * ~seeded.view(height, width)
    weights = torch.zeros(height * width, height * width, dtype=torch.float64)
    planes = pair_affinity(held, radius) ** beta
    for plane, (dy, dx) in zip(planes, displacements(radius), strict=True):
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    a, b = y * width + x, (y + dy) * width + x + dx
                    weights[a, b] = weights[b, a] = plane[y, x]
    laplacian = weights.sum(1).diag() - weights
    free = ~seeded
    known = (scribbles.flatten() == OBJECT).double() - (scribbles.flatten() == BESIDE).double()
    exact = known.clone()
    exact[free] = torch.linalg.solve(
        laplacian[free][:, free], -laplacian[free][:, seeded] @ known[seeded]
    )
    found = complete_scribbles(scribbles, boundary, radius=radius, beta=beta, rounds=400, steps=1)
    # Where a pixel lies on a boundary, the walk loses what the other does not; signs agree.
    sure = exact.abs() > 0.1
    assert bool(((found.flatten() > 0) == (exact > 0))[sure].all())


def test_it_answers_while_one_waits():
    scribbles = torch.zeros(94, 125, dtype=torch.uint8)  # 500×375 at stride 4
    scribbles[40, 50:60] = OBJECT
    scribbles[0] = BESIDE
    boundary = torch.rand(94, 125, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(3):
        begun = time.process_time()
        complete_scribbles(scribbles, boundary)
        times.append(time.process_time() - begun)
    assert min(times) < 0.3


def test_one_scribble_alone_is_refused():
    scribbles, boundary = scene()
    scribbles[scribbles == BESIDE] = 0
    with pytest.raises(ValueError, match="one is missing"):
        complete_scribbles(scribbles, boundary)
    with pytest.raises(ValueError, match="of one size"):
        complete_scribbles(scribbles, boundary[:-1])
