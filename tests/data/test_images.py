import contextlib
import io
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from weakseg.data import decode
from weakseg.data.decode import decode_fully
from weakseg.data.images import image_size, read_image, read_mask
from weakseg.faults import FileError
from weakseg.types import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings(
    "ignore:The image decoding and encoding", "ignore::UserWarning:PIL"
)


def smooth(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    red = 255 * x / max(1, width - 1)
    green = 255 * y / max(1, height - 1)
    return np.stack([red, green, np.full_like(red, 90.0)], axis=-1).round().astype(np.uint8)


def tensor_of(array):
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


def close(image, array, tolerance):
    assert image.dtype == torch.uint8
    assert image.shape == (3, *array.shape[:2])
    difference = (image.int() - tensor_of(array).int()).abs()
    assert difference.max() <= tolerance


def test_rgb_png_is_read_exactly(tmp_path):
    array = smooth()
    Image.fromarray(array).save(tmp_path / "a.png")
    close(read_image(tmp_path / "a.png"), array, 0)
    close(read_image(str(tmp_path / "a.png")), array, 0)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_pillow_reads(tmp_path, progressive):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", quality=95, progressive=progressive)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.array(image.convert("RGB"))
    close(read_image(tmp_path / "a.jpg"), expected, 2)


def test_no_decoder_that_is_going_away_is_used(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.webp", "a.bmp", "a.tif", "a.gif", "a.ppm", "a.jp2"])
def test_other_formats(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(smooth()).save(tmp_path / name, **options)
    close(read_image(tmp_path / name), smooth(), 40 if name == "a.gif" else 12)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_gray_becomes_three_equal_channels(tmp_path, name):
    gray = smooth()[:, :, 0]
    Image.fromarray(gray).save(tmp_path / name, **({"quality": 95} if name == "a.jpg" else {}))
    close(read_image(tmp_path / name), np.stack([gray] * 3, axis=-1), 6)
    with Image.open(tmp_path / name) as image:
        assert image.mode == "L"


def test_black_and_white(tmp_path):
    Image.fromarray(smooth()[:, :, 0] > 127).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").unique().tolist() == [0, 255]


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (10, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.paste(0, (0, 0, 5, 8))
    image.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png")[:, 0, 9].tolist() == [200, 100, 50]
    assert read_image(tmp_path / "opaque.png")[:, 0, 0].tolist() == [0, 0, 0]
    image.save(tmp_path / "clear.png", transparency=0)
    assert read_image(tmp_path / "clear.png")[:, 0, 9].tolist() == [200, 100, 50]
    assert read_image(tmp_path / "clear.png")[:, 0, 0].tolist() == [255, 255, 255]


def test_transparent_pixels_are_laid_over_white(tmp_path):
    Image.new("RGBA", (10, 8), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (10, 8), (200, 0, 0, 128)).save(tmp_path / "half.png")
    Image.new("LA", (10, 8), (0, 0)).save(tmp_path / "gray.png")
    assert read_image(tmp_path / "clear.png").unique().tolist() == [255]
    red, green, blue = read_image(tmp_path / "half.png")[:, 0, 0].tolist()
    assert abs(red - 227) <= 1
    assert abs(green - 127) <= 1
    assert abs(blue - 127) <= 1
    assert read_image(tmp_path / "gray.png").unique().tolist() == [255]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_not_inverted(tmp_path, name):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / name)
    red, green, blue = read_image(tmp_path / name)[:, 8, 8].tolist()
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path, name):
    wide = np.linspace(0, 65535, 64 * 16).reshape(16, 64).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / name)
    expected = np.round(wide / 257.0).astype(np.uint8)
    close(read_image(tmp_path / name), np.stack([expected] * 3, axis=-1), 1)


def test_twelve_bits_in_sixteen_are_not_black(tmp_path):
    wide = np.linspace(0, 4095, 64 * 16).reshape(16, 64).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").max() == 255


def test_floating_point_gray(tmp_path):
    fraction = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    fraction[0, 0] = np.nan
    Image.fromarray(fraction).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    assert image.max() == 255
    assert image[0, 0, 0] == 0
    Image.fromarray(np.full((8, 8), -3, dtype=np.int32)).save(tmp_path / "b.tif")
    assert read_image(tmp_path / "b.tif").shape == (3, 8, 8)


def test_first_frame_of_several(tmp_path):
    frames = [Image.new("RGB", (12, 8), color) for color in ("red", "blue")]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        red, _, blue = read_image(tmp_path / name)[:, 4, 4].tolist()
        assert red > 240
        assert blue < 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_orientation_is_applied(tmp_path, orientation, name):
    # Which stored corner is the upright image's top left, and whether axes are exchanged.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    upright = smooth(48, 80)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98} if name.endswith("jpg") else {}
    if name.endswith("webp"):
        options["lossless"] = True
    Image.fromarray(np.ascontiguousarray(stored(upright))).save(
        tmp_path / name, exif=exif, **options
    )
    assert image_size(tmp_path / name) == (48, 80)
    facts = decode_fully(tmp_path / name)
    assert (facts.height, facts.width) == (48, 80)
    assert facts.orientation == orientation
    close(read_image(tmp_path / name), upright, 14)


def test_broken_exif_does_not_hide_the_image(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg").shape == (3, 40, 60)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 160), (300, 15)])
def test_small_and_long_images(tmp_path, name, height, width):
    Image.fromarray(smooth(height, width)).save(tmp_path / name)
    assert read_image(tmp_path / name).shape == (3, height, width)
    assert read_image(tmp_path / name, max_side=4).shape[0] == 3
    assert image_size(tmp_path / name) == (height, width)


def test_fifty_megapixels(tmp_path):
    Image.new("RGB", (8660, 5774), (10, 200, 30)).save(tmp_path / "a.jpg")
    assert image_size(tmp_path / "a.jpg") == (5774, 8660)
    assert decode_fully(tmp_path / "a.jpg").width == 8660
    small = read_image(tmp_path / "a.jpg", max_side=640)
    assert small.shape == (3, 722, 1083)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(height=17, width=20, side=5, orientation=1)
@given(
    height=st.integers(8, 400),
    width=st.integers(8, 400),
    side=st.integers(1, 500),
    orientation=st.sampled_from([1, 6]),
)
def test_reduced_decoding_keeps_the_side_asked_for(tmp_path, height, width, side, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), "gray").save(tmp_path / "a.jpg", exif=exif)
    full = (height, width) if orientation == 1 else (width, height)
    _, *found = read_image(tmp_path / "a.jpg", max_side=side).shape
    factor = next(n for n in (8, 4, 2, 1) if n == 1 or max(full) >= n * side)
    assert max(found) >= min(side, max(full))
    # Where the short side is a few pixels, a coarser factor than possible is never taken.
    assert max(found) <= -(-max(full) // factor) * (1 if min(full) >= 16 else 8)
    for length, whole in zip(found, full, strict=True):
        assert length in {-(-whole // n) for n in (1, 2, 4, 8)}


def test_max_side_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="max_side ≥ 1"):
        read_image(tmp_path / "a.jpg", max_side=0)


@pytest.mark.parametrize("reader", [read_image, image_size, decode_fully, read_mask])
def test_files_that_are_no_images(tmp_path, reader):
    cases = {
        "missing.jpg": (None, "image_missing"),
        "empty.jpg": (b"", "image_empty"),
        "text.png": (b"hello, I am no image at all", "image_format"),
        "page.jpg": (b"<!DOCTYPE html><html></html>", "image_format"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image_format"),
        "cut.jpg": (b"\xff\xd8\xff\xe0", "image_damaged"),
    }
    for name, (data, kind) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name) as caught:
            reader(tmp_path / name)
        assert isinstance(caught.value, FileError)
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match="folder"):
        reader(tmp_path / "folder.jpg")


def test_heic_and_web_pages_are_told_by_name(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(DataError, match="HEIC"):
        read_image(tmp_path / "a.heic")
    (tmp_path / "a.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match="web page"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.tif", "a.bmp"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files(tmp_path, name, part):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, Image.registered_extensions()[Path(name).suffix])
    (tmp_path / name).write_bytes(buffer.getvalue()[: int(part * len(buffer.getvalue()))])
    for reader in (read_image, decode_fully, lambda path: read_image(path, max_side=16)):
        with pytest.raises(DataError, match="truncated or damaged"):
            reader(tmp_path / name)


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    Image.new("1", (20000, 10001)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", None)  # decoding would fail
    for reader in (read_image, image_size, decode_fully, read_mask):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(DataError, match=r"20000×10001 pixels.*200 megapixels") as caught:
                reader(tmp_path / "a.png")
        assert caught.value.kind == "image_too_large"


def test_a_bomb_beyond_pillows_own_limit(tmp_path):
    data = b"P5 60000 60000 255\n" + bytes(64)
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(DataError, match="200 megapixels") as caught:
        read_image(tmp_path / "a.pgm")
    assert caught.value.kind == "image_too_large"


def test_pillows_guard_is_lifted_not_removed(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")
    assert Image.MAX_IMAGE_PIXELS is not None
    assert decode.max_pixels() <= Image.MAX_IMAGE_PIXELS


def test_the_limit_of_megapixels_is_a_setting(tmp_path, monkeypatch):
    Image.new("L", (1200, 1000)).save(tmp_path / "a.png")
    monkeypatch.setenv("WEAKSEG_MAX_MEGAPIXELS", "1")
    with pytest.raises(DataError, match=r"1200×1000.*1 megapixels.*WEAKSEG_MAX_MEGAPIXELS"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv("WEAKSEG_MAX_MEGAPIXELS", "1.2")
    assert read_image(tmp_path / "a.png").shape == (3, 1000, 1200)


@pytest.mark.parametrize("text", ["many", "0", "-3", "nan"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, monkeypatch, text):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setenv("WEAKSEG_MAX_MEGAPIXELS", text)
    with pytest.raises(ConfigError, match=f"WEAKSEG_MAX_MEGAPIXELS.*'{text}'"):
        read_image(tmp_path / "a.png")


def four_bands(path, extra):
    """A TIFF of four bands, red, green, blue and a ramp, whose tag ExtraSamples is as given."""
    pixels = np.full((8, 8, 4), (200, 100, 50, 0), np.uint8)
    pixels[..., 3] = np.arange(8) * 30
    Image.fromarray(pixels, "RGBA").save(path)
    data = bytearray(path.read_bytes())
    at = data.index((338).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    if extra is None:  # Pillow always writes the tag: give it a number nobody reads
        data[at : at + 2] = (60_000).to_bytes(2, "little")
    else:
        data[at + 8 : at + 10] = extra.to_bytes(2, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(("extra", "alpha"), [(2, "partly"), (0, "none"), (None, "none")])
def test_a_fourth_band_is_transparency_only_if_the_tiff_says_so(tmp_path, extra, alpha):
    four_bands(tmp_path / "a.tif", extra)
    facts = decode.decode_fully(tmp_path / "a.tif")
    assert (facts.alpha, facts.bands) == (alpha, 4)
    image = read_image(tmp_path / "a.tif")
    plain = torch.tensor([200, 100, 50], dtype=torch.uint8)
    assert bool((image[:, 0, 0] == plain).all()) == (alpha == "none")
    ignored = read_image(tmp_path / "a.tif", ignore_alpha=True)
    assert bool((ignored == plain[:, None, None]).all())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_can_be_ignored_in_every_mode(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (90, 90, 90, 0)).convert(mode)
    image.save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    path = next(tmp_path.iterdir())
    assert read_image(path).unique().tolist() == [255]
    assert read_image(path, ignore_alpha=True).unique().tolist() == [90]


def test_frames_and_transparency_are_facts(tmp_path):
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 255)).save(tmp_path / "opaque.png")
    frames = [Image.new("L", (8, 8), value) for value in (10, 200, 90)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    assert decode.decode_fully(tmp_path / "clear.png").alpha == "all"
    assert decode.decode_fully(tmp_path / "opaque.png").alpha == "opaque"
    assert decode.decode_fully(tmp_path / "pages.tif").frames == 3
    assert read_image(tmp_path / "pages.tif").unique().tolist() == [10]


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    image = Image.new("RGB", (64, 48), (10, 120, 200))
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic", quality=95)
    assert read_image(tmp_path / "a.heic").shape == (3, 48, 64)


def test_heic_without_the_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "_formats", lambda: ("PNG",))
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(DataError, match="pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


def test_postscript_is_never_run(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EOF\n")
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "a.jpg")


def test_lab_has_a_remedy(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="save it as RGB"):
        read_image(tmp_path / "a.tif")


def test_errors_survive_a_worker_process(tmp_path):
    with pytest.raises(FileError) as caught:
        read_image(tmp_path / "a.jpg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.kind == "image_missing"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # sizes drawn by chance
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", ""]),
    st.binary(max_size=300),
    st.integers(0, 400),
)
def test_random_bytes_never_raise_anything_else(tmp_path, form, noise, place):
    data = noise
    if form:
        buffer = io.BytesIO()
        Image.fromarray(smooth(20, 30)).save(buffer, form)
        whole = buffer.getvalue()
        place %= len(whole)
        data = whole[:place] + noise + whole[place + len(noise) :]
    (tmp_path / "x.jpg").write_bytes(data)
    for reader in (read_image, decode_fully, read_mask, image_size):
        with contextlib.suppress(DataError):
            reader(tmp_path / "x.jpg")


def test_palette_mask_keeps_indices(tmp_path):
    indices = np.array([[0, 1, 2, 255], [7, 0, 0, 1]], dtype=np.uint8)
    mask = Image.frombytes("P", (4, 2), indices.tobytes())
    mask.putpalette([i % 256 for i in range(5, 5 + 768)])
    mask.save(tmp_path / "a.png")
    assert torch.equal(read_mask(tmp_path / "a.png"), torch.from_numpy(indices))
    assert read_mask(tmp_path / "a.png").dtype == torch.uint8


def test_gray_and_wide_masks(tmp_path):
    indices = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    Image.fromarray(indices).save(tmp_path / "gray.png")
    Image.fromarray(indices.astype(np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray(indices > 1).save(tmp_path / "bits.png")
    assert torch.equal(read_mask(tmp_path / "gray.png"), torch.from_numpy(indices))
    assert torch.equal(read_mask(tmp_path / "wide.png"), torch.from_numpy(indices))
    assert read_mask(tmp_path / "bits.png").tolist() == [[0, 0], [1, 1]]


def test_masks_that_are_none(tmp_path):
    Image.new("RGB", (8, 8), (128, 0, 0)).save(tmp_path / "colours.png")
    with pytest.raises(DataError, match=r"RGB colours.*class index"):
        read_mask(tmp_path / "colours.png")
    Image.new("L", (8, 8), 1).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"JPEG.*PNG"):
        read_mask(tmp_path / "a.jpg")
    Image.fromarray(np.full((8, 8), 300, dtype=np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match="300"):
        read_mask(tmp_path / "wide.png")


def test_bands_are_read_as_they_are_but_cmyk_is_none(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "four.png")
    found = read_image(tmp_path / "four.png", channels=4)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), pixels)
    Image.fromarray(pixels, "CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(DataError, match="3 channels instead of the 4"):
        read_image(tmp_path / "print.jpg", channels=4)
    assert read_image(tmp_path / "print.jpg").shape == (3, 5, 7)


def claims(path, width, height):
    """A small GIF or WebP that claims a size."""
    if path.suffix == ".webp":
        Image.new("RGB", (width, height)).save(path, lossless=True)
        return
    Image.new("P", (64, 64)).save(path)
    content = bytearray(path.read_bytes())
    size = struct.pack("<HH", width, height)
    picture = content.index(b"\x2c")
    content[6:10] = content[picture + 5 : picture + 9] = size
    path.write_bytes(bytes(content) + bytes(8000))


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_small_files_that_claim_much_are_not_decoded(tmp_path, name):
    path = tmp_path / name
    claims(path, 6000, 5000)
    for read in (read_image, image_size, decode_fully):
        with pytest.raises(FileError, match=r"6000×5000 pixels by its header, but only \d+ bytes"):
            read(path)


def test_large_images_of_one_colour_are_read(tmp_path):
    for mode in ("1", "L", "P"):
        Image.new(mode, (6000, 3000)).save(tmp_path / "a.png")
        assert image_size(tmp_path / "a.png") == (3000, 6000)
    Image.new("P", (6000, 3000)).save(tmp_path / "a.gif")
    assert image_size(tmp_path / "a.gif") == (3000, 6000)
