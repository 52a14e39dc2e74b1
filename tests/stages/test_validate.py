import torch
from PIL import Image

from weakseg.ops.crf import CRFSettings
from weakseg.predict import Labeled
from weakseg.stages.validate import _refined
from weakseg.types import Sample

PUBLISHED = CRFSettings(
    gaussian_sxy=1, gaussian_weight=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_weight=4
)


class Fixed:
    """A labeler that is half sure of a class, up to eight columns too far to the right."""

    device = torch.device("cpu")

    def stream(self, images, *, maps):
        assert maps
        for number, _ in enumerate(images):
            shares = torch.full((2, 30, 40), 0.3)
            shares[0, :, 22:] = 0.7
            shares[1] = 1 - shares[0]
            yield Labeled(number, torch.zeros(120, 160, dtype=torch.uint8), maps=shares.half())


def test_probabilities_move_to_the_images_edge_by_the_dense_crf(tmp_path):
    pixels = torch.full((120, 160, 3), 200, dtype=torch.uint8)
    pixels[:, :80] = torch.tensor([40, 90, 30], dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    samples = [Sample("a", tmp_path / "a.png", frozenset(), None)]
    truth = torch.zeros(120, 160, dtype=torch.uint8)
    truth[:, :80] = 1
    ((sample, plain),) = _refined(Fixed(), samples, CRFSettings(iterations=0))
    ((_, refined),) = _refined(Fixed(), samples, PUBLISHED)
    assert sample is samples[0]
    assert refined.dtype == torch.uint8
    assert int((plain != truth).sum()) >= 120 * 8
    assert int((refined != truth).sum()) <= 120
