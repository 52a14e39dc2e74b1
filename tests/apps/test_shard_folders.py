"""What reads a run finds the files of images in shard folders, too."""

import json
import shutil

import torch

from weakseg import api
from weakseg.apps.review.photo_desk import PhotoDesk
from weakseg.data.masks import read_mask
from weakseg.runs.image_files import image_file, make_shard_folders
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.review_dir import ReviewDir
from weakseg.runs.run_dir import RunDir


def in_shards(run, folder):
    """A copy of a run, as it were if it had very many images."""
    copy = shutil.copytree(run, folder / "in-shards")
    make_shard_folders(copy)
    for path in [*copy.rglob("*.npz"), *copy.rglob("*.png")]:
        stage = path.relative_to(copy).parts[0]
        sample_id = path.relative_to(copy / stage).with_suffix("").as_posix()
        target = image_file(copy, stage, sample_id, path.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return copy


def test_maps_masks_reports_exports_and_reviews(run_folder, tmp_path):
    run = in_shards(run_folder, tmp_path)
    assert not list((run / "masks").glob("*.png"))
    catalog = RunDir(run).load_catalog()
    for sample in catalog:
        one, other = (ImageMaps.load(each, "walk", sample.id) for each in (run_folder, run))
        assert torch.equal(one.maps["walk"], other.maps["walk"])
    assert '"shard-' in api.report(run).read_text("utf-8")
    assert '"shard-' not in api.report(run_folder).read_text("utf-8")
    first, second = tmp_path / "usual.json", tmp_path / "shards.json"
    api.export(run_folder, to="coco", out=first)
    api.export(run, to="coco", out=second)
    assert json.loads(first.read_text()) == json.loads(second.read_text())
    assert api.evaluate(run / "masks", run_folder / "masks").mean_iou == 1
    assert {stage.name for stage in api.status(run).stages if stage.state == "done"} == {
        stage.name for stage in api.status(run_folder).stages if stage.state == "done"
    }
    sample = catalog.samples[0]
    desk = PhotoDesk(run, "ann")
    made = read_mask(image_file(run, "masks", sample.id, ".png"))
    assert torch.equal(desk.mask_of_run(sample), made)
    reviews = ReviewDir(run, catalog.classes)
    reviews.change(
        sample.id,
        None,
        lambda: (["cat"], made),
        who="ann",
        action="mask",
        mask=torch.zeros_like(made),
    )
    assert list(reviews.ids()) == [sample.id]
    assert next((run / "review" / "entries").glob("shard-*/*.json"))
    assert next((run / "review" / "masks").glob("shard-*/*.png"))
