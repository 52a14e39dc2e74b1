import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from weakseg.data.images import read_mask
from weakseg.data.masks import mask_classes, overlay, voc_palette, write_mask
from weakseg.types import RunError


def slow_voc_colour(index: int) -> tuple[int, int, int]:
    red = green = blue = 0
    for j in range(8):
        red |= (index & 1) << (7 - j)
        green |= (index >> 1 & 1) << (7 - j)
        blue |= (index >> 2 & 1) << (7 - j)
        index >>= 3
    return red, green, blue


def test_palette_is_vocs() -> None:
    palette = voc_palette()
    assert [tuple(row) for row in palette.tolist()] == [slow_voc_colour(k) for k in range(256)]
    assert palette[20].tolist() == [0, 64, 128]  # VOC's tv/monitor


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.integers(0, 10_000))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip(tmp_path: Path, height: int, width: int, top: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(0, top + 1, (height, width), generator=generator)
    write_mask(tmp_path / "a.png", indices)
    back = read_mask(tmp_path / "a.png")
    assert back.dtype == torch.uint8
    assert torch.equal(back.long(), indices)


def test_file_is_palette_png_in_vocs_colours(tmp_path: Path) -> None:
    indices = torch.tensor([[0, 1], [15, 255]], dtype=torch.uint8)
    write_mask(tmp_path / "deep" / "er" / "a.png", indices)
    with Image.open(tmp_path / "deep" / "er" / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        assert np.asarray(image).tolist() == indices.tolist()
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
    assert colours == [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    assert not list(tmp_path.rglob("*.tmp"))


def test_classes_are_kept_and_checked(tmp_path: Path) -> None:
    indices = torch.tensor([[0, 2, 255]], dtype=torch.uint8)
    write_mask(tmp_path / "a.png", indices, ("Katze", "Mähne"))
    assert mask_classes(tmp_path / "a.png") == ("Katze", "Mähne")
    write_mask(tmp_path / "b.png", indices)
    assert mask_classes(tmp_path / "b.png") is None
    (tmp_path / "c.png").write_text("no image")
    assert mask_classes(tmp_path / "c.png") is None
    with pytest.raises(ValueError, match=r"0\.\.1 or 255 for 1 classes, got 2"):
        write_mask(tmp_path / "d.png", indices, ("cat",))
    assert not (tmp_path / "d.png").exists()


def test_old_file_stays_whole_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_mask(path, torch.ones(3, 3, dtype=torch.uint8))

    def broken(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(RunError, match=r"cannot write .*a\.png: No space left"):
        write_mask(path, torch.zeros(3, 3, dtype=torch.uint8))
    assert bool((read_mask(path) == 1).all())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "indices",
    [
        torch.zeros(1, 3, 3),
        torch.zeros(0, 3),
        torch.zeros(3, 3),
        torch.tensor([[256]]),
        torch.tensor([[-1]]),
    ],
)
def test_no_label_map_is_refused(tmp_path: Path, indices: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected"):
        write_mask(tmp_path / "a.png", indices)


def test_overlay() -> None:
    image = torch.full((3, 6, 8), 100, dtype=torch.uint8)
    mask = torch.zeros(6, 8, dtype=torch.uint8)
    mask[1:6, 3:8] = 2
    picture = overlay(image, mask, alpha=0.25)
    assert picture.dtype == torch.uint8
    assert picture.shape == image.shape
    assert bool((picture[:, mask == 0] == 100).all())
    assert picture[:, 1, 5].tolist() == [0, 128, 0]  # contour
    assert picture[:, 4, 6].tolist() == [75, 107, 75]
    assert torch.equal(overlay(image, mask * 0), image)
    with pytest.raises(ValueError, match=r"\(3, 6, 8\) and \(8, 6\)"):
        overlay(image, mask.T)
    with pytest.raises(ValueError, match="alpha"):
        overlay(image, mask, alpha=1.5)
