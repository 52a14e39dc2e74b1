import numpy as np
import pytest
import torch

from weakseg.apps.report.doubts import Doubt
from weakseg.apps.review import photo_desk
from weakseg.apps.review.photo_desk import Patch, PhotoDesk, grid_step
from weakseg.apps.review.review_queue import ReviewQueue, ranked
from weakseg.data.masks import write_mask
from weakseg.runs.review_dir import ConflictError
from weakseg.types import DataError, RunError

H, W = 96, 128


@pytest.fixture
def desk(run_folder):
    return PhotoDesk(run_folder, "ann")


@pytest.fixture
def sample(desk):
    return desk.sample("photo_00000")


def patch(value, x=10, y=12, width=7, height=5):
    return Patch(x, y, np.full((height, width), value, np.uint8))


def test_a_rectangle_is_put_in_place_and_the_rest_stays(desk, sample):
    found = desk.draw(sample, None, patch(2), "brush")
    now, before = desk.masks(sample)
    assert bool((now[12:17, 10:17] == 2).all())
    now[12:17, 10:17] = before[12:17, 10:17]
    assert torch.equal(now, before)
    assert (found.now.state, found.now.tags) == ("corrected", ("cat", "dog"))


@pytest.mark.parametrize(
    ("drawn", "told"),
    [
        (patch(1, x=W - 3), "leaves the mask"),
        (patch(1, y=-1), "leaves the mask"),
        (patch(3), "label 3 stands for no class"),
    ],
)
def test_what_does_not_fit_is_refused(desk, sample, drawn, told):
    with pytest.raises(DataError, match=told):
        desk.draw(sample, None, drawn, "brush")
    assert desk.reviews.load(sample.id) is None


def test_unknown_pixels_can_be_drawn(desk, sample):
    found = desk.draw(sample, None, patch(255), "brush")
    assert found.now.tags == ("cat",)
    assert bool((desk.masks(sample)[0][12:17, 10:17] == 255).all())


def test_large_masks_are_drawn_on_a_coarser_grid(desk, sample, monkeypatch):
    monkeypatch.setattr(photo_desk, "MAX_PIXELS", H * W // 4)
    mask = desk.mask_of_run(sample)
    assert grid_step(mask) == 2
    fine = mask.clone()
    fine[21, 31] = 0  # a pixel that the coarse grid does not show
    write_mask(desk.facts.path / "masks" / f"{sample.id}.png", fine, ("cat", "dog"))
    drawn = np.asarray(fine[::2, ::2])[10:14, 15:20].copy()
    drawn[3, 4] = 2
    desk.draw(sample, None, Patch(15, 10, drawn), "brush")
    now, _ = desk.masks(sample)
    assert now[21, 31] == 0
    assert bool((now[26:28, 38:40] == 2).all())
    assert int((now != fine).sum()) == 4


def test_a_tag_that_goes_takes_its_pixels(desk, sample):
    found = desk.tag(sample, None, ["dog"])
    assert (found.now.tags, found.now.state) == (("dog",), "open")
    assert not desk.masks(sample)[0].any()
    back = desk.undo(sample, found.version)
    assert back.now.tags == ("cat",)
    assert desk.masks(sample)[0].any()
    with pytest.raises(DataError, match="'bird' is none of the run's classes"):
        desk.tag(sample, back.version, ["bird"])


def test_an_open_image_shows_the_runs_newer_mask_and_a_true_one_its_own(desk, sample):
    desk.judge(desk.sample("photo_00002"), None, "accepted")
    found = desk.judge(sample, None, "rejected")
    desk.judge(sample, found.version, "open")
    for name in ("photo_00000", "photo_00002"):
        newer = torch.zeros(H, W, dtype=torch.uint8)
        write_mask(desk.facts.path / "masks" / f"{name}.png", newer, ("cat", "dog"))
    now, before = desk.masks(sample)
    assert not now.any()
    assert before.any()
    assert desk.masks(desk.sample("photo_00002"))[0].any()


def test_an_old_version_changes_nothing(desk, sample):
    desk.judge(sample, None, "accepted")
    with pytest.raises(ConflictError):
        desk.draw(sample, None, patch(2), "brush")


def test_a_scribble_takes_what_is_inside_the_boundaries(desk, sample):
    scribbles = np.zeros((48, 64), np.uint8)
    scribbles[22, 25:30] = 1
    inside = desk.complete(sample, scribbles, 1)
    assert inside.shape == (H, W)
    assert inside[26:64, 36:74].all()
    assert not inside[:, 95:].any()
    with pytest.raises(DataError, match="nothing is scribbled"):
        desk.complete(sample, np.zeros((48, 64), np.uint8), 1)


def test_other_classes_are_beside_it(desk, sample):
    desk.draw(sample, None, Patch(0, 0, np.full((H, 40), 2, np.uint8)), "brush")
    scribbles = np.zeros((48, 64), np.uint8)
    scribbles[22, 25:30] = 1
    inside = desk.complete(sample, scribbles, 1)
    assert not inside[:, :30].any()


def test_without_learnt_boundaries_those_of_the_photo_serve(tmp_path, make_run):
    desk = PhotoDesk(make_run(tmp_path, 1, maps=False), "ann")
    regions = desk.regions(desk.sample("photo_00000"))
    square = regions[8:15, 10:18]
    assert bool((square == square[3, 3]).all())
    assert regions[0, 0] != square[3, 3]


def test_a_run_without_masks_has_nothing_to_review(run_folder):
    (run_folder / "masks" / "done.json").unlink()
    with pytest.raises(RunError, match="has no masks yet"):
        PhotoDesk(run_folder, "ann")


def test_an_image_that_the_run_does_not_have_is_refused(desk):
    with pytest.raises(DataError, match="no image 'x'"):
        desk.sample("x")


def test_the_queue_begins_with_the_doubtful_and_leaves_none_out(desk):
    missing = desk.sample("photo_00003")
    write_mask(
        desk.facts.path / "masks" / f"{missing.id}.png",
        torch.zeros(H, W, dtype=torch.uint8),
        ("cat", "dog"),
    )
    queue = ReviewQueue(desk)
    assert not queue.ready
    queue.look()
    assert queue.ready
    rows = queue.rows()
    assert rows[0].id == missing.id
    assert rows[0].doubts[0].kind == "empty"
    assert len(rows) == 6
    assert [row.id for row in queue.rows("file", tag="dog")] == [
        f"photo_0000{n}" for n in (1, 3, 5)
    ]
    assert [row.id for row in queue.rows("file", text="O_00002")] == ["photo_00002"]

    desk.judge(missing, None, "accepted")
    assert [row.id for row in queue.rows(state="accepted")] == [missing.id]
    assert queue.counts() == {"open": 5, "accepted": 1, "corrected": 0, "rejected": 0}


def test_a_damaged_review_is_told_and_the_others_are_there(desk, sample):
    desk.judge(sample, None, "accepted")
    desk.judge(desk.sample("photo_00001"), None, "accepted")
    path = desk.reviews.path / "entries" / f"{sample.id}.json"
    path.write_text("{")
    queue = ReviewQueue(desk)
    assert queue.rows(state="accepted")[0].id == "photo_00001"
    assert "is damaged" in queue.faults[0]


def test_doubts_add_up():
    def doubt(kind, weight):
        return Doubt(kind, weight, kind)

    found = {
        "a": {"unsure": doubt("unsure", 0.9)},
        "b": {"unsure": doubt("unsure", 0.8), "border": doubt("border", 0.5)},
        "c": {"empty": doubt("empty", 1.0)},
        "d": {},
    }
    ranks, doubts = ranked(found, {})
    assert sorted(ranks, key=lambda key: -ranks[key]) == ["c", "b", "a", "d"]
    assert [each.kind for each in doubts["b"]] == ["border", "unsure"]
