"""Every CAM method against its published formula, gradients by backward passes."""

import pytest
import torch
from torch.testing import assert_close

from weakseg.ops.cam_methods import CAM_METHODS
from weakseg.ops.cams import CamSettings


def gradients(features, weights, k):
    """Of the class's score, the mean of its 1×1 convolution, in every feature."""
    leaf = features.clone().requires_grad_()
    score = torch.einsum("c,bchw->bhw", weights[k], leaf).mean(dim=(1, 2)).sum()
    (found,) = torch.autograd.grad(score, leaf)
    return found


def grad_cam(features, gradient):
    return (gradient.sum(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()


def grad_cam_plus_plus(features, gradient):
    below = 2 * gradient**2 + gradient**3 * features.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(below == 0, torch.zeros_like(below), gradient**2 / below)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def layer_cam(features, gradient):
    return (gradient.relu() * features).sum(dim=1).relu()


SLOW = {"cam": grad_cam, "grad-cam++": grad_cam_plus_plus, "layer-cam": layer_cam}


def test_every_method_has_its_slow_truth():
    assert SLOW.keys() == CAM_METHODS.keys()


@pytest.mark.parametrize("name", CAM_METHODS)
def test_methods_are_their_formulas(name):
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(2, 6, 4, 5, generator=generator) - 0.2
    weights = torch.randn(3, 6, generator=generator)
    weights[1, 2] = 0
    found = CAM_METHODS[name](features, weights)
    assert found.shape == (2, 3, 4, 5)
    for k in range(3):
        expected = SLOW[name](features, gradients(features, weights, k))
        assert_close(found[:, k], expected, rtol=1e-4, atol=1e-6)
    assert float(found.amax()) > 0
    assert float(found.amin()) >= 0


def test_methods_differ():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, 8, 6, 6, generator=generator)
    weights = torch.randn(1, 8, generator=generator)
    maps = [method(features, weights) for method in CAM_METHODS.values()]
    unit = [value / value.amax() for value in maps]
    for i, one in enumerate(unit):
        assert all(not torch.allclose(one, other, atol=1e-2) for other in unit[:i])


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ValueError, match="expected one of cam, grad-cam"):
        CamSettings(method="gradcam")
