import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.nn.functional import interpolate

from weakseg.apps.mask_folders import evaluate_masks
from weakseg.data.masks import write_mask
from weakseg.metrics.confusion import EvaluateSettings, mean_iou
from weakseg.runs.context import StageContext
from weakseg.runs.run_dir import RunDir
from weakseg.runs.terminal_tables import mask_table
from weakseg.stages.evaluate import evaluate
from weakseg.types import Catalog, DataError, RunError, Sample

CLASSES = ("cat", "dog", "cow [old]")
SIZE = (37, 50)
BLIND = {"spotlight": 0.4, "compensation": 0.123, "weighted": 0.3333}


def blobs(seed: int, size: tuple[int, int] = SIZE, labels: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, labels, (1, 1, 5, 6), generator=generator)
    return interpolate(coarse.float(), size=size)[0, 0].byte()


class Fixture:
    def __init__(self, root: Path, ids: dict[str, bool], *, branches: int = 2) -> None:
        self.root, self.run, self.branches = root, RunDir(root / "run"), branches
        self.text = io.StringIO()
        samples = []
        for seed, (name, has_truth) in enumerate(ids.items()):
            classes = [] if seed == 3 else [seed % 3, (seed + 1) % 3]
            truth = blobs(seed)
            truth[:2] = 255
            path = root / "truth" / f"{name}.png"
            if has_truth:
                write_mask(path, truth)
            samples.append(
                Sample(name, root / f"{name}.jpg", frozenset(classes), path if has_truth else None)
            )
            write_mask(self.run.path / "masks" / f"{name}.png", blobs(seed + 50))
            self.write_maps(name, classes, seed, branches)
        self.catalog = Catalog(CLASSES, tuple(samples))
        self.finish_masks(BLIND)

    def finish_masks(self, thresholds: dict[str, float]) -> None:
        (self.run.path / "masks" / "done.json").write_text(
            json.dumps({"seconds": 1.0, "summary": {"thresholds": thresholds}})
        )

    def write_maps(self, name: str, classes: list[int], seed: int, branches: int = 2) -> None:
        generator = np.random.default_rng(seed)
        maps = {}
        for kind in ("spotlight", "compensation", "weighted")[: 2 * branches - 1]:
            values = generator.random((len(classes), 10, 13))
            if classes:
                values /= values.max((1, 2), keepdims=True)
            maps[kind] = values.astype(np.float16)
        self.write("cams", name, classes, {k: v for k, v in maps.items() if k == "spotlight"})
        if branches == 2:
            del maps["spotlight"]
            self.write("weigh", name, classes, maps)

    def write(self, stage: str, name: str, classes: list[int], maps: dict[str, Any]) -> None:
        path = self.run.path / stage / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            classes=np.array(classes, dtype=np.int64),
            size=np.array(SIZE, dtype=np.int64),
            **cast(Any, maps),
        )

    def evaluate(self, **settings: Any) -> dict[str, Any]:
        config = SimpleNamespace(
            evaluate=EvaluateSettings(**settings),
            cams=SimpleNamespace(xi=0.5),
            spread=SimpleNamespace(active=False),
            evidence=SimpleNamespace(images=0),
            refine=SimpleNamespace(walks=False),
            amr=SimpleNamespace(compensation=self.branches == 2),
        )
        stage = self.run.open_stage("evaluate", {"version": 1}, force=True)
        console = Console(file=self.text, width=100)
        context = StageContext(cast(Any, config), self.catalog, self.run, stage, console)
        return evaluate(context)

    @property
    def metrics(self) -> dict[str, Any]:
        return cast(
            dict[str, Any], json.loads((self.run.path / "evaluate" / "metrics.json").read_text())
        )


def slow_score(fixture: Fixture, kind: str, threshold: float) -> float:
    counts = torch.zeros(4, 4, dtype=torch.int64)
    for sample in fixture.catalog:
        if sample.mask is None:
            continue
        with Image.open(sample.mask) as image:
            truth = np.asarray(image)
        stage = "cams" if kind == "spotlight" else "weigh"
        with np.load(fixture.run.path / stage / f"{sample.id}.npz") as file:
            maps, classes = torch.from_numpy(file[kind]).float(), file["classes"]
        prediction = np.zeros(SIZE, dtype=np.int64)
        if len(classes):
            full = interpolate(maps[None], size=SIZE, mode="bilinear", align_corners=False)[0]
            score, best = full.max(0)
            prediction = np.where(score >= threshold, classes[best] + 1, 0)
        for t in range(4):
            for p in range(4):
                counts[t, p] += int(((truth == t) & (prediction == p)).sum())
    return float(mean_iou(counts))


IDS = {"a": True, "b/c": True, "b/d": False, "e": True}


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path, IDS)


def test_maps_are_scored_as_by_hand(fixture: Fixture) -> None:
    summary = fixture.evaluate(threshold_step=0.05)
    metrics = fixture.metrics
    assert (metrics["images"], metrics["images_without_truth"]) == (3, 1)
    for kind, blind in BLIND.items():
        report = metrics["maps"][kind]
        assert report["blind"]["threshold"] == blind
        assert report["blind"]["mean_iou"] == pytest.approx(slow_score(fixture, kind, blind))
        assert report["oracle"]["mean_iou"] >= report["blind"]["mean_iou"]
        assert report["oracle"]["mean_iou"] == max(report["curve"]["mean_iou"])
        assert report["curve"]["threshold"][:2] == [0.0, 0.05]
        assert len(report["curve"]["mean_recall"]) == (21 if kind == "spotlight" else 22)
        for threshold, value in zip(
            report["curve"]["threshold"][::7], report["curve"]["mean_iou"][::7], strict=True
        ):
            assert value == pytest.approx(slow_score(fixture, kind, threshold))
        assert summary["maps"][kind]["oracle"]["mean_iou"] == report["oracle"]["mean_iou"]
    table = fixture.text.getvalue()
    for word in ("spotlight", "compensation", "weighted", "masks", "@ 0.33", "cow [old]", "3 ima"):
        assert word in table


def test_masks_are_scored_like_the_folder(fixture: Fixture, tmp_path: Path) -> None:
    fixture.evaluate()
    scores = evaluate_masks(
        tmp_path / "run" / "masks",
        tmp_path / "truth",
        ids=["a", "b/c.jpg", "e"],
        classes=CLASSES,
    )
    assert json.loads(json.dumps(scores.to_json())) == fixture.metrics["masks"]
    assert fixture.metrics["masks"]["trimap_mean_iou"].keys() == {"5", "10", "20"}


def test_settings_are_read(fixture: Fixture) -> None:
    fixture.evaluate(trimap_widths=(3,), boundary_ratio=0.02)
    before = fixture.metrics["masks"]
    fixture.evaluate(trimap_widths=(), boundary_ratio=0.2)
    assert before["trimap_mean_iou"].keys() == {"3"}
    assert fixture.metrics["masks"]["trimap_mean_iou"] == {}
    assert fixture.metrics["masks"]["boundary_iou"] != before["boundary_iou"]


def test_one_branch(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, IDS, branches=1)
    fixture.finish_masks({"spotlight": 0.4})
    summary = fixture.evaluate()
    assert summary["maps"].keys() == {"spotlight"}
    assert summary["maps"]["spotlight"].keys() == {"oracle", "blind"}


def test_one_branch_without_blind_thresholds(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, IDS, branches=1)
    fixture.finish_masks({})
    summary = fixture.evaluate()
    assert summary["maps"].keys() == {"spotlight"}
    assert summary["maps"]["spotlight"].keys() == {"oracle"}
    assert fixture.metrics["maps"]["spotlight"]["blind"] is None
    assert "spotlight (oracle)" in " ".join(fixture.text.getvalue().split())


def test_without_truth_pixels_are_counted(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, {"a": False, "b": False})
    fixture.evaluate()
    expected = torch.bincount(torch.cat([blobs(50), blobs(51)]).flatten(), minlength=4)
    assert fixture.metrics == {
        "images": 0,
        "images_without_truth": 2,
        "pixels": dict(zip(("background", *CLASSES), expected.tolist(), strict=True)),
    }
    lines = [line for line in fixture.text.getvalue().splitlines() if "true mask" in line]
    assert len(lines) == 1


def _break_truth_size(fixture: Fixture) -> None:
    write_mask(fixture.root / "truth" / "e.png", torch.zeros(50, 37, dtype=torch.uint8))


def _break_truth_index(fixture: Fixture) -> None:
    write_mask(fixture.root / "truth" / "e.png", torch.full(SIZE, 4))


def _remove_mask(fixture: Fixture) -> None:
    (fixture.run.path / "masks" / "e.png").unlink()


def _break_mask(fixture: Fixture) -> None:
    write_mask(fixture.run.path / "masks" / "e.png", torch.full(SIZE, 255))


def _remove_maps(fixture: Fixture) -> None:
    (fixture.run.path / "cams" / "e.npz").unlink()


def _truncate_maps(fixture: Fixture) -> None:
    path = fixture.run.path / "cams" / "e.npz"
    path.write_bytes(path.read_bytes()[:300])


def _drop_branch(fixture: Fixture) -> None:
    fixture.write("weigh", "e", [1], {"weighted": np.ones((1, 10, 13), np.float16)})


def _unknown_class(fixture: Fixture) -> None:
    fixture.write_maps("e", [3], 0)


def _no_spotlight(fixture: Fixture) -> None:
    fixture.write("cams", "e", [1], {})


def _nan_maps(fixture: Fixture) -> None:
    path = fixture.run.path / "cams" / "e.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["spotlight"] = np.full((1, 10, 13), np.nan, dtype=np.float16)
    arrays["classes"] = np.array([1])
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_break_truth_size, DataError, r"truth/e\.png is 37×50, but .* e\.jpg is 50×37"),
        (_break_truth_index, DataError, r"truth/e\.png has index 4, but there are 3 classes"),
        (_remove_mask, RunError, r"masks/e\.png"),
        (_break_mask, RunError, r"masks/e\.png has index 255"),
        (_remove_maps, RunError, r"cams/e\.npz is missing"),
        (_truncate_maps, RunError, r"cams/e\.npz is damaged"),
        (
            _drop_branch,
            RunError,
            r"weigh/e\.npz is damaged: with the other stages it gives spotlight, weighted",
        ),
        (_unknown_class, RunError, r"cams/e\.npz is damaged: it holds classes \[3\]"),
        (_no_spotlight, RunError, r"cams/e\.npz is damaged: .*spotlight"),
        (_nan_maps, RunError, r"cams/e\.npz is damaged: spotlight is no \[1,h,w\]"),
    ],
)
def test_damage_is_named(
    fixture: Fixture, damage: Callable[[Fixture], None], error: type[Exception], message: str
) -> None:
    damage(fixture)
    with pytest.raises(error, match=message):
        fixture.evaluate()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("x", "deep/y", "z")):
        truth = blobs(seed)
        write_mask(tmp_path / "predicted" / f"{name}.png", truth)
        truth[5:9] = 255
        write_mask(tmp_path / "truth" / f"{name}.png", truth)
    return tmp_path / "predicted", tmp_path / "truth"


def test_a_folder_against_itself_is_perfect(folders: tuple[Path, Path]) -> None:
    for predicted in folders:
        scores = evaluate_masks(predicted, folders[1])
        assert scores.names == ("background", "class 1", "class 2", "class 3")
        assert scores.images == 3
        assert scores.mean_iou == scores.mean_boundary_iou == scores.mean_precision == 1.0
        assert int(scores.counts.sum()) == 3 * (SIZE[0] - 4) * SIZE[1]


@pytest.mark.parametrize("suffix", ["", ".png", ".jpg"])
def test_lists(folders: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(f"\ufeffx{suffix}\r\n\r\n deep/y{suffix} \r\nx{suffix}\r\n".encode())
    assert evaluate_masks(*folders, ids=path).images == 2
    path.write_text(f"x{suffix}\nw{suffix}\n")
    with pytest.raises(DataError, match=r"1 of 2 masks in .*predicted \(w\).* 1 of 2 .*truth"):
        evaluate_masks(*folders, ids=path)
    path.write_text("\n")
    with pytest.raises(DataError, match=r"list\.txt names no image"):
        evaluate_masks(*folders, ids=path)


def test_missing_on_either_side(folders: tuple[Path, Path]) -> None:
    (folders[0] / "z.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 masks in .*predicted \(z\); give a list"):
        evaluate_masks(*folders)
    assert evaluate_masks(*folders, ids=["x", "deep/y"]).images == 2
    (folders[1] / "deep" / "y.png").unlink()
    with pytest.raises(DataError, match=r"predicted \(z\) and 1 of 3 masks in .*truth \(deep/y\)"):
        evaluate_masks(*folders)
    with pytest.raises(DataError, match="no folder"):
        evaluate_masks(folders[0] / "nowhere", folders[1])
    with pytest.raises(DataError, match="no PNG"):
        evaluate_masks(folders[0] / "deep", folders[1].parent / "truth" / "deep")


def test_all_that_cannot_be_scored_is_counted(folders: tuple[Path, Path]) -> None:
    write_mask(folders[0] / "x.png", torch.zeros(9, 8, dtype=torch.uint8))
    Image.new("RGB", SIZE[::-1]).save(folders[0] / "deep" / "y.png")
    with pytest.raises(DataError, match=r"^2 of 3 masks .*y\.png.*; .*x\.png is 8×9, but"):
        evaluate_masks(*folders)


def test_unknown_indices(folders: tuple[Path, Path]) -> None:
    write_mask(folders[0] / "x.png", torch.full(SIZE, 9))
    with pytest.raises(DataError, match=r"x\.png has index 9, but there are 3 classes"):
        evaluate_masks(*folders, classes=CLASSES)
    with pytest.raises(DataError, match=r"x\.png has index 9, but the greatest .* is 3"):
        evaluate_masks(*folders)
    assert evaluate_masks(*folders, classes=[f"c{k}" for k in range(9)]).mean_iou < 1
    write_mask(folders[0] / "x.png", torch.full(SIZE, 255))
    with pytest.raises(DataError, match=r"x\.png has index 255 where the truth is known"):
        evaluate_masks(*folders)
    with pytest.raises(DataError, match=r"truth/.*\.png has index 3, but there are 1 classes"):
        evaluate_masks(folders[1], folders[1], classes=["cat"])


def test_class_names_come_from_masks_or_list(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\ncow\n")
    assert evaluate_masks(*folders).names == ("background", "cat", "dog", "cow")
    write_mask(folders[0] / "deep" / "y.png", blobs(1), ("cat", "dog", "cow"))
    assert evaluate_masks(*folders).mean_iou == 1.0
    write_mask(folders[0] / "deep" / "y.png", blobs(1), ("dog", "cat", "cow"))
    with pytest.raises(DataError, match="the same index means different things"):
        evaluate_masks(*folders)
    assert evaluate_masks(*folders, classes=CLASSES).names[1:] == CLASSES


def test_trimap_looks_only_near_contours(tmp_path: Path) -> None:
    truth = torch.zeros(40, 40, dtype=torch.uint8)
    truth[:, 20:] = 1
    far = truth.clone()
    far[:, :10] = 1
    write_mask(tmp_path / "truth" / "a.png", truth)
    write_mask(tmp_path / "far" / "a.png", far)
    scores = evaluate_masks(
        tmp_path / "far", tmp_path / "truth", settings=EvaluateSettings(trimap_widths=(10, 15))
    )
    assert scores.iou.tolist() == [400 / 800, 800 / 1200]
    assert scores.trimap == {10: 1.0, 15: pytest.approx((10 / 15 + 15 / 20) / 2)}


def test_scores_print_and_serialise(folders: tuple[Path, Path]) -> None:
    write_mask(folders[0] / "x.png", torch.zeros(SIZE, dtype=torch.uint8))
    scores = evaluate_masks(*folders, classes=(*CLASSES, "never"))
    record = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert record["iou"]["never"] is None
    assert record["images"] == 3
    text = io.StringIO()
    Console(file=text, width=100).print(mask_table(record, "Scores"))
    for word in ("cow [old]", "never", "–", "mean", "boundary IoU", "mIoU near contours: 5 px"):
        assert word in text.getvalue()
    assert f"{100 * scores.mean_iou:.1f}" in text.getvalue()


def test_truth_that_contradicts_the_tags_is_said_and_kept(tmp_path):
    fixture = Fixture(tmp_path, {"a": True, "b": True, "c": True, "d": True})
    summary = fixture.evaluate()
    # Each mask shows all three classes, of which two are tagged.
    first = "4 of 4 true masks show a class that is not tagged"
    assert summary["warnings"][0].startswith(first)
    record = json.loads((fixture.run.path / "evaluate" / "metrics.json").read_text())
    assert record["warnings"] == summary["warnings"]
    assert f"warning: {first}" in fixture.text.getvalue()


def test_lists_may_be_paths_as_text(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("x.jpg\ndeep\\y\n")
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\n")
    scores = evaluate_masks(
        *folders, ids=str(tmp_path / "ids.txt"), classes=str(tmp_path / "names.txt")
    )
    assert (scores.images, scores.names[1:]) == (2, ("cat", "dog", "cow"))
    with pytest.raises(DataError, match=r"nowhere.txt: there is no such file; give a list of cla"):
        evaluate_masks(*folders, classes="nowhere.txt")
