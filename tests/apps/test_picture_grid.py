import io

import pytest
import torch
from PIL import Image

from weakseg.apps.picture_grid import heat, picture_grid


def test_heat_is_dark_where_the_map_is_low_and_bright_where_it_is_high():
    image = torch.full((3, 20, 30), 100, dtype=torch.uint8)
    scores = torch.zeros(5, 6)
    scores[:, 3:] = 1
    shown = heat(image, scores)
    assert shown.shape == image.shape
    assert shown.dtype == torch.uint8
    assert shown[:, :, 0].float().mean() < 100 < shown[0, :, -1].float().mean()
    assert torch.equal(heat(image, scores, alpha=0), image)


def test_pictures_of_all_sizes_stand_in_rows():
    rows = [
        [torch.zeros(3, 40, 80, dtype=torch.uint8), torch.full((3, 9, 9), 255, dtype=torch.uint8)],
        [torch.zeros(3, 500, 20, dtype=torch.uint8), torch.zeros(3, 30, 30, dtype=torch.uint8)],
    ]
    page = Image.open(io.BytesIO(picture_grid(["a", "b"], rows, height=50)))
    assert page.size == (6 + 100 + 6 + 50 + 6, 20 + 2 * 56 + 6)
    assert page.getpixel((10, 40)) == (0, 0, 0)


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 2 pictures a row, got 1"):
        picture_grid(["a", "b"], [[torch.zeros(3, 4, 4, dtype=torch.uint8)]])
