import json
import threading

import pytest
import torch

from weakseg.runs import review_dir
from weakseg.runs.review_dir import ConflictError, ReviewDir
from weakseg.types import RunError

CLASSES = ("cat", "dog")


def mask(value, size=(6, 8)):
    made = torch.zeros(size, dtype=torch.uint8)
    made[1:4, 2:5] = value
    return made


def before():
    return ["cat"], mask(1)


@pytest.fixture
def reviews(tmp_path):
    return ReviewDir(tmp_path, CLASSES)


def change(reviews, version=None, sample_id="dog/1", **what):
    what = {"who": "ann", "action": "brush", **what}
    return reviews.change(sample_id, version, before, **what)


def test_the_first_change_keeps_what_the_run_had_made(reviews):
    found = change(reviews, state="corrected", mask=mask(2), tags=["cat", "dog"])
    assert (found.version, found.current) == (1, 1)
    assert found.original.tags == ("cat",)
    assert found.original.state == "open"
    assert torch.equal(reviews.mask("dog/1", found.original.mask), mask(1))
    assert torch.equal(reviews.mask("dog/1", found.now.mask), mask(2))
    assert (found.now.tags, found.now.who, found.now.action) == (("cat", "dog"), "ann", "brush")
    assert found.now.when.endswith("+00:00")
    assert reviews.load("dog/1") == found
    assert list(reviews.ids()) == ["dog/1"]
    assert reviews.load("dog/2") is None


def test_what_is_not_said_stays_as_it_was(reviews):
    first = change(reviews, state="corrected", mask=mask(2))
    second = change(reviews, first.version, tags=["dog"])
    assert second.now.mask == first.now.mask
    assert second.now.state == "corrected"
    assert second.now.tags == ("dog",)


def test_undo_and_redo_survive_a_restart_and_lose_nothing(reviews, tmp_path):
    first = change(reviews, state="accepted")
    second = change(reviews, first.version, state="corrected", mask=mask(2))
    undone = reviews.undo("dog/1", second.version)
    assert (undone.current, undone.now.state) == (1, "accepted")

    again = ReviewDir(tmp_path, CLASSES)
    assert again.load("dog/1") == undone
    redone = again.redo("dog/1", undone.version)
    assert redone.now == second.now
    with pytest.raises(RunError, match="nothing to redo"):
        again.redo("dog/1", redone.version)

    version = again.undo("dog/1", redone.version).version
    version = again.undo("dog/1", version).version
    with pytest.raises(RunError, match="nothing to undo"):
        again.undo("dog/1", version)
    other = change(again, version, state="rejected")
    assert [r.parent for r in other.revisions] == [None, 0, 1, 0]
    assert again.redo("dog/1", again.undo("dog/1", other.version).version).now.state == "rejected"


def test_two_pages_do_not_overwrite_each_other(reviews):
    first = change(reviews, state="accepted")
    change(reviews, first.version, state="rejected")
    for write in (
        lambda: change(reviews, first.version, state="corrected"),
        lambda: change(reviews, None, state="corrected"),
        lambda: reviews.undo("dog/1", first.version),
    ):
        with pytest.raises(ConflictError, match="changed elsewhere"):
            write()
    assert reviews.load("dog/1").now.state == "rejected"


def test_of_changes_at_the_same_time_one_wins(reviews):
    version = change(reviews, state="accepted").version
    outcomes = []

    def write(number):
        try:
            change(reviews, version, tags=["dog"], who=str(number))
            outcomes.append("written")
        except ConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["written"]
    assert reviews.load("dog/1").version == 2


def test_a_write_that_fails_leaves_the_review_as_it_was(reviews, monkeypatch):
    first = change(reviews, state="accepted")

    def fail(*_):
        raise RunError("cannot write: No space left")

    monkeypatch.setattr(review_dir, "write_atomic", fail)
    with pytest.raises(RunError, match="No space left"):
        change(reviews, first.version, mask=mask(2))
    assert reviews.load("dog/1") == first


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda d: "not json", "Expecting value"),
        (lambda d: json.dumps({**d, "current": 9}), "there is no revision 9"),
        (lambda d: json.dumps({**d, "id": "cat"}), "it is of 'cat'"),
        (lambda d: json.dumps({**d, "version": 0}), "version"),
        (lambda d: json.dumps({**d, "revisions": d["revisions"][::-1]}), "out of order"),
        (lambda d: json.dumps({**d, "format": "other"}), "format"),
    ],
)
def test_a_damaged_entry_is_refused_with_its_remedy(reviews, damage, told):
    change(reviews, state="accepted")
    path = reviews.path / "entries" / "dog" / "1.json"
    path.write_text(damage(json.loads(path.read_text())))
    for use in (lambda: reviews.load("dog/1"), lambda: change(reviews, 1, state="rejected")):
        with pytest.raises(RunError, match="is damaged") as caught:
            use()
        assert told in str(caught.value)
        assert "put back a copy" in str(caught.value)


def test_a_mask_that_is_not_what_was_saved_is_refused(reviews):
    found = change(reviews, mask=mask(2))
    path = reviews.mask_file("dog/1", found.now.mask)
    other = reviews.mask_file("dog/1", found.original.mask)
    path.write_bytes(other.read_bytes())
    with pytest.raises(RunError, match="not what was saved"):
        reviews.mask("dog/1", found.now.mask)
    path.unlink()
    with pytest.raises(RunError, match="damaged: No such file"):
        reviews.mask("dog/1", found.now.mask)
