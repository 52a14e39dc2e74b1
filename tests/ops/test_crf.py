import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from weakseg.ops import crf as crf_module
from weakseg.ops.crf import CRFSettings, DenseCRF, dense_crf
from weakseg.ops.permutohedral import PermutohedralLattice
from weakseg.types import IGNORE

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("WEAKSEG_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
CASES = sorted(GOLDEN.glob("crf_*.npz"))


@pytest.fixture(autouse=True)
def _one_thread():
    # Threads that wait for each other make these tests ten times slower on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photo(height, width, seed=0):
    """A bright disc on a dark ground with a gradient and noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(height)[:, None] / max(height - 1, 1) - 0.5
    x = torch.arange(width)[None] / max(width - 1, 1) - 0.5
    disc = (y**2 + x**2 < 0.09).float()
    image = torch.stack([60 + 120 * disc, 80 + 30 * x + 60 * disc, 70 + 30 * y - 40 * disc])
    noise = 4 * torch.randn(image.shape, generator=generator)
    return (image + noise).clamp(0, 255).to(torch.uint8), disc.to(torch.uint8)


def features_of(image, settings):
    height, width = image.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([x, y]).flatten(1).float()
    colour = image.flatten(1).float()
    return (
        (settings.gaussian_weight, position / settings.gaussian_sxy),
        (
            settings.bilateral_weight,
            torch.cat([position / settings.bilateral_sxy, colour / settings.bilateral_srgb]),
        ),
    )


def exact_kernel(features):
    return torch.exp(-0.5 * torch.cdist(features.T.double(), features.T.double()) ** 2)


def lattice_kernel(features):
    lattice = PermutohedralLattice(features)
    return lattice.filter(torch.eye(features.shape[1])).double()


def slow_mean_field(image, labels, n_labels, settings, kernel_of):
    """All pairs, in double precision, for one label map: marginals [L, H, W]."""
    kernel = torch.zeros(labels.numel(), labels.numel()).double()
    for weight, features in features_of(image, settings):
        part = kernel_of(features)
        norm = part.sum(1).rsqrt()
        kernel += weight * norm[:, None] * part * norm
    sure = settings.label_confidence
    probability = torch.full((n_labels, labels.numel()), (1 - sure) / (n_labels - 1)).double()
    flat = labels.flatten().long()
    for i, label in enumerate(flat.tolist()):
        if label == IGNORE:
            probability[:, i] = 1 / n_labels
        else:
            probability[label, i] = sure
    unary = -probability.log()
    q = torch.softmax(-unary, 0)
    for _ in range(settings.iterations):
        q = torch.softmax(-unary + q @ kernel.T, 0)
    return q.view(n_labels, *labels.shape)


def noisy_labels(truth, n_labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = truth.clone()
    wrong = torch.rand(truth.shape, generator=generator) < 0.25
    other = torch.randint(0, n_labels, truth.shape, generator=generator, dtype=torch.uint8)
    labels[wrong] = other[wrong]
    labels[torch.rand(truth.shape, generator=generator) < 0.1] = IGNORE
    return labels


@pytest.mark.skipif(not CASES, reason=f"no crf_*.npz in {GOLDEN} (set WEAKSEG_GOLDEN)")
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_golden_refinement_is_reproduced(path):
    case = np.load(path)
    image = torch.from_numpy(case["rgb"]).permute(2, 0, 1)
    seed = torch.from_numpy(case["seed"])
    refined = dense_crf(image, seed, n_labels=int(case["n_labels"]))
    assert (refined.numpy() == case["refined"]).mean() >= 0.99


@pytest.mark.parametrize("n_labels", [2, 4])
@pytest.mark.parametrize("size", [(8, 8), (13, 11)])
def test_mean_field_equals_all_pairs_of_its_lattice(n_labels, size):
    image, truth = photo(*size)
    labels = noisy_labels(truth, n_labels)
    settings = CRFSettings(bilateral_sxy=6, bilateral_srgb=20, label_confidence=0.6)
    slow = slow_mean_field(image, labels, n_labels, settings, lattice_kernel)
    fast = DenseCRF(image, settings).from_labels(labels, n_labels)
    torch.testing.assert_close(fast.double(), slow, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize(
    "settings", [CRFSettings(), CRFSettings(bilateral_sxy=8, bilateral_srgb=13, gaussian_sxy=2)]
)
def test_mean_field_is_close_to_brute_force(n_labels, settings):
    image, truth = photo(22, 26)
    labels = noisy_labels(truth, n_labels)
    slow = slow_mean_field(image, labels, n_labels, settings, exact_kernel)
    fast = DenseCRF(image, settings).from_labels(labels, n_labels)
    assert (fast.argmax(0) == slow.argmax(0)).float().mean() >= 0.99
    assert (fast - slow).abs().mean() < 0.02
    assert (slow.argmax(0) == truth).float().mean() > 0.95


def test_map_alone_equals_map_in_a_batch():
    image, truth = photo(20, 30)
    maps = torch.stack([noisy_labels(truth, 3, seed) for seed in range(6)]).view(2, 3, 20, 30)
    crf = DenseCRF(image)
    together = crf.from_labels(maps, 3)
    assert together.shape == (2, 3, 3, 20, 30)
    torch.testing.assert_close(together[1, 2], crf.from_labels(maps[1, 2], 3))
    assert torch.equal(crf.label(maps, 3), together.argmax(-3).to(torch.uint8))


def test_probabilities_of_the_labels_equal_the_labels():
    image, truth = photo(16, 18)
    labels = noisy_labels(truth, 3)
    probabilities = torch.full((3, 16, 18), 0.15)
    probabilities.scatter_(0, labels.clamp(max=2).long()[None], 0.7)
    probabilities[:, labels == IGNORE] = 1 / 3
    crf = DenseCRF(image)
    wanted = crf.from_labels(labels, 3)
    torch.testing.assert_close(crf.from_probabilities(probabilities), wanted)
    torch.testing.assert_close(crf.from_probabilities(5 * probabilities), wanted)
    assert torch.equal(dense_crf(image, probabilities), wanted.argmax(0).to(torch.uint8))


def test_order_of_labels_does_not_matter():
    image, _ = photo(12, 12)
    probabilities = torch.softmax(torch.randn(4, 12, 12), 0)
    crf, order = DenseCRF(image), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        crf.from_probabilities(probabilities[order]),
        crf.from_probabilities(probabilities)[order],
        rtol=1e-3,
        atol=1e-4,
    )


def test_labels_move_to_the_edge_of_the_image():
    image, truth = photo(60, 70)
    shifted = truth.roll(4, 1)
    refined = dense_crf(image, shifted, n_labels=2)
    assert (shifted == truth).float().mean() < 0.95
    assert (refined == truth).float().mean() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (32, 32)])
@pytest.mark.parametrize("constant", [False, True])
def test_small_and_constant_images(size, constant):
    image, _ = photo(*size)
    if constant:
        image = torch.full_like(image, 128)
    labels = torch.zeros(2, *size, dtype=torch.uint8)
    labels[1] = 1
    marginals = DenseCRF(image).from_labels(labels, 3)
    torch.testing.assert_close(marginals.sum(1), torch.ones(2, *size))
    assert torch.equal(dense_crf(image, labels), labels)


def test_one_label_only():
    image, _ = photo(9, 9)
    labels = torch.zeros(9, 9, dtype=torch.long)
    assert torch.equal(DenseCRF(image).from_labels(labels, 1), torch.ones(1, 9, 9))
    assert torch.equal(dense_crf(image, labels), labels.to(torch.uint8))
    assert torch.equal(DenseCRF(image).from_probabilities(torch.rand(1, 9, 9)), torch.ones(1, 9, 9))


def test_unknown_pixels_are_uniform_alone_and_filled_by_alike_neighbours():
    image, truth = photo(40, 40)
    unknown = torch.full((40, 40), IGNORE, dtype=torch.uint8)
    marginals = DenseCRF(image).from_labels(unknown, 4)
    assert torch.equal(marginals, torch.full((4, 40, 40), 0.25))
    assert dense_crf(image, unknown).eq(0).all()
    half_known = truth.clone()
    half_known[:, ::2] = IGNORE
    assert (dense_crf(image, half_known) == truth).float().mean() > 0.99


def test_weights_of_zero_and_no_iterations_leave_the_unary():
    image, truth = photo(10, 10)
    for settings in (
        CRFSettings(gaussian_weight=0, bilateral_weight=0),
        CRFSettings(iterations=0),
    ):
        marginals = DenseCRF(image, settings).from_labels(truth, 2)
        torch.testing.assert_close(marginals[1], torch.where(truth == 1, 0.7, 0.3))


def test_tiles_agree_with_the_whole_and_overlap():
    image, truth = photo(300, 420)
    labels = torch.stack([noisy_labels(truth, 2), truth.roll(5, 0)])
    whole = DenseCRF(image, CRFSettings(bilateral_sxy=30))
    tiled = DenseCRF(image, CRFSettings(bilateral_sxy=30, tile=256))
    assert (whole.label(labels, 2) == tiled.label(labels, 2)).float().mean() > 0.998
    difference = whole.from_labels(labels, 2) - tiled.from_labels(labels, 2)
    assert difference.abs().mean() < 0.01


@pytest.mark.parametrize("length", [1, 256, 257, 1000, 4000])
def test_tiles_cover_each_pixel_once_and_stay_small(length):
    spans = crf_module._spans(length, 256, 64)
    covered = [i for span in spans for i in range(length)[span.kept]]
    assert covered == list(range(length))
    for span in spans:
        read = range(length)[span.read]
        assert len(read) <= 256
        assert list(read)[span.inner] == list(range(length)[span.kept])


def test_large_image_is_solved_in_tiles(monkeypatch):
    sizes = []

    class Spy(crf_module._Field):
        def __init__(self, image, settings):
            sizes.append(tuple(image.shape[1:]))
            # A coarse stand-in keeps the test fast: what is tested is who is asked for what.
            super().__init__(image[:, :1, :1], settings)

        def solve(self, odds, iterations):
            return torch.softmax(torch.cat([torch.zeros_like(odds[:1]), odds]), 0)

    monkeypatch.setattr(crf_module, "_Field", Spy)
    labels = torch.randint(0, 2, (3000, 4000), dtype=torch.uint8)
    image = torch.zeros(3, 3000, 4000, dtype=torch.uint8)
    assert torch.equal(dense_crf(image, labels), labels)
    assert len(sizes) == 20
    assert max(max(size) for size in sizes) <= 1024


@pytest.mark.parametrize(
    ("image", "unary", "message"),
    [
        (
            torch.zeros(8, 8, 3, dtype=torch.uint8),
            torch.zeros(8, 8).byte(),
            r"expected an RGB image.*\[8, 8, 3\]",
        ),
        (torch.zeros(3, 8, 8), torch.zeros(8, 8).byte(), "uint8 \\[3,H,W\\]"),
        (torch.zeros(3, 0, 8).byte(), torch.zeros(0, 8).byte(), "with pixels"),
        (torch.zeros(3, 8, 8).byte(), torch.zeros(4, 8).byte(), "resize"),
        (torch.zeros(3, 8, 8).byte(), torch.full((8, 8), -1), r"got \[-1\]"),
        (torch.zeros(3, 8, 8).byte(), torch.randn(2, 8, 8) - 5, "softmax"),
        (torch.zeros(3, 8, 8).byte(), torch.rand(8, 8), r"\[..., L, H, W\]"),
    ],
)
def test_wrong_arguments_are_named(image, unary, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(image, unary)


def test_wrong_numbers_of_labels_are_named():
    image, truth = photo(8, 8)
    with pytest.raises(ValueError, match=r"labels 0\.\.1 or 255 \(unknown\), got \[7\]"):
        dense_crf(image, torch.full_like(truth, 7), n_labels=2)
    with pytest.raises(ValueError, match="1 to 255 labels"):
        dense_crf(image, truth, n_labels=0)
    with pytest.raises(ValueError, match="expected 3 labels"):
        dense_crf(image, torch.rand(2, 8, 8), n_labels=3)


@pytest.mark.parametrize(
    "wrong", [{"iterations": -1}, {"label_confidence": 1}, {"bilateral_srgb": 0}, {"sxy": 3}]
)
def test_settings_refuse(wrong):
    with pytest.raises(ValidationError):
        CRFSettings(**wrong)
