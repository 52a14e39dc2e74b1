"""Every reader of files that weakseg reads back, on files damaged at random: documented errors only."""

import io
import json
import random
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.utils.data import DataLoader

from weakseg.apps.label_folder import FORMAT as FORMAT_OF_LABELS
from weakseg.apps.label_folder import LabelFolder
from weakseg.apps.trackers import _lines, _row
from weakseg.data.array_files import ArraysError, read_arrays
from weakseg.data.images import read_mask
from weakseg.data.map_files import read_maps
from weakseg.data.masks import mask_classes, write_mask
from weakseg.files import dump_json, read_json
from weakseg.models.hub import load_folder
from weakseg.models.segmenter import FORMAT, Segmenter
from weakseg.models.weights import load_weights
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.sources.named_images import NamedImage
from weakseg.training.fit import CHECKPOINT, LOG, FitSettings, fit, steps_done
from weakseg.types import Catalog, RunError, Sample, WeaksegError, WeightsError

_CASES = 120


def damaged(content, cases=_CASES):
    """The content with bytes flipped, cut off, doubled, or put in other places."""
    chance = random.Random(0)
    yield from (b"", content[:1], content[:-1], content * 2, b"\xff" * 9, b"[" * 3000, b"[]", b"3")
    for _ in range(cases):
        bad = bytearray(content)
        for _ in range(chance.choice((1, 1, 3, 20))):
            bad[chance.randrange(len(bad))] = chance.choice(
                (0, 9, 34, 49, 255, chance.randrange(256))
            )
        start, end = sorted(chance.choices(range(len(bad) + 1), k=2))
        way = chance.randrange(4)
        if way == 0:
            del bad[start:]
        elif way == 1 and end - start < 40:
            del bad[start:end]
        yield bytes(bad)


def mangled(value, cases=_CASES):
    """JSON with values of it replaced, removed or renamed."""
    chance = random.Random(0)
    others = (None, True, -1, 2.5, 10**30, "", "..", "a\0", [], {}, [[]], {"a": {}})
    for _ in range(cases):
        copy = json.loads(json.dumps(value))
        place = copy
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(place[key], dict | list) and chance.random() < 0.7:
                place = place[key]
                continue
            if chance.random() < 0.3:
                del place[key]
            else:
                place[key] = chance.choice(others)
            break
        yield json.dumps(copy).encode()


def survives(read, errors=WeaksegError):
    """Reads; whether that went without an error."""
    try:
        read()
    except errors as error:
        text = str(error)
        assert text
        assert "\n" not in text
        return False
    return True


def maps_file(**changed):
    buffer = io.BytesIO()
    arrays = {
        "classes": np.array([0, 2]),
        "size": np.array([8, 8]),
        "spotlight": np.full((2, 4, 4), 0.5, np.float16),
        "boundary": np.full((4, 4), 0.5, np.float16),
    }
    np.savez_compressed(buffer, **{**arrays, **changed})
    return buffer.getvalue()


def load_maps(path):
    kept = ImageMaps.load(path.parents[1], "cams", "a")
    assert kept.maps["spotlight"].shape == (2, 4, 4)


def test_maps(tmp_path):
    path = tmp_path / "cams" / "a.npz"
    path.parent.mkdir()
    path.write_bytes(maps_file())
    load_maps(path)
    for content in damaged(maps_file()):
        path.write_bytes(content)
        survives(lambda: load_maps(path), RunError)


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": np.array(0)},
        {"classes": np.array([-1, 2])},
        {"classes": np.array([0, 999])},
        {"classes": np.array(["cat", "dog"])},
        {"size": np.array([8])},
        {"size": np.array([-8, 8])},
        {"spotlight": np.array(["a"])},
        {"spotlight": np.full((2, 4, 4), np.nan)},
        {"spotlight": np.array([[{}]], object)},
        {"spotlight": np.zeros(3, [("a", "f4")])},
        {"spotlight": np.zeros((2, 4, 4), complex)},
        {"boundary": np.zeros(4)},
        {"boundary": np.full((4, 4), 7.0)},
        {"boundary": np.array(["a"])},
    ],
)
def test_maps_of_other_things(tmp_path, changed):
    path = tmp_path / "cams" / "a.npz"
    path.parent.mkdir()
    path.write_bytes(maps_file(**changed))
    with pytest.raises(RunError, match=r"a\.npz is damaged"):
        ImageMaps.load(tmp_path, "cams", "a")


def archive(name, content, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=9) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def array_header(shape, dtype="<f4"):
    buffer = io.BytesIO()
    record = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, record)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (archive("a.npy", array_header((1 << 21,)) + bytes(1 << 23)), "unpacks to more than 1 MB"),
        (archive("a.npy", array_header((1 << 40,))), "claims 4398046511104 bytes"),
        (array_header((1 << 40,)), "claims 4398046511104 bytes"),
        (array_header((1 << 40, 0)), None),
        (array_header((-1, 4)) + bytes(64), "claims"),
        (array_header((4,)) + bytes(8), "it ends early"),
        (array_header((4,), "|O") + bytes(64), "object"),
        (archive("a.npy", b"no array"), "magic string"),
        (b"PK\5\6" + bytes(18), None),
    ],
)
def test_arrays_are_bounded_before_they_are_unpacked(tmp_path, content, found):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    if found is None:
        assert all(value.size == 0 for value in read_arrays(path, 1 << 20).values())
    else:
        with pytest.raises(ArraysError, match=found):
            read_arrays(path, 1 << 20)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_what_numpy_saved(tmp_path, order):
    value = np.asarray(np.random.default_rng(0).random((3, 4, 5)), order=order)
    np.savez(tmp_path / "a.npz", a=value, b=np.zeros((0, 1, 1)), c=np.array("x"), d=np.float16(2))
    found = read_arrays(tmp_path / "a.npz")
    assert np.array_equal(found["a"], value)
    assert found["b"].shape == (0, 1, 1)
    assert (found["c"], found["d"]) == ("x", 2)
    np.save(tmp_path / "a.npy", value)
    assert np.array_equal(read_arrays(tmp_path / "a.npy")[""], value)


def test_maps_of_others(tmp_path):
    sample = Sample("a", tmp_path / "a.jpg", frozenset({0}))
    buffers = io.BytesIO(), io.BytesIO()
    np.savez(buffers[0], cat=np.ones((3, 3)))
    np.savez(buffers[1], maps=np.ones((1, 3, 3)), classes=np.array(["cat"]))
    for buffer in buffers:
        for content in damaged(buffer.getvalue()):
            (tmp_path / "a.npz").write_bytes(content)
            survives(lambda: read_maps(tmp_path, sample, ["cat"]))


def test_masks(tmp_path):
    path = tmp_path / "a.png"
    write_mask(path, torch.arange(3).repeat(20, 30), ("cat", "größerer Hund"))
    assert mask_classes(path) == ("cat", "größerer Hund")
    for content in damaged(path.read_bytes(), 300):
        path.write_bytes(content)
        survives(lambda: read_mask(path))
        assert isinstance(mask_classes(path), tuple | None)


RECORD = {
    "stage": "cams",
    "seconds": 1.5,
    "versions": {"torch": "2"},
    "fingerprint": "abc",
    "summary": {"images": 3, "loss": None},
}


def test_records(tmp_path):
    stage = StageDir(tmp_path)
    for content in (*damaged(dump_json(RECORD)), *mangled(RECORD)):
        (tmp_path / "done.json").write_bytes(content)
        (tmp_path / "fingerprint.json").write_bytes(content)
        (tmp_path / "spent.json").write_bytes(content)
        if survives(lambda: stage.record, RunError):
            assert float(stage.record["seconds"])
            assert dict(stage.summary) is not None
        survives(lambda: stage.holds({"version": 1}), RunError)
        with stage.timed():
            pass


@pytest.mark.parametrize("deep", ["[" * 900 + "]" * 900, '{"a":' * 200 + "1" + "}" * 200])
def test_json_nested_deep(tmp_path, deep):
    (tmp_path / "a.json").write_text(f'{{"a": {deep}}}')
    with pytest.raises(RunError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_catalogs(tmp_path):
    run = RunDir(tmp_path)
    catalog = Catalog(("cat", "dog"), (Sample("a/b", tmp_path / "b.jpg", frozenset({0, 1})),))
    run.save_catalog(catalog, source=tmp_path, skipped=["c"])
    content = (tmp_path / "catalog.json").read_bytes()
    for bad in (*damaged(content), *mangled(json.loads(content), 300)):
        (tmp_path / "catalog.json").write_bytes(bad)
        survives(run.load_catalog, RunError)
        if survives(run.catalog_record, RunError):
            assert isinstance(run.catalog_record()["skipped"], list)
        survives(lambda: run.is_run, RunError)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, batch):
        return {"loss": self.layer(batch).square().mean()}

    def parameter_groups(self):
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]


def test_checkpoints_and_logs(tmp_path):
    settings = FitSettings(batch_size=2, epochs=1, workers=0, checkpoint_seconds=0)
    batches = DataLoader(torch.ones(8, 2), batch_size=2)
    fit(Line(), batches, settings, folder=tmp_path, device="cpu")
    log, checkpoint = (tmp_path / LOG).read_bytes(), (tmp_path / CHECKPOINT).read_bytes()
    rows = [json.loads(line) for line in log.splitlines()]
    lines = [
        b"\n".join(json.dumps(row).encode() for row in json.loads(bad))
        for bad in mangled(rows, 40)
        if all(json.loads(bad))
    ]
    for bad in (*damaged(log, 20), *lines):
        (tmp_path / LOG).write_bytes(bad)
        for line in _lines(tmp_path / LOG):
            _row(line)
        fit(Line(), batches, settings, folder=tmp_path, device="cpu")
    for bad in damaged(checkpoint, 60):
        (tmp_path / CHECKPOINT).write_bytes(bad)
        survives(lambda: steps_done(tmp_path), RunError)
    for bad in damaged(checkpoint, 20):
        (tmp_path / CHECKPOINT).write_bytes(bad)
        survives(lambda: fit(Line(), batches, settings, folder=tmp_path, device="cpu"), RunError)


CONFIG = {"format": FORMAT, "classes": ["cat"], "preprocessing": {"long_side": 64}}


def test_networks(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(save({"a": torch.ones(2)}))
    for content in (*damaged(dump_json(CONFIG)), *mangled(CONFIG)):
        (tmp_path / "config.json").write_bytes(content)
        survives(lambda: load_folder(tmp_path, FORMAT), WeightsError)
    (tmp_path / "config.json").write_bytes(dump_json(CONFIG))
    for content in damaged((tmp_path / "model.safetensors").read_bytes()):
        (tmp_path / "model.safetensors").write_bytes(content)
        survives(lambda: load_folder(tmp_path, FORMAT), WeightsError)


@pytest.mark.parametrize("sight", [{"long_side": "64"}, {"long_side": -1}, {}, 3])
def test_networks_of_another_sight(tmp_path, sight):
    (tmp_path / "model.safetensors").write_bytes(save({"a": torch.ones(2)}))
    config = {"format": FORMAT, "classes": ["cat"], "preprocessing": sight}
    (tmp_path / "config.json").write_bytes(dump_json(config))
    with pytest.raises(WeightsError, match="is damaged, or made by another version"):
        Segmenter.from_pretrained(tmp_path)


IMAGES = {"format": "weakseg-label-1", "model": "abc"}
LINE = {"mask": "a.png", "image": "/a.jpg", "bytes": 3, "mtime_ns": 4, "tags": None}


def test_labels(tmp_path):
    image = NamedImage(tmp_path / "a.jpg", "a")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "images.jsonl").write_bytes(json.dumps(LINE).encode())
    for content in (*damaged(dump_json(IMAGES)), *mangled(IMAGES)):
        (tmp_path / "label.json").write_bytes(content)
        survives(lambda: LabelFolder(tmp_path, maps=False).open({"model": "abc"}), RunError)
    for content in (*damaged(json.dumps(LINE).encode()), *mangled(LINE)):
        (tmp_path / "images.jsonl").write_bytes(content)
        folder = LabelFolder(tmp_path, maps=False)
        (tmp_path / "label.json").unlink(missing_ok=True)
        (tmp_path / "label.json").write_bytes(dump_json({"format": FORMAT_OF_LABELS, "a": 1}))
        folder.open({"a": 1})
        survives(lambda: folder.has(image, None))  # noqa: B023


class Trunk(nn.Linear):
    pretrained_cfg = {"classifier": "head"}  # noqa: RUF012


@pytest.mark.parametrize(
    "state",
    [
        [torch.ones(2)],
        torch.ones(2),
        3,
        None,
        {},
        {"state_dict": [1]},
        {1: torch.ones(2)},
        {"weight": torch.ones(2), "bias": 3},
    ],
)
def test_weights_of_another_form(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"backbone\.weights"):
        load_weights(Trunk(2, 2), "any", str(tmp_path / "a.pth"))


def test_weights(tmp_path):
    torch.save(Trunk(2, 2).state_dict(), tmp_path / "a.pth")
    for content in damaged((tmp_path / "a.pth").read_bytes(), 60):
        (tmp_path / "a.pth").write_bytes(content)
        survives(lambda: load_weights(Trunk(2, 2), "any", str(tmp_path / "a.pth")), WeightsError)
