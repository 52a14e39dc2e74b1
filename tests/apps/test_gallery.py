import io

import pytest
from PIL import Image

from weakseg import api
from weakseg.apps.gallery import gallery
from weakseg.demo_data.data_set import write_demo
from weakseg.types import RunError

SET = (
    "fit.epochs=1",
    "fit.batch_size=4",
    "fit.workers=0",
    "augment.crop=64",
    "augment.long_side=[64, 80]",
    "cams.long_side=64",
    "cams.scales=[1.0]",
    "spread.scales=[1.0]",
    "refine.kind=none",
    "device=cpu",
)


def test_a_row_an_image_and_a_column_a_stage(tmp_path):
    write_demo(tmp_path / "data", count=6, seed=2)
    run = api.run(tmp_path / "data", tmp_path / "run", preset="fast", until="masks", overrides=SET)
    alone = Image.open(io.BytesIO(gallery(run.run, rows=3)))
    one_branch = api.run(
        tmp_path / "data",
        tmp_path / "plain",
        preset="fast",
        until="masks",
        overrides=(*SET, "amr.compensation=false"),
    )
    assert alone.width > Image.open(io.BytesIO(gallery(one_branch.run, rows=3))).width
    assert alone.height > 3 * 150
    shorter = Image.open(io.BytesIO(gallery(run.run, rows=1)))
    assert shorter.height < alone.height / 2


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="catalog"):
        gallery(tmp_path)
