import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from weakseg.config.run_config import load_config
from weakseg.models.backbones import parameter_count
from weakseg.pipeline import STAGES
from weakseg.runs import disk_need as module
from weakseg.runs.disk_need import disk_need, require_disk
from weakseg.types import Catalog, RunError, Sample

CONFIG = load_config("fast")
ALL = [stage.name for stage in STAGES]


def catalog(images, tags, tmp_path):
    samples = (Sample(f"{k}", tmp_path / f"{k}.jpg", frozenset(range(tags))) for k in range(images))
    return Catalog(tuple("abc"), tuple(samples))


def test_grows_with_images_tags_and_networks(tmp_path):
    few = disk_need(CONFIG, catalog(100, 1, tmp_path), ALL)
    assert disk_need(CONFIG, catalog(1000, 1, tmp_path), ALL)["maps and masks"] == (
        10 * few["maps and masks"]
    )
    assert (
        disk_need(CONFIG, catalog(100, 2, tmp_path), ALL)["maps and masks"]
        > 1.5 * (few["maps and masks"])
    )
    large = CONFIG.model_copy(
        update={"backbone": CONFIG.backbone.model_copy(update={"name": "resnet50"})}
    )
    found = disk_need(large, catalog(100, 1, tmp_path), ALL)
    assert found["maps and masks"] == few["maps and masks"]
    assert found["networks"] / few["networks"] == pytest.approx(
        parameter_count("resnet50") / parameter_count(CONFIG.backbone.name), rel=1e-3
    )


def test_only_stages_that_are_left_count(tmp_path):
    found = disk_need(CONFIG, catalog(100, 1, tmp_path), ["evaluate", "verify"])
    assert sum(found.values()) == 0


def test_a_run_of_known_size(tmp_path):
    # 128 images, 184 tags, 256 pixels: cams took 1.26 MB, the walk 2.09 MB.
    settings = CONFIG.model_copy(update={"cams": CONFIG.cams.model_copy(update={"long_side": 256})})
    samples = [*catalog(128, 1, tmp_path)]
    samples[:56] = [Sample(s.id, s.image, frozenset({0, 1})) for s in samples[:56]]
    known = Catalog(tuple("abc"), tuple(samples))
    for stage, megabytes in {"cams": 1.26, "walk": 2.09}.items():
        found = disk_need(settings, known, [stage])["maps and masks"] / 1e6
        assert 0.7 * megabytes < found < 1.2 * megabytes


def test_what_cannot_fit_is_refused_and_nothing_is_made(tmp_path, monkeypatch):
    known, out = catalog(1000, 1, tmp_path), tmp_path / "new" / "run"
    need = sum(disk_need(CONFIG, known, ALL).values())
    free = SimpleNamespace(free=need)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    require_disk(CONFIG, known, ALL, out)
    free.free -= 1
    with pytest.raises(RunError, match=r"needs about .* of maps and masks, .* are free; remove"):
        require_disk(CONFIG, known, ALL, out)
    assert not out.parent.exists()
    require_disk(CONFIG, known, [], out)
    (out / "cams").mkdir(parents=True)
    (out / "cams/a.npz").write_bytes(b"1")  # what is there already is not needed again
    require_disk(CONFIG, known, ALL, out)


def test_the_disk_is_looked_at_before_the_run_begins(weak, tmp_path, monkeypatch):
    source = tmp_path / "photos"
    shutil.copytree(_photos(tmp_path), source)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    code, _, err = weak("run", source, "--out", tmp_path / "run", "--skip-bad")
    assert code == 2
    assert "the run needs about" in err
    assert not (tmp_path / "run" / "catalog.json").exists()


def _photos(tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    rows = ["image,tags"]
    for k in range(12):
        Image.effect_noise((60, 40), 40 + k).convert("RGB").save(folder / f"{k}.png")
        rows.append(f"{k}.png,{'cat' if k % 2 else 'dog'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
