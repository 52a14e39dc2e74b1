import pytest
import torch

from weakseg.ops.crf import CRFSettings
from weakseg.ops.seeds import confident_seeds, doubtful, scaled_crf

RAW = CRFSettings(iterations=0)


def test_seeds_are_where_the_maps_are_sure():
    image = torch.zeros(3, 1, 4, dtype=torch.uint8)
    careful = torch.tensor([[0, 0, 1, 2]], dtype=torch.uint8)
    generous = torch.tensor([[0, 2, 1, 2]], dtype=torch.uint8)
    seeds = confident_seeds(image, careful, generous, 3, RAW)
    assert seeds.tolist() == [[0, 255, 1, 2]]


def test_the_crf_brings_seeds_to_the_edge():
    image = torch.zeros(3, 24, 24, dtype=torch.uint8)
    image[:, :, 12:] = 255
    labels = torch.zeros(24, 24, dtype=torch.uint8)
    labels[:, 14:] = 1  # falls short of the edge by two columns
    seeds = confident_seeds(image, labels, labels, 2, CRFSettings())
    assert bool((seeds[:, :12] == 0).all())
    assert bool((seeds[:, 12:] == 1).all())


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_doubt_lies_around_the_threshold(threshold):
    low, high = doubtful(threshold)
    assert 0 <= low <= threshold <= high <= 1
    assert doubtful(0.5) == pytest.approx((1 / 3, 2 / 3))


def test_deviations_in_space_follow_the_size_of_the_image():
    half = scaled_crf(CRFSettings(), 250)
    assert half.bilateral_sxy == pytest.approx(25)
    assert half.gaussian_sxy == pytest.approx(1.5)
    assert half.bilateral_srgb == CRFSettings().bilateral_srgb
    assert scaled_crf(CRFSettings(), 500) == CRFSettings()
    assert scaled_crf(CRFSettings(), 10).gaussian_sxy == 0.5
