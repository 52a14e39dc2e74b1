import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from weakseg.ops.losses import (
    balancing_weights,
    cross_pseudo_supervision,
    mask_loss,
    recalibration_loss,
    refined_labels,
    soft_labels,
    tag_loss,
)

TAGS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def maps(seed):
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 7


def test_tag_loss_is_the_mean_binary_cross_entropy():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    p = torch.sigmoid(logits)
    slow = -(TAGS * p.log() + (1 - TAGS) * (1 - p).log()).mean()
    torch.testing.assert_close(tag_loss(logits, TAGS), slow)


def test_raw_maps_are_compared_as_they_are():
    a, b = maps(0), maps(1)
    loss = cross_pseudo_supervision(a, b, TAGS, maps="raw")
    torch.testing.assert_close(loss, (a - b).abs().sum() / a.numel())


def test_normalized_maps_are_compared_over_the_tags_and_free_of_scale():
    a, b = maps(0), maps(1)
    slow = 0
    for image, klass in ((0, 0), (0, 2), (1, 1)):
        x, y = a[image, klass], b[image, klass]
        slow += (x / x.max() - y / y.max()).abs().mean() / 3
    torch.testing.assert_close(cross_pseudo_supervision(a, b, TAGS), slow)
    torch.testing.assert_close(cross_pseudo_supervision(a * 9, b, TAGS), slow)


@pytest.mark.parametrize("kind", ["raw", "normalized"])
@pytest.mark.parametrize("mutual", [True, False])
def test_one_way_leaves_the_spotlight_alone(kind, mutual):
    a, b = maps(0).requires_grad_(), maps(1).requires_grad_()
    cross_pseudo_supervision(a, b, TAGS, maps=kind, mutual=mutual).backward()
    assert b.grad.abs().sum() > 0
    assert (a.grad is not None and bool(a.grad.abs().sum() > 0)) == mutual


def test_empty_maps_and_no_tags_give_no_nan():
    zero = torch.zeros(2, 3, 4, 5, requires_grad=True)
    loss = cross_pseudo_supervision(zero, zero * 1, torch.zeros(2, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(zero.grad).all()


def test_maps_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        cross_pseudo_supervision(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3), TAGS)


def labels_and_logits():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 9), generator=generator, dtype=torch.uint8)
    labels[0, :3] = 255
    return labels, torch.randn(2, 3, 8, 9, generator=generator)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0])])
def test_mask_loss_of_hard_labels_is_cross_entropy(weights):
    labels, logits = labels_and_logits()
    expected = torch.nn.functional.cross_entropy(
        logits, labels.long(), weight=weights, ignore_index=255
    )
    torch.testing.assert_close(mask_loss(logits, labels, weights=weights), expected)


@pytest.mark.parametrize(
    "options", [{"blur": 1}, {"label_smoothing": 0.2}, {"blur": 2, "label_smoothing": 0.1}]
)
def test_mask_loss_of_soft_labels_is_collision_cross_entropy(options):
    labels, logits = labels_and_logits()
    soft = soft_labels(labels, 3, **{"blur": 0, "label_smoothing": 0.0, **options})
    weights = torch.tensor([0.2, 1.0, 3.0])
    total = weight = 0.0
    for b, y, x in (labels != 255).nonzero().tolist():
        p = logits[b, :, y, x].softmax(dim=0)
        own = float((soft[b, :, y, x] * weights).sum())
        total += -own * float((soft[b, :, y, x] * p).sum().log())
        weight += own
    got = mask_loss(logits, labels, weights=weights, **options)
    assert float(got) == pytest.approx(total / weight, rel=1e-5)


def test_soft_labels_are_means_of_what_is_known():
    labels = torch.tensor([[[0, 0, 1, 255, 2]]], dtype=torch.uint8)
    soft = soft_labels(labels, 3, blur=1, label_smoothing=0.0)[0, :, 0].T
    third = 1 / 3
    expected = [[1, 0, 0], [2 * third, third, 0], [0.5, 0.5, 0], [third] * 3, [0, 0, 1]]
    torch.testing.assert_close(soft, torch.tensor(expected))
    doubtful = soft_labels(labels, 3, blur=0, label_smoothing=0.3)
    torch.testing.assert_close(doubtful.sum(dim=1), torch.ones(1, 1, 5))
    assert doubtful[0, :, 0, 0].tolist() == pytest.approx([0.8, 0.1, 0.1])


def test_doubt_bounds_the_pull_of_a_wrong_label():
    labels = torch.zeros(1, 1, 1, dtype=torch.uint8)
    pulls = []
    for label_smoothing in (0.0, 0.1):
        logits = torch.tensor([0.0, 20.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
        mask_loss(logits, labels, label_smoothing=label_smoothing).backward()
        pulls.append(float(logits.grad.abs().sum()))
    assert pulls[0] > 1.9
    assert pulls[1] < 1e-3


@pytest.mark.parametrize("options", [{}, {"blur": 1, "label_smoothing": 0.1}])
def test_no_label_no_loss(options):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = mask_loss(logits, torch.full((1, 4, 4), 255, dtype=torch.uint8), **options)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(logits.grad.abs().max()) == 0


@pytest.mark.parametrize("options", [{"blur": 1}, {"blur": 1, "label_smoothing": 0.1}])
def test_gradients_of_soft_labels_are_numbers(options):
    labels, logits = labels_and_logits()
    logits.requires_grad_()
    mask_loss(logits, labels, **options).backward()
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad[0, :, :3].abs().max()) == 0


def test_balancing_weights_give_every_label_its_least_share():
    counts = torch.tensor([900, 90, 10, 0])
    share = counts / counts.sum()
    for least in (0.0, 0.25, 0.6, 1.0):
        weights = balancing_weights(counts, least)
        mass = share * weights
        assert float(mass.sum()) == pytest.approx(1)
        assert float(mass[:3].min()) >= least / 3 - 1e-6
        assert float(weights[3]) == 1
    torch.testing.assert_close(balancing_weights(counts, 0.0), torch.ones(4))
    mass = share[:3] * balancing_weights(counts, 1.0)[:3]
    torch.testing.assert_close(mass, torch.full((3,), 1 / 3))
    assert balancing_weights(torch.zeros(3), 0.5).tolist() == [1, 1, 1]


def test_labels_that_are_not_rare_keep_their_weights():
    counts = torch.tensor([700, 200, 100])
    torch.testing.assert_close(balancing_weights(counts, 0.25), torch.ones(3))
    weights = balancing_weights(torch.tensor([700, 295, 5]), 0.3)
    assert float(weights[0]) == pytest.approx(float(weights[1]))
    assert float(weights[2]) == pytest.approx(0.1 / 0.005)


def test_what_one_label_is_given_may_make_another_one_rare():
    # 0.108 of the rest is below a ninth only after the last label has got its ninth.
    counts = torch.tensor([880, 119, 1])
    mass = counts / counts.sum() * balancing_weights(counts, 0.34)
    torch.testing.assert_close(mass, torch.tensor([1 - 2 * 0.34 / 3, 0.34 / 3, 0.34 / 3]))


ONE_EACH = torch.tensor([[1.0, 0], [0, 1]])


def test_recalibration_averages_each_kind_of_position_by_itself():
    scores = torch.randn(2, 2, 1, 4)
    labels = torch.tensor([[[1, 0, 0, 255]], [[2, 1, 255, 255]]], dtype=torch.uint8)
    one, zero = torch.ones(()), torch.zeros(())
    positive = [bce(scores[0, 0, 0, 0], one), bce(scores[1, 1, 0, 0], one)]
    negative = [bce(scores[0, 0, 0, k], zero) for k in (1, 2)] + [bce(scores[1, 1, 0, 1], zero)]
    absent = [bce(scores[0, 1, 0, k], zero) for k in range(4)]
    absent += [bce(scores[1, 0, 0, k], zero) for k in range(4)]
    expected = sum(torch.stack(part).mean() for part in (positive, negative, absent)) / 3
    torch.testing.assert_close(recalibration_loss(scores, labels, ONE_EACH), expected)


def test_nothing_known_is_no_number_to_fear():
    unknown = torch.full((1, 3, 3), 255, dtype=torch.uint8)
    loss = recalibration_loss(torch.randn(1, 2, 3, 3), unknown, torch.ones(1, 2))
    assert float(loss) == 0


def test_labels_are_what_maps_are_sure_of():
    maps = torch.tensor([[[0.9, 0.5, 0.1, 0.7]], [[0.2, 0.9, 0.2, 0.68]]])
    labels = refined_labels(maps, torch.tensor([2, 4]), sure=0.67, unsure=0.33)
    assert labels.tolist() == [[3, 5, 0, 3]]
    doubtful = refined_labels(torch.full((1, 1, 2), 0.5), torch.tensor([0]), sure=0.67, unsure=0.33)
    assert doubtful.tolist() == [[255, 255]]
    none = refined_labels(torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.int64), sure=1, unsure=0)
    assert none.shape == (2, 3)
    assert not none.any()
