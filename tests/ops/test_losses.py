import pytest
import torch

from weakseg.ops.losses import cross_pseudo_supervision, tag_loss

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
