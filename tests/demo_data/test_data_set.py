import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.demo_data import data_set as demo
from weakseg.demo_data.brush import Light, Sprite, ball, limb, merge
from weakseg.demo_data.creatures import draw_creature
from weakseg.demo_data.data_set import BLOCK, draw_demo, write_demo
from weakseg.demo_data.props import PROPS, draw_prop
from weakseg.demo_data.scene import CLASSES, HEAD_VISIBLE, VISIBLE
from weakseg.demo_data.scenery import PLACES
from weakseg.types import DataError

COUNT = 30


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "made" / "demo"
    calls, scenes = [], []

    def record(index, seed):
        scenes.append(draw_demo(index, seed))
        return scenes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "draw_demo", record)
        write_demo(folder, count=COUNT, seed=3, progress=lambda *call: calls.append(call))
    assert calls == [(i + 1, COUNT) for i in range(COUNT)]
    return folder, scenes


@pytest.fixture(scope="module")
def folder(made):
    return made[0]


@pytest.fixture(scope="module")
def scenes(made):
    return made[1]


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_are_complete_and_nothing_else_is_left(folder, rows):
    names = [f"demo_{i:05d}" for i in range(COUNT)]
    wanted = {f"images/{n}.jpg" for n in names} | {f"masks/{n}.png" for n in names}
    wanted |= {"labels.csv", "classes.txt"}
    wanted |= {f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val")}
    assert set(contents(folder)) == wanted
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
    assert [row["image"] for row in rows] == [f"{n}.jpg" for n in names]
    assert tuple((folder / "classes.txt").read_text().split()) == CLASSES


def test_same_seed_same_bytes_other_seed_other_pictures(tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_demo(tmp_path / name, count=4, seed=seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a if name.endswith(".jpg"))


def test_an_image_does_not_depend_on_the_count(folder, tmp_path):
    write_demo(tmp_path / "few", count=3, seed=3)
    few, many = contents(tmp_path / "few"), contents(folder)
    assert all(few[name] == many[name] for name in few if name.startswith(("images", "masks")))


def test_tags_agree_with_masks(folder, rows):
    for row in rows:
        mask = np.array(Image.open(folder / "masks" / row["image"].replace("jpg", "png")))
        indices = {CLASSES.index(tag) + 1 for tag in row["tags"].split()}
        assert set(np.unique(mask).tolist()) - {0} == indices, row
        assert 0 in mask


def test_masks_have_the_images_size_and_vocs_colours(folder, rows):
    sizes = set()
    for row in rows:
        with (
            Image.open(folder / "images" / row["image"]) as image,
            Image.open(folder / "masks" / row["image"].replace("jpg", "png")) as mask,
        ):
            assert (image.mode, mask.mode) == ("RGB", "P")
            assert image.size == mask.size
            assert min(image.size) >= 160
            assert max(image.size) <= 288
            sizes.add(image.size)
            colours = np.array(mask.getpalette()).reshape(-1, 3)
            assert colours[:6].tolist() == [
                [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128],
            ]  # fmt: skip
    assert len(sizes) > COUNT / 2
    assert {np.sign(w - h) for w, h in sizes} == {-1, 0, 1}


def test_classes_and_backgrounds_occur_often(rows):
    tags = [row["tags"].split() for row in rows]
    for name in CLASSES:
        assert sum(name in tag for tag in tags) >= 0.1 * COUNT
    for start in range(0, COUNT, BLOCK):
        assert sum(not tag for tag in tags[start : start + BLOCK]) == 1
    assert any(len(tag) > 1 for tag in tags)


def test_splits_are_disjoint_and_complete(folder, rows):
    train, val = (
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        for split in ("train", "val")
    )
    assert sorted(train + val) == [Path(row["image"]).stem for row in rows]
    assert len(val) == COUNT // 5


def test_every_creature_can_be_recognised(scenes):
    for scene in scenes:
        union = np.zeros_like(scene.mask)
        for figure in scene.figures:
            assert figure.shown.sum() >= VISIBLE * figure.area
            assert figure.head.sum() >= HEAD_VISIBLE * figure.head_area
            assert figure.head_area > 100
            assert not (figure.head & ~figure.shown).any()
            assert not union[figure.shown].any()
            union[figure.shown] = figure.kind + 1
        assert (union == scene.mask).all()


def test_nearer_creatures_hide_farther_ones(scenes):
    several = [scene for scene in scenes if len(scene.figures) > 1]
    assert any(
        figure.shown.sum() < figure.area for scene in several for figure in scene.figures[:-1]
    )


def test_heads_are_the_smaller_part(scenes):
    for scene in scenes:
        heads = scene.head_mask()
        assert (scene.mask[heads > 0] == heads[heads > 0]).all()
        for figure in scene.figures:
            assert 0.08 < figure.head_area / figure.area < 0.42


@pytest.mark.parametrize("kind", CLASSES[1:])
def test_only_the_head_tells_the_class(kind):
    first, other = (
        draw_creature(k, np.random.default_rng(5), 24.0, Light())[0].reduced()
        for k in (CLASSES[0], kind)
    )
    # The head's shadow on the shoulders follows the head's size, so only what is away is compared.
    head = np.maximum(first[2], other[2]) > 0
    reach = 12
    near = np.zeros_like(head)
    for row, column in np.argwhere(head):
        near[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach] = True
    assert first[1][~near].sum() > 200
    assert np.array_equal(first[1][~near], other[1][~near])
    assert np.array_equal(first[0][~near], other[0][~near])


def test_no_pose_is_cut_off_by_its_sprite():
    for seed in range(25):
        kind = CLASSES[seed % len(CLASSES)]
        alpha = draw_creature(kind, np.random.default_rng(seed), 14.0, Light())[0].alpha
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert border.max() == 0


@pytest.mark.parametrize("name", PROPS)
def test_things_leave_a_mark_and_are_no_creature(name):
    sprite = draw_prop(name, np.random.default_rng(0), 20.0, Light())
    assert sprite.alpha.max() == pytest.approx(1, abs=1e-3)
    assert sprite.part.max() == 0


@pytest.mark.parametrize("place", sorted(set(PLACES), key=lambda place: place.__name__))
def test_places_are_textured_and_name_known_things(place):
    backdrop = place(120, 160, np.random.default_rng(1))
    assert backdrop.image.shape == (120, 160, 3)
    assert np.isfinite(backdrop.image).all()
    assert backdrop.image.std((0, 1)).min() > 0.02
    assert set(backdrop.props) <= set(PROPS)


def test_coverage_is_the_shapes_area():
    sprite = Sprite(
        (-2, -2, 2, 2), 20.0, Light(), np.random.default_rng(0), angle=30, mirrored=True
    )
    sprite.paint(sprite.frame, ball(0.1, 0.2, 1.2, 0.7, 25), np.ones(3, np.float32))
    area = np.pi * 1.2 * 0.7 * 20**2
    assert sprite.reduced()[1].sum() == pytest.approx(area, rel=0.02)
    assert (sprite.reduced()[1] >= 0.5).sum() == pytest.approx(area, rel=0.02)


def test_fields_are_negative_outside_their_box():
    x, y = (
        a.astype(np.float32) for a in np.meshgrid(np.linspace(-4, 4, 161), np.linspace(-4, 4, 161))
    )
    rod = limb([(-1, 0), (0, 0.5), (1, -1)], (0.3, 0.5, 0.1))
    for shape in (rod, ball(0.5, 0, 1, 0.4, 70), merge(rod, ball(0, 1, 0.5, 0.6), soft=0.2)):
        left, top, right, bottom = shape.box
        outside = (x < left) | (x > right) | (y < top) | (y > bottom)
        inside = shape.field(x, y) > 0
        assert inside.any()
        assert not (inside & outside).any()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="something is in it already"):
        write_demo(tmp_path, count=1)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(index, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "draw_demo", fail)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", count=2)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "demo").mkdir()
    write_demo(tmp_path / "demo", count=1)
    assert (tmp_path / "demo" / "labels.csv").is_file()
