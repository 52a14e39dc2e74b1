import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg import api
from weakseg.apps.review.photo_desk import PhotoDesk
from weakseg.data.masks import write_mask
from weakseg.runs.corrections import read_corrections
from weakseg.runs.review_dir import ReviewDir
from weakseg.runs.run_dir import RunDir
from weakseg.types import DataError, RunError

H, W = 96, 128
IDS = [f"photo_{n:05}" for n in range(6)]


def drawn(value=1):
    labels = np.zeros((H, W), np.uint8)
    labels[10:40, 20:60] = value
    return labels


def taken(run):
    catalog = RunDir(run).load_catalog()
    reviews = ReviewDir(run, catalog.classes)
    found = {key: reviews.load(key) for key in reviews.ids()}
    return {
        key: (set(r.now.tags), reviews.mask(key, r.now.mask).numpy()) for key, r in found.items()
    }


def png(folder, name, labels):
    folder.mkdir(exist_ok=True)
    Image.fromarray(labels).save(folder / f"{name}.png")
    return folder


def coco(path, ids, *, category="cat", polygon=(20, 10, 60, 10, 60, 40, 20, 40)):
    annotations = [
        {"id": n, "image_id": n, "category_id": 7, "segmentation": [list(polygon)], "iscrowd": 0, "area": 1, "bbox": [20, 10, 40, 30]}
        for n, _ in enumerate(ids) if polygon
    ]  # fmt: skip
    images = [
        {"id": n, "file_name": f"{key}.jpg", "height": H, "width": W} for n, key in enumerate(ids)
    ]
    categories = [{"id": 7, "name": category}]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


def label_studio(path, ids):
    value = {"x": 100 * 20 / W, "y": 100 * 10 / H, "points": None, "polygonlabels": ["cat"]}
    value["points"] = [
        [100 * x / W, 100 * y / H] for x, y in ((20, 10), (60, 10), (60, 40), (20, 40))
    ]
    result = {
        "id": "r", "type": "polygonlabels", "from_name": "label", "to_name": "image",
        "original_width": W, "original_height": H, "image_rotation": 0, "value": value,
    }  # fmt: skip
    tasks = [
        {"id": n, "data": {"image": f"/data/upload/1/0a1b2c3d-{key}.jpg"}, "annotations": [{"id": n, "result": [result]}]}
        for n, key in enumerate(ids)
    ]  # fmt: skip
    path.write_text(json.dumps(tasks))
    return path


def cvat(path, ids):
    images = "".join(
        f'<image id="{n}" name="{key}.jpg" width="{W}" height="{H}">'
        '<polygon label="cat" points="20,10;60,10;60,40;20,40" z_order="0"/></image>'
        for n, key in enumerate(ids)
    )
    path.write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return path


def voc(folder, ids):
    folder.mkdir()
    for key in ids:
        png(folder / "SegmentationClass", key, drawn())
    (folder / "class_names.txt").write_text("_background_\ncat\ndog\n")
    return folder


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (coco, "instances.json"),
        (label_studio, "export.json"),
        (cvat, "annotations.xml"),
        (voc, "voc"),
    ],
)
def test_three_of_the_images_come_from_another_tool_without_the_images(
    run_folder, tmp_path, write, name
):
    source = write(tmp_path / name, IDS[:3])
    summary = api.correct(run_folder, source)
    assert (summary.corrected, summary.unchanged, summary.left_out) == (3, 0, 0)
    found = taken(run_folder)
    assert found.keys() == set(IDS[:3])
    for tags, mask in found.values():
        assert tags == {"cat"}
        assert np.array_equal(mask, drawn())
    again = api.correct(run_folder, source)
    assert (again.corrected, again.unchanged) == (0, 3)


def test_a_folder_of_masks_and_what_it_does_to_the_next_run(run_folder, tmp_path):
    folder = png(tmp_path / "drawn", IDS[1], drawn(1))
    assert api.correct(run_folder, folder).corrected == 1
    found = read_corrections(run_folder, RunDir(run_folder).load_catalog())
    assert found.masks.keys() == {IDS[1]}
    assert found.tags == {IDS[1]: {0}}  # it was tagged dog
    kept = ReviewDir(run_folder, ("cat", "dog")).load(IDS[1])
    assert kept.original.tags == ("dog",)
    assert kept.now.action == "import"


def test_indices_are_read_by_the_names_of_the_masks_own_classes(run_folder, tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    write_mask(folder / f"{IDS[0]}.png", torch.from_numpy(drawn(1)), ("dog", "cat"))
    png(folder, IDS[2], drawn(2))
    (folder / "classes.txt").write_text("dog\ncat\n")
    api.correct(run_folder, folder)
    found = taken(run_folder)
    assert found[IDS[0]][0] == {"dog"}
    assert np.array_equal(found[IDS[0]][1], drawn(2))
    assert found[IDS[2]][0] == {"cat"}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros((H, W + 1), np.uint8) + 1, "is 129×96, but its image is 128×96"),
        (drawn(3), "index 3 stands for no class"),
        (np.zeros((H, W, 3), np.uint8), "RGB colours instead of one channel"),
    ],
)
def test_if_one_mask_does_not_fit_none_is_taken(run_folder, tmp_path, labels, told):
    folder = png(tmp_path / "drawn", IDS[0], drawn())
    png(folder, IDS[1], labels)
    with pytest.raises(DataError, match=told):
        api.correct(run_folder, folder)
    assert not (run_folder / "review").exists()


def test_a_class_that_the_run_does_not_know_is_refused_by_its_name(run_folder, tmp_path):
    with pytest.raises(DataError, match="'bird' is none of the run's classes"):
        api.correct(run_folder, coco(tmp_path / "a.json", IDS[:1], category="bird"))


def test_images_without_regions_are_not_taken_for_background(run_folder, tmp_path):
    source = coco(tmp_path / "a.json", IDS[:2])
    content = json.loads(source.read_text())
    content["annotations"] = content["annotations"][:1]
    source.write_text(json.dumps(content))
    summary = api.correct(run_folder, source)
    assert (summary.corrected, summary.left_out) == (1, 1)
    assert "1 image without any region left out" in summary.notes[0]


def test_masks_of_other_images_are_told(weak, run_folder, tmp_path):
    folder = png(tmp_path / "drawn", IDS[0], drawn())
    png(folder, "stranger", drawn())
    code, out, err = weak("correct", run_folder, "--from", folder)
    assert code == 1
    assert out.startswith("1 mask taken as true")
    assert "1 image not in this run, left out: 'stranger'" in err
    code, out, err = weak("correct", run_folder, "--from", png(tmp_path / "other", "x", drawn()))
    assert code == 2
    assert "holds no mask of this run's images" in err


def test_what_is_not_there_is_told(run_folder, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        api.correct(run_folder, tmp_path / "nothing.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(DataError, match=r"broken\.json"):
        api.correct(run_folder, broken)
    with pytest.raises(RunError, match="is no run"):
        api.correct(tmp_path / "other", broken)


def test_what_killed_processes_left_half_written_goes(run_folder, tmp_path):
    entries, masks = (run_folder / "review" / name for name in ("entries", "masks"))
    entries.mkdir(parents=True)
    masks.mkdir()
    left = [entries / ".999999999-1-2-0123abcd.tmp", masks / f".{os.getpid()}-1-2.tmp"]
    for path in left:
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    ReviewDir(run_folder, ()).sweep()
    assert not any(path.exists() for path in left)
    for begin in (
        lambda: api.correct(run_folder, png(tmp_path / "drawn", IDS[0], drawn())),
        lambda: PhotoDesk(run_folder, "ann"),
    ):
        left[0].write_bytes(b"half")
        os.utime(left[0], (1, 1))
        begin()
        assert not left[0].exists()
