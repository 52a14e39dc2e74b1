import pytest
import torch
from pydantic import ValidationError

from weakseg.ops.tta import PredictSettings, multi_scale_probabilities


def network(images):
    """Logits that depend on place and colour, the same for an image and its mirror image."""
    return torch.cat([images * 3, -images.mean(dim=1, keepdim=True)], dim=1)


def test_one_scale_is_the_softmax_of_the_logits():
    images = torch.rand(2, 3, 9, 7)
    got = multi_scale_probabilities(network, images, (1.0,), mirror=False)
    torch.testing.assert_close(got, network(images).softmax(dim=1))
    got = multi_scale_probabilities(network, images, (1.0,), mirror=True)
    torch.testing.assert_close(got, network(images).softmax(dim=1))


def test_bytes_and_fractions_give_the_same():
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    a, b = (multi_scale_probabilities(network, x, (0.5, 1), True) for x in (images, images / 255))
    torch.testing.assert_close(a, b)


def test_views_are_averaged_and_mirrored_back():
    seen = []

    def left(images):
        seen.append(tuple(images.shape))
        logits = torch.full((len(images), 2, *images.shape[-2:]), 50.0)
        logits[:, 1] = 0
        logits[:, 1, :, : images.shape[-1] // 2] = 100
        return logits

    got = multi_scale_probabilities(left, torch.rand(1, 3, 8, 8), (1.0, 1.5), mirror=True)
    assert seen == [(1, 3, 8, 8)] * 2 + [(1, 3, 12, 12)] * 2
    # Left of the image says one thing, left of its mirror image the other: half and half.
    torch.testing.assert_close(got, torch.full((1, 2, 8, 8), 0.5))


def test_probabilities_sum_to_one_whatever_the_scales():
    images = torch.rand(2, 3, 33, 50)
    got = multi_scale_probabilities(network, images, (0.3, 0.77, 2.1), mirror=True)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(2, 33, 50))


def test_large_images_go_alone(monkeypatch):
    monkeypatch.setattr("weakseg.ops.tta._FORWARD_PIXELS", 100)
    sizes = []

    def forward(images):
        sizes.append(len(images))
        return network(images)

    images = torch.rand(5, 3, 6, 8)
    got = multi_scale_probabilities(forward, images, (1.0,), mirror=False)
    assert sizes == [2, 2, 1]
    torch.testing.assert_close(got, network(images).softmax(dim=1))


def test_what_cannot_be_looked_at_is_refused():
    with pytest.raises(ValueError, match=r"expected images \[B,C,H,W\] and some scales"):
        multi_scale_probabilities(network, torch.rand(3, 8, 8), (1.0,), False)
    with pytest.raises(ValueError, match="some scales"):
        multi_scale_probabilities(network, torch.rand(1, 3, 8, 8), (), False)
    with pytest.raises(ValidationError):
        PredictSettings(scales=(0.0,))
