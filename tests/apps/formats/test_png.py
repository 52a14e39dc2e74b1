import ast
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from weakseg.apps.formats import png
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.types import DataError, Sample


def gray(path):
    """Indices as readers take them that know no palettes; Pillow and OpenCV alike."""
    with Image.open(path) as image:
        assert image.mode == "L"
        values = np.asarray(image.convert("RGB"))[..., 1]
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), values)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), values)
    return values


def test_palette_masks_are_colours_to_opencv(finished):
    # What the README warns of: the reason for this format.
    values = cv2.imread(str(finished.path / "masks" / "sub" / "c.png"), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(values)) != set(np.unique(finished.labels("sub/c")))


def test_flat(finished):
    out = finished.export("png").path
    for key in finished.keys:
        np.testing.assert_array_equal(gray(out / f"{key}.png"), finished.labels(key))
    assert (out / "classes.txt").read_text("utf-8").split("\n") == [*finished.classes, ""]
    assert len([path for path in out.rglob("*") if path.is_file()]) == 5


def test_nnunet(finished):
    out = finished.export("png", layout="nnunet").path
    record = json.loads((out / "dataset.json").read_text("utf-8"))
    assert record["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert record["labels"] == {"background": 0, "dog": 1, "big cat": 2, "Löwe": 3}
    assert (record["numTraining"], record["file_ending"]) == (4, ".png")
    for key in finished.keys:
        case = key.replace("/", "__")
        np.testing.assert_array_equal(gray(out / "labelsTr" / f"{case}.png"), finished.labels(key))
        image = cv2.imread(str(out / "imagesTr" / f"{case}_0000.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image[..., ::-1], finished.image(key))
    assert len(list((out / "imagesTr").iterdir())) == len(list((out / "labelsTr").iterdir())) == 4


def test_nnunet_knows_ignored_pixels_by_the_last_index(finished, ignoring):
    out = finished.export("png", layout="nnunet", masks=ignoring).path
    assert json.loads((out / "dataset.json").read_text("utf-8"))["labels"]["ignore"] == 4
    values = gray(out / "labelsTr" / "a.png")
    assert (values[0] == 4).all()
    np.testing.assert_array_equal(values[1:], finished.labels("a")[1:])


def test_mmseg(finished, ignoring):
    out = finished.export("png", layout="mmseg", masks=ignoring).path
    assert (out / "classes.txt").read_text("utf-8").splitlines() == [
        "background",
        *finished.classes,
    ]
    for key in finished.keys:
        values = gray(out / "ann_dir" / "train" / f"{key}.png")
        assert (values[0] == 255).all()
        np.testing.assert_array_equal(values[1:], finished.labels(key)[1:])
        assert (out / "img_dir" / "train" / f"{key}.jpg").is_file()
    assigned = {
        target.id: value
        for node in ast.parse((out / "dataset.py").read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target, value in [(node.targets[0], node.value)]
    }
    meta = eval(compile(ast.Expression(assigned["metainfo"]), "", "eval"), {"dict": dict})
    assert meta["classes"] == ("background", *finished.classes)
    assert meta["palette"] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert "img_suffix='.jpg'" in (out / "dataset.py").read_text("utf-8")


@pytest.mark.parametrize("suffixes", [(".jpg", ".png"), (".jpg", ".JPG"), (".gif", ".gif")])
def test_mmseg_has_one_suffix_that_opencv_reads(tmp_path, suffixes):
    images = []
    for key, suffix in zip("ab", suffixes, strict=True):
        path = tmp_path / f"{key}{suffix}"
        Image.new("RGB", (12, 10), "red").save(path)
        images.append(Labelled(Sample(key, path, frozenset()), np.zeros((10, 12), np.uint8), {}))
    out = tmp_path / "out"
    out.mkdir()
    job = Job(("cat",), 2, confident=False, suffixes=frozenset(suffixes), layout="mmseg")
    png.write(images, job, out)
    assert sorted(p.name for p in (out / "img_dir" / "train").iterdir()) == ["a.png", "b.png"]
    assert all(cv2.imread(str(p)).shape == (10, 12, 3) for p in out.glob("img_dir/train/*"))
    assert "img_suffix='.png'" in (out / "dataset.py").read_text("utf-8")


def test_what_nnunet_cannot_tell_apart_is_refused(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (12, 10)).save(path)
    images = [
        Labelled(Sample(key, path, frozenset()), np.zeros((10, 12), np.uint8), {})
        for key in ("a/b", "a__b")
    ]
    job = Job(("cat",), 2, confident=False, layout="nnunet")
    with pytest.raises(DataError, match="a/b and a__b would both be a__b; rename one"):
        png.write(images, job, tmp_path)
    job = Job(("ignore",), 0, confident=False, layout="nnunet")
    with pytest.raises(DataError, match="'ignore' means something else to nnU-Net; rename it"):
        png.write([], job, tmp_path)
