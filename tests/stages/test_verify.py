"""A run judges its own masks, without truth."""

import json

import pytest
import torch
from PIL import Image, ImageDraw
from rich.console import Console

from weakseg.config.run_config import load_config
from weakseg.data.masks import write_mask
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.verify import verify
from weakseg.types import Catalog, Sample

SIZE = 96
SPOT = (28, 20, 68, 60)
BARE = ("backbone.weights=none", "cams.long_side=96", "fit.workers=0", "evidence.images=0")


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    """Forty gray plates on white, every other one with stripes on it; the tag says which."""
    folder = tmp_path_factory.mktemp("plates")
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number in range(40):
        noise = torch.randint(-6, 7, (SIZE, SIZE, 3), generator=generator)
        pixels = (noise + 240).clamp(0, 255)
        pixels[8:88, 8:88] = 120 + noise[8:88, 8:88]
        image = Image.fromarray(pixels.to(torch.uint8).numpy())
        if number % 2:
            draw = ImageDraw.Draw(image)
            left, top, right, bottom = SPOT
            for x in range(left, right, 6):
                draw.rectangle((x, top, x + 2, bottom), fill=(30, 30, 30))
        path = folder / f"{number}.png"
        image.save(path)
        samples.append(Sample(str(number), path, frozenset({0} if number % 2 else ())))
    return Catalog(("scratch",), tuple(samples))


def judged(plates, folder, box, *settings, peak=1.0):
    """The record of `verify` where every tagged image's mask is a box, and what was printed."""
    config = load_config(
        "fast",
        overrides=[*BARE, *settings],
    )
    run, lines = RunDir(folder), Console(record=True, width=400, quiet=False)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for sample in plates:
        mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
        if sample.tags:
            left, top, right, bottom = box(int(sample.id)) if callable(box) else box
            mask[top:bottom, left:right] = 1
        write_mask(folder / "masks" / f"{sample.id}.png", mask, plates.classes)
        classes = torch.tensor(sorted(sample.tags), dtype=torch.int64)
        maps = torch.full((len(classes), 24, 24), peak)
        kept = ImageMaps(classes, (SIZE, SIZE), {"spotlight": maps})
        kept.save(StageDir(folder / "cams"), sample.id)
        walked = 0.9 * (mask[None, 2::4, 2::4] > 0).float().expand(len(classes), -1, -1)
        kept = ImageMaps(classes, (SIZE, SIZE), {"walk": walked}, walked.new_zeros(24, 24))
        kept.save(StageDir(folder / "walk"), sample.id)
    context = StageContext(config, plates, run, StageDir(folder / "verify"), lines)
    summary = verify(context)
    record = json.loads((folder / "verify" / "verify.json").read_text())
    assert summary == {key: value for key, value in record.items() if key != "estimates"}
    return record


def test_masks_of_the_thing_itself_pass(plates, tmp_path):
    record = judged(plates, tmp_path, SPOT)
    own = record["classes"]["scratch"]
    assert own["images"] == 20
    assert own["surfaces_told"] > 0.9
    assert own["guessed"] == 0.5
    assert own["against"] < own["against_outside"]
    assert record["verdicts"] == []


def test_masks_are_estimated_where_there_is_evidence(plates, tmp_path):
    assert judged(plates, tmp_path / "without", SPOT)["estimate"] is None
    for name in ("good", "bad"):
        stage = StageDir(tmp_path / name / "evidence")
        stage.write_json("fingerprint.json", {})
        stage.finish({"witnesses": "untagged", "classes": {"scratch": {"strength": 1.0}}})
        masks = StageDir(tmp_path / name / "masks")
        masks.write_json("fingerprint.json", {})
        masks.finish({"thresholds": {"walk": 0.5}})
    good = judged(plates, tmp_path / "good", SPOT, "evidence.images=1000")
    bad = judged(plates, tmp_path / "bad", (0, 0, SIZE, SIZE), "evidence.images=1000")
    assert good["estimate"]["value"] > 0.5 > 0.1 > bad["estimate"]["value"]
    assert good["classes"]["scratch"]["estimate"] == good["estimate"]
    assert good["estimates"].keys() == {s.id for s in plates if s.tags}
    assert min(good["estimates"].values()) > 0.5


def test_masks_of_what_it_stands_on_are_red(plates, tmp_path):
    # All of the plate but the scratch's middle.
    record = judged(plates, tmp_path, (8, 62, 88, 88))
    own = record["classes"]["scratch"]
    assert own["against"] > own["against_outside"]
    assert own["against_by_chance"] < 0.01
    (verdict,) = record["verdicts"]
    assert verdict["severity"] == "red"
    assert (
        "of its masks cover surfaces that occur rather in images without scratch" in verdict["text"]
    )


def test_maps_of_zeros_and_missing_masks_are_red(plates, tmp_path):
    record = judged(plates, tmp_path, (0, 0, 0, 0), peak=0.0)
    (verdict,) = record["verdicts"]
    assert verdict["severity"] == "red"
    assert "maps are zero in 20 of 20 images" in verdict["text"]
    record = judged(plates, tmp_path, (0, 0, 0, 0))
    assert "20 of 20 images that show it have no pixel" in record["verdicts"][0]["text"]


def test_few_images_are_looked_at_and_it_is_the_same_every_time(plates, tmp_path):
    first = judged(plates, tmp_path, SPOT, "verify.images=13")
    assert first["images"] == 13
    assert 0 < first["classes"]["scratch"]["images"] < 13
    assert judged(plates, tmp_path, SPOT, "verify.images=13") == first


def test_a_single_image_is_no_fault(plates, tmp_path):
    record = judged(Catalog(plates.classes, plates.samples[1:2]), tmp_path, SPOT)
    assert [v["severity"] for v in record["verdicts"]] == ["yellow"]
    assert "in 1 image only" in record["verdicts"][0]["text"]


def test_masks_that_lie_anywhere_get_a_verdict(plates, tmp_path):
    def anywhere(number):
        generator = torch.Generator().manual_seed(number)
        left, top = torch.randint(0, SIZE - 40, (2,), generator=generator).tolist()
        return left, top, left + 40, top + 40

    record = judged(plates, tmp_path, anywhere)
    own = record["classes"]["scratch"]
    assert 0.4 < own["distinct"] < 0.75
    texts = [verdict["text"] for verdict in record["verdicts"]]
    assert any("be told from what they leave of the same images" in text for text in texts)


def test_masks_of_the_thing_itself_are_other_stuff_than_the_rest(plates, tmp_path):
    record = judged(plates, tmp_path, SPOT)
    assert record["classes"]["scratch"]["distinct"] > 0.9


def test_masks_of_everything_leave_nothing_to_compare(plates, tmp_path):
    record = judged(plates, tmp_path, (0, 0, SIZE, SIZE))
    assert record["classes"]["scratch"]["distinct"] is None
