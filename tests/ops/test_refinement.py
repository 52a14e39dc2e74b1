import pytest
import torch

from weakseg.ops.cams import label_map
from weakseg.ops.label_maps import best_labels, class_labels
from weakseg.ops.refinement import RefineSettings, class_shares, refined_shares


def masked(shares, classes, size):
    return class_labels(best_labels(shares, size), classes)


def picture():
    image = torch.zeros(3, 32, 40, dtype=torch.uint8)
    image[:, :, 20:] = 220
    maps = torch.zeros(1, 32, 40)
    maps[:, :, 23:] = 0.9
    return image, maps


@pytest.mark.parametrize("kind", ["crf", "pamr", "irn+crf"])
def test_masks_reach_the_edges_of_the_image(kind):
    image, maps = picture()
    labels = masked(
        refined_shares(image, maps, 0.5, RefineSettings(kind=kind)), torch.tensor([4]), (32, 40)
    )
    truth = torch.zeros(32, 40, dtype=torch.uint8)
    truth[:, 20:] = 5
    assert float((labels == truth).float().mean()) > 0.98
    plain = label_map(maps, torch.tensor([4]), 0.5, (32, 40))
    assert float((plain == truth).float().mean()) < 0.95


@pytest.mark.parametrize("kind", ["none", "irn"])
def test_without_refinement_the_labels_are_those_of_the_maps(kind):
    image, _ = picture()
    maps = torch.rand(2, 8, 10, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 3])
    shares = refined_shares(image, maps, 0.6, RefineSettings(kind=kind))
    labels = masked(shares, classes, (32, 40))
    assert torch.equal(labels, label_map(maps, classes, 0.6, (32, 40)))


def test_shares_sum_to_one_and_meet_at_the_threshold():
    shares = class_shares(torch.tensor([[[0.4, 0.0]]]), 0.4)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(1, 2))
    torch.testing.assert_close(shares[:, 0, 0], torch.tensor([0.5, 0.5]))
    assert float(shares[0, 0, 1]) > 0.99


def test_labels_are_enlarged_smoothly_to_any_size():
    shares = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    labels = masked(shares, torch.tensor([6]), (3, 10))
    assert labels.tolist() == [[0] * 5 + [7] * 5] * 3


def test_shares_are_never_0_or_no_number():
    shares = class_shares(torch.zeros(1, 2, 2), 0.0)
    assert shares.isfinite().all()
    assert float(shares.min()) > 0
