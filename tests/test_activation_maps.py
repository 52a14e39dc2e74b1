"""Maps as a function: what the stage `cams` keeps, of any model, without a run."""

import pytest
import torch

from weakseg import AMR, AMRSettings, BackboneSettings, CamSettings, class_activation_maps

NETWORK = BackboneSettings(name="resnet18", weights="none")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AMR(3, NETWORK).train()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_maps_of_tags_alone_each_with_maximum_1(model, images):
    maps = class_activation_maps(model, images, [{0}, {1, 2}], CamSettings(scales=(1.0,)))
    assert set(maps) == {"spotlight", "compensation", "weighted"}
    for value in maps.values():
        assert value.shape == (2, 3, 16, 24)
        assert float(value.min()) >= 0
        assert value[0, 1:].abs().sum() == value[1, 0].abs().sum() == 0
        assert float(value.max()) == pytest.approx(1, abs=1e-5)
    assert model.training


def test_mates_and_types_of_pixels_change_nothing(model, images):
    pixels = (images * 255).round().to(torch.uint8)
    together = class_activation_maps(model, pixels)["weighted"]
    alone = class_activation_maps(model, pixels[1:])["weighted"]
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)
    floats = class_activation_maps(model, pixels.float() / 255)["weighted"]
    torch.testing.assert_close(together, floats, atol=1e-4, rtol=1e-4)


def test_a_plain_network_has_one_kind(images):
    plain = AMR(2, NETWORK, AMRSettings(compensation=False))
    assert set(class_activation_maps(plain, images)) == {"spotlight"}


@pytest.mark.parametrize("wrong", [torch.rand(3, 64, 64), torch.rand(1, 4, 64, 64), "cat.jpg"])
def test_what_is_no_batch_is_named(model, wrong):
    with pytest.raises(ValueError, match="expected images"):
        class_activation_maps(model, wrong)


def test_tags_are_as_many_as_images(model, images):
    with pytest.raises(ValueError, match="expected tags for 2 images, got 1"):
        class_activation_maps(model, images, [{0}])
