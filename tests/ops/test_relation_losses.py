import pytest
import torch

from weakseg.ops import relation_losses
from weakseg.ops.affinity import Relation, displacements, pair_labels, path
from weakseg.ops.relation_losses import affinity_loss, displacement_loss, relation_loss

RADIUS = 4


def scene(seed=0, size=(3, 9, 11)):
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.tensor([0, 0, 1, 2, 255])[torch.randint(5, size, generator=generator)]
    b, h, w = size
    boundary = torch.rand(b, 1, h, w, generator=generator)
    displacement = torch.randn(b, 2, h, w, generator=generator) * 3
    return seeds, boundary.requires_grad_(), displacement.requires_grad_()


def pairs(seeds, radius):
    b, h, w = seeds.shape
    for i in range(b):
        for dy, dx in displacements(radius):
            for y in range(h - dy):
                for x in range(max(0, -dx), w - max(0, dx)):
                    ends = int(seeds[i, y, x]), int(seeds[i, y + dy, x + dx])
                    if 255 not in ends:
                        yield i, y, x, dy, dx, ends


def mean(values):
    return torch.stack(values).mean() if values else torch.tensor(0.0)


def slow_affinity(boundary, seeds, radius):
    terms = {kind: [] for kind in Relation}
    for i, y, x, dy, dx, (a, b) in pairs(seeds, radius):
        points = torch.stack([boundary[i, 0, y + oy, x + ox] for oy, ox in path(dy, dx)])
        affinity = 1 - points.max()
        if a != b:
            terms[Relation.NEGATIVE].append(-torch.log(1 - affinity + 1e-5))
        else:
            kind = Relation.FOREGROUND if a else Relation.BACKGROUND
            terms[kind].append(-torch.log(affinity + 1e-5))
    return [mean(terms[kind]) for kind in list(Relation)[1:]]


def slow_displacement(displacement, seeds, radius):
    foreground, background = [], []
    for i, y, x, dy, dx, (a, b) in pairs(seeds, radius):
        if a != b:
            continue
        difference = displacement[i, :, y, x] - displacement[i, :, y + dy, x + dx]
        if a:
            foreground.append((difference - torch.tensor([dy, dx])).abs().mean())
        else:
            background.append(difference.abs().mean())
    return mean(foreground), mean(background)


def gradient_of(loss, leaf):
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient


def all_at_once(planes):
    return planes.reshape(1, -1)


@pytest.mark.parametrize("lines", [relation_losses._lines, all_at_once])
@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_affinity_loss_is_the_slow_one(monkeypatch, chunk, lines):
    monkeypatch.setattr(relation_losses, "_CHUNK", chunk)
    monkeypatch.setattr(relation_losses, "_lines", lines)
    seeds, boundary, _ = scene()
    ours = affinity_loss(boundary, pair_labels(seeds, RADIUS), RADIUS)
    background, foreground, negative = slow_affinity(boundary, seeds, RADIUS)
    torch.testing.assert_close(ours.background, background.detach())
    torch.testing.assert_close(ours.foreground, foreground.detach())
    torch.testing.assert_close(ours.negative, negative.detach())
    slow = 0.5 * background + 0.5 * foreground + negative
    torch.testing.assert_close(ours.loss, slow)
    torch.testing.assert_close(
        gradient_of(ours.loss * 3, boundary), gradient_of(slow * 3, boundary), rtol=1e-4, atol=1e-6
    )


def test_displacement_loss_is_the_slow_one():
    seeds, _, displacement = scene(1)
    ours = displacement_loss(displacement, pair_labels(seeds, RADIUS), RADIUS)
    foreground, background = slow_displacement(displacement, seeds, RADIUS)
    torch.testing.assert_close(ours.foreground, foreground.detach())
    torch.testing.assert_close(ours.background, background.detach())
    torch.testing.assert_close(
        gradient_of(ours.loss * 3, displacement),
        gradient_of((foreground + background) * 3, displacement),
        rtol=1e-4,
        atol=1e-6,
    )


def test_relation_loss_is_half_of_each():
    seeds, boundary, displacement = scene(2)
    whole = relation_loss(boundary, displacement, seeds, RADIUS)
    torch.testing.assert_close(
        whole.loss, 0.5 * whole.affinity.loss + 0.5 * whole.displacement.loss
    )
    whole.loss.backward()
    assert boundary.grad.abs().sum() > 0
    assert displacement.grad.abs().sum() > 0


@pytest.mark.parametrize("label", [0, 1, 255])
def test_a_missing_kind_of_pair_counts_nothing(label):
    _, boundary, displacement = scene(3)
    seeds = torch.full((3, 9, 11), label)
    whole = relation_loss(boundary, displacement, seeds, RADIUS)
    assert whole.affinity.negative == 0
    assert (whole.affinity.background > 0) == (label == 0)
    assert (whole.affinity.foreground > 0) == (label == 1)
    assert (whole.displacement.background > 0) == (label == 0)
    assert (whole.displacement.foreground > 0) == (label == 1)
    whole.loss.backward()
    assert boundary.grad.isfinite().all()
    assert (boundary.grad.abs().sum() > 0) == (label != 255)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_saturated_boundaries_stay_finite(value):
    seeds, _, displacement = scene(4)
    boundary = torch.full((3, 1, 9, 11), value, requires_grad=True)
    whole = relation_loss(boundary, displacement, seeds, RADIUS)
    whole.loss.backward()
    assert whole.loss.isfinite()
    assert boundary.grad.isfinite().all()


def test_descent_finds_the_edge_and_the_centre():
    seeds = torch.zeros(1, 16, 16, dtype=torch.long)
    seeds[:, 4:11, 5:13] = 1
    logits = torch.full((1, 1, 16, 16), -2.0, requires_grad=True)
    displacement = torch.zeros(1, 2, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([logits, displacement], lr=0.1)
    for _ in range(120):
        loss = relation_loss(logits.sigmoid(), displacement, seeds, 5).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    edge = logits.detach().sigmoid()[0, 0]
    assert edge[7, 3:6].max() > 0.6  # across the left side of the object
    assert edge[6:9, 8:11].max() < 0.1  # inside
    assert edge[0, :].max() < 0.1  # outside
    inside = displacement.detach()[0, :, 5:10, 6:12]
    slope = inside[0, 1:] - inside[0, :-1], inside[1, :, 1:] - inside[1, :, :-1]
    assert slope[0].mean() == pytest.approx(-1, abs=0.15)
    assert slope[1].mean() == pytest.approx(-1, abs=0.15)


def test_batch_mates_share_one_mean():
    seeds, boundary, displacement = scene(5)
    twice = relation_loss(
        torch.cat([boundary, boundary]), torch.cat([displacement] * 2), torch.cat([seeds] * 2), 3
    )
    torch.testing.assert_close(twice.loss, relation_loss(boundary, displacement, seeds, 3).loss)


def test_memory_stays_with_the_maps():
    kept = []
    seeds, boundary, displacement = scene(6, (2, 40, 40))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.append(t.numel()), t)[1], lambda t: t
    ):
        relation_loss(boundary, displacement, seeds, 10)
    assert sum(kept) <= 2 * (boundary.numel() + displacement.numel())


def test_half_precision_maps_are_taken():
    seeds, boundary, displacement = scene(7)
    whole = relation_loss(boundary.bfloat16(), displacement.bfloat16(), seeds, RADIUS)
    assert whole.loss.dtype == torch.float32
    whole.loss.backward()
    assert boundary.grad.abs().sum() > 0


def test_wrong_arguments_are_explained():
    seeds, boundary, displacement = scene(8)
    codes = pair_labels(seeds, RADIUS)
    with pytest.raises(ValueError, match=r"expected maps \[B,1,h,w\], got \(3, 2, 9, 11\)"):
        affinity_loss(displacement, codes, RADIUS)
    with pytest.raises(ValueError, match="expected codes"):
        affinity_loss(boundary, codes, RADIUS + 1)
    with pytest.raises(ValueError, match=r"expected maps \[B,2,h,w\]"):
        displacement_loss(boundary, codes, RADIUS)
    with pytest.raises(ValueError, match=r"expected seeds \[B,h,w\]"):
        relation_loss(boundary, displacement, seeds[:, None], RADIUS)
