"""Images from wherever they come: the same masks as of the plain folder, byte for byte."""

import csv
import io
import json
import tarfile

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import weakseg
from weakseg.apps import mask_shards
from weakseg.models.backbones import BackboneSettings
from weakseg.models.segmenter import Segmenter, SegmenterSettings
from weakseg.sources.found_images import find_all
from weakseg.types import ConfigError, DataError, RunError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SIZES = ((60, 80), (80, 60), (60, 80), (40, 40))
NAMES = ("a.png", "b.jpg", "sub/c.png", "sub/deep/d.png")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    backbone = BackboneSettings(name="resnet18", weights="none")
    network = Segmenter(
        2, backbone, SegmenterSettings(channels=32), class_names=("cat", "dog"), long_side=64
    )
    folder = tmp_path_factory.mktemp("models") / "model"
    network.eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for name, (height, width) in zip(NAMES, SIZES, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(small.repeat(10, 0).repeat(10, 1)).save(path)
    return folder


@pytest.fixture(scope="module")
def plain(model, photos, tmp_path_factory):
    """The masks of the folder, by name."""
    out = tmp_path_factory.mktemp("plain") / "out"
    label(model, photos, out)
    return masks_in(out)


def masks_in(folder):
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_bytes()
        for path in folder.rglob("*.png")
    }


def label(model, source, out, **options):
    given = source if isinstance(source, list) else [source]
    return weakseg.label(model, given, out, device="cpu", **options)


def write_tar(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_table(path, names, images, column="file_name"):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({column: names, "image": images}), path)
    return path


def contents(photos):
    return [(name, (photos / name).read_bytes()) for name in NAMES]


def csv_of_paths(photos, folder):
    path = folder / "list.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "file_name", "name"])
        rows.writerows(["test", photos / name, name] for name in NAMES)
    return path


def text_beside(photos, folder):
    path = photos / "list.txt"
    path.write_text("".join(f"{name}\n\n" for name in NAMES))
    return path


def csv_of_urls(photos, folder):
    path = folder / "urls.csv"
    path.write_text("id,url\n" + "".join(f"{name},file://{photos / name}\n" for name in NAMES))
    return path


def list_in_a_bucket(photos, folder):
    url = f"memory://bucket{folder}"
    system = fsspec.filesystem("memory")
    for name, data in contents(photos):
        system.pipe(f"{url}/photos/{name}", data)
    system.pipe(f"{url}/photos/list.txt", "\n".join(NAMES).encode())
    return f"{url}/photos/list.txt"


def folder_in_a_bucket(photos, folder):
    return list_in_a_bucket(photos, folder).removesuffix("/list.txt")


def pattern_in_a_bucket(photos, folder):
    return [f"{folder_in_a_bucket(photos, folder)}/{end}" for end in ("*.png", "*.jpg", "sub")]


SINGLE = [csv_of_paths, text_beside, csv_of_urls, list_in_a_bucket, folder_in_a_bucket]


def tar(photos, folder):
    return write_tar(folder / "shards" / "one.tar", contents(photos))


def tar_folder(photos, folder):
    write_tar(folder / "shards" / "one.tgz", contents(photos), "w:gz")
    return folder / "shards"


def tar_at_a_url(photos, folder):
    path = tar(photos, folder)
    return f"file://{path}"


def tars_of_a_bucket(photos, folder):
    path = tar(photos, folder)
    fsspec.filesystem("memory").pipe(f"memory://tars{path}", path.read_bytes())
    return f"memory://tars{path.parent}"


def table(photos, folder):
    names, data = zip(*contents(photos), strict=True)
    return write_table(folder / "one.parquet", names, data)


def table_of_records(photos, folder):
    records = [{"bytes": data, "path": name} for name, data in contents(photos)]
    path = folder / "one.parquet"
    parquet.write_table(pa.table({"image": records, "label": [0] * 4}), path)
    return f"file://{path}"


SHARDS = [tar, tar_folder, tar_at_a_url, tars_of_a_bucket, table, table_of_records]


@pytest.mark.parametrize("source", SINGLE)
def test_lists_and_urls_give_the_masks_of_the_folder(source, model, photos, plain, tmp_path):
    given = source(photos, tmp_path)
    summary = label(model, given, tmp_path / "out")
    assert (summary.made, summary.kept, summary.bad) == (4, 0, ())
    assert masks_in(tmp_path / "out") == plain
    assert label(model, given, tmp_path / "out").kept == 4


def test_patterns_of_urls(model, photos, plain, tmp_path):
    given = pattern_in_a_bucket(photos, tmp_path)
    assert label(model, given, tmp_path / "out").made == 4
    names = {"a": "a", "b": "b", "c": "sub/c", "deep/d": "sub/deep/d"}
    expected = {name: plain[other] for name, other in names.items()}
    assert masks_in(tmp_path / "out") == expected


@pytest.mark.parametrize("source", SHARDS)
def test_shards_give_the_masks_of_the_folder(source, model, photos, plain, tmp_path):
    given, out = source(photos, tmp_path), tmp_path / "out"
    summary = label(model, given, out, to="png")
    assert (summary.made, summary.kept, summary.bad) == (4, 0, ())
    assert masks_in(out / "one") == plain
    lines = [json.loads(line) for line in (out / "one.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines[1:]] == list(NAMES)
    assert {line["fault"] for line in lines[1:]} == {None}
    summary = label(model, given, out, to="png")
    assert (summary.made, summary.kept) == (0, 1)


def table_rows(path):
    return {
        row["name"]: (row["mask"], row["fault"]) for row in parquet.read_table(path).to_pylist()
    }


def tar_rows(path):
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    rows = [json.loads(data) for name, data in files.items() if name.endswith(".json")]
    pictures = {name: data for name, data in files.items() if name.endswith(".png")}
    return rows, pictures


@pytest.mark.parametrize("source", [tar, table, csv_of_paths])
@pytest.mark.parametrize("to", ["parquet", "tar", None])
def test_masks_in_shards(source, to, model, photos, plain, tmp_path):
    given, out = source(photos, tmp_path), tmp_path / "out"
    if source is csv_of_paths and to is None:
        return
    label(model, given, out, to=to)
    kind = to or ("tar" if source is tar else "parquet")
    path = out / f"{'part-00000' if source is csv_of_paths else 'one'}.{kind}"
    if kind == "parquet":
        rows = table_rows(path)
        assert {name.rpartition(".")[0] or name: row[0] for name, row in rows.items()} == plain
        assert all(fault is None for _, fault in rows.values())
    else:
        rows, pictures = tar_rows(path)
        assert {name.removesuffix(".png"): data for name, data in pictures.items()} == plain
        assert [row["fault"] for row in rows] == [None] * 4
    assert label(model, given, out, to=to).kept == 1


def test_images_that_change_make_their_shard_anew(model, photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / name).write_bytes((photos / name).read_bytes())
    label(model, folder, tmp_path / "out", to="tar")
    (folder / "b.jpg").write_bytes((photos / "b.jpg").read_bytes() + b" ")
    assert label(model, folder, tmp_path / "out", to="tar").made == 2


HOSTILE = ["../x.png", "/x.png", "a/../../x.png", "C:/x.png", "a\\..\\x.png", "tab\there.png"]


@pytest.mark.parametrize("to", ["png", "parquet", "tar"])
@pytest.mark.parametrize("kind", ["tar", "table"])
def test_names_of_strangers_stay_in_the_folder(kind, to, model, photos, tmp_path):
    data = (photos / "a.png").read_bytes()
    names = [*HOSTILE, "good.png", "good.jpg"]
    place = tmp_path / "deep" / "er"
    if kind == "tar":
        given = write_tar(place / "s.tar", [(name, data) for name in names])
    else:
        given = write_table(place / "s.parquet", names, [data] * len(names), "path")
    before = set(tmp_path.rglob("*"))
    summary = label(model, given, place / "out", to=to)
    assert (summary.made, len(summary.bad)) == (1, 7)
    assert {fault.kind for fault in summary.bad} == {"image_name", "duplicate_name"}
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(place / "out") for path in new)
    if to == "tar":
        rows, pictures = tar_rows(place / "out" / "s.tar")
        assert list(pictures) == ["good.png"]
        assert {row["name"] for row in rows if row["fault"]} == {*HOSTILE, "good.jpg"}
    if to == "parquet":
        rows = table_rows(place / "out" / "s.parquet")
        assert {name for name, (mask, _) in rows.items() if mask} == {"good.png"}


def test_a_bad_image_is_a_row_with_its_reason(model, photos, tmp_path):
    good = (photos / "a.png").read_bytes()
    members = [("1.png", good), ("2.jpg", b"no image"), ("3.png", b""), ("4.png", good[:200])]
    given = write_tar(tmp_path / "s.tar", members)
    summary = label(model, given, tmp_path / "out")
    assert (summary.made, len(summary.bad)) == (1, 3)
    rows, pictures = tar_rows(tmp_path / "out" / "s.tar")
    assert list(pictures) == ["1.png"]
    assert [row["name"] for row in rows] == ["1.png", "2.jpg", "3.png", "4.png"]
    assert "the file is empty" in rows[2]["fault"]
    assert str(summary.bad[0]).startswith(f"{given}: 2.jpg: ")
    assert label(model, given, tmp_path / "out").kept == 1


def test_members_that_are_annotations_are_passed_over(model, photos, tmp_path):
    data = (photos / "a.png").read_bytes()
    names = ["1.jpg", "1.json", "1.seg.png", "shot.2020.png", "shot.png", "2.seg.png", ".x.png"]
    given = write_tar(tmp_path / "s.tar", [(name, data) for name in names])
    label(model, given, tmp_path / "out", to="png")
    assert sorted(masks_in(tmp_path / "out" / "s")) == ["1", "2.seg", "shot", "shot.2020"]


def test_what_is_large_is_not_read(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("weakseg.sources.image_shards.MOST_BYTES", 5000)
    monkeypatch.setattr("weakseg.sources.addresses.MOST_BYTES", 5000)
    small = (photos / "a.png").read_bytes()
    given = write_tar(tmp_path / "s.tar", [("1.png", bytes(5001)), ("2.png", small)])
    summary = label(model, given, tmp_path / "out")
    assert (summary.made, [fault.kind for fault in summary.bad]) == (1, ["image_too_large"])
    given = write_table(tmp_path / "s.parquet", ["1", "2"], [bytes(5001), small])
    assert label(model, given, tmp_path / "tables").made == 1
    (tmp_path / "big.png").write_bytes(bytes(5001))
    (tmp_path / "l.txt").write_text(f"file://{tmp_path}/big.png\n{photos}/a.png\n")
    summary = label(model, tmp_path / "l.txt", tmp_path / "listed")
    assert (summary.made, len(summary.bad)) == (1, 1)
    assert "more than" in str(summary.bad[0])


def test_a_damaged_shard_is_told_and_the_others_go_on(model, photos, tmp_path):
    folder = tmp_path / "shards"
    write_tar(folder / "a.tar", contents(photos))
    (folder / "b.tar").write_bytes((folder / "a.tar").read_bytes()[:3000])
    (folder / "c.parquet").write_bytes(b"no table")
    write_tar(folder / "d.tar", [("x.json", b"{}")])
    parquet.write_table(pa.table({"a": [1]}), folder / "e.parquet")
    summary = label(model, folder, tmp_path / "out")
    assert summary.made == 4
    told = {fault.file.rpartition("/")[2]: fault.found for fault in summary.bad}
    assert told.keys() == {"b.tar", "c.parquet", "d.tar", "e.parquet"}
    assert told["b.tar"].startswith("no tar that can be read")
    assert told["d.tar"] == "no image is in it"
    assert told["e.parquet"].startswith("expected one column of images' bytes")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [
        *("a.tar", "classes.txt", "label.json")
    ]


@pytest.mark.parametrize(
    ("name", "text", "about"),
    [
        ("l.csv", "file,tags\na.png,x\n,y\n", r"l\.csv:3: the row names no image"),
        ("l.csv", "colour,size\nred,3\n", "no column is known to name the images"),
        ("l.csv", 'red,"a\nb"\n', r"\(columns: red, a\\nb\); call it 'image'"),
        ("l.txt", "", "no image in such a folder or list"),
        ("l.txt", "a.png\ns3://\n", r"l\.txt:2: '\.' cannot be the name of a file"),
        ("l.txt", "a.png\nsub/../a.jpg\n", "its mask would overwrite that of"),
        ("l.csv", "path,name\na.png,../x\n", r"l\.csv:2: '\.\./x' cannot be the name of a file"),
        ("l.csv", 'path\n"a.png\n', r"l\.csv:2: unexpected end of data"),
    ],
)
def test_lists_that_cannot_be_read(model, tmp_path, name, text, about):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=about):
        label(model, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_of_a_list_that_are_not_there(model, photos, tmp_path):
    gone = f"file://{tmp_path}/gone2.png"
    (tmp_path / "l.txt").write_text(f"{photos}/a.png\n{tmp_path}/gone.png\n{gone}\n")
    summary = label(model, tmp_path / "l.txt", tmp_path / "out")
    assert (summary.made, len(summary.bad)) == (1, 2)
    assert [str(fault).partition("; ")[0] for fault in summary.bad] == [
        f"{tmp_path}/gone.png: there is no such file",
        f"{gone}: there is no such file",
    ]


def test_urls_that_lead_nowhere(tmp_path):
    with pytest.raises(DataError, match="no image in such a folder or list"):
        find_all(["memory://nowhere/at/all"], outside=tmp_path)
    with pytest.raises(DataError, match=r"cannot be read|Protocol not known"):
        find_all(["nosuch://bucket/x"], outside=tmp_path)
    for url in ("https://[host/a.jpg", "https://[*", "memory://nowhere?x=*"):
        with pytest.raises(DataError, match=r"cannot be read|no image in such a folder or list"):
            find_all([url], outside=tmp_path)


def test_what_does_not_go_together(weak, model, photos, tmp_path):
    given = tar(photos, tmp_path)
    with pytest.raises(DataError, match="label files that are images and files that hold many"):
        label(model, [given, photos], tmp_path / "out")
    with pytest.raises(DataError, match="leave out --maps"):
        label(model, photos, tmp_path / "out", to="tar", maps=True)
    with pytest.raises(ConfigError, match="expected masks as png, parquet, tar, got 'zip'"):
        label(model, photos, tmp_path / "out", to="zip")
    code, text, err = weak("label", model, given, "--out", tmp_path / "out", "--to", "parquet")
    assert (code, err) == (0, "")
    assert (tmp_path / "out" / "one.parquet").is_file()
    assert text.splitlines()[-1].startswith("4 masks in ")


def test_a_full_disk_is_told(model, photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mask_shards._Members, "_add", full)
    with pytest.raises(RunError, match="No space left"):
        label(model, tar(photos, tmp_path), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*tar*"))


@pytest.mark.parametrize("source", ["files", "shards"])
def test_processes_of_a_launcher_share_the_work(model, photos, plain, tmp_path, launched, source):
    out = tmp_path / "out"
    given = [photos]
    if source == "shards":
        given = [
            write_tar(tmp_path / "s" / f"{name[0]}.tar", [(name, data)]).parent
            for name, data in contents(photos)
        ][:1]
    command = ["-m", "weakseg", "label", model, *given, "--out", out, "--device", "cpu"]
    (code, first), (_, second) = launched(command, command).ended()
    assert code == 0, first
    assert "4 masks in " in first if source == "files" else "3 masks in " in first
    assert "masks in" not in second
    if source == "files":
        assert masks_in(out) == plain
        assert len((out / "images.jsonl").read_text().splitlines()) == 4
    (code, first), _ = launched(command, command).ended()
    assert "0 masks in " in first


def test_ray_brings_its_own_processes(model, photos, tmp_path, monkeypatch, weak):
    monkeypatch.setattr("weakseg.apps.refusals.process_count", lambda: 2)
    code, _, err = weak("label", model, photos, "--out", tmp_path / "o", "--engine", "ray")
    assert code == 2
    assert "give the command without torchrun or accelerate launch" in err
    assert not (tmp_path / "o").exists()
