"""Maps leave what images without the tag show, too."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console

from weakseg.config.run_config import load_config
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps
from weakseg.runs.processes import Part, doing_part
from weakseg.runs.run_dir import RunDir
from weakseg.runs.stage_dir import StageDir
from weakseg.stages.evidence import evidence, evidence_strengths
from weakseg.stages.learnt_evidence import LEARNT, LearntEvidence, along_colours
from weakseg.stages.surface_words import Surfaces
from weakseg.types import Catalog, RunError, Sample

SIZE = 192
SPOT = (40, 32, 80, 72)
PLATE = (16, 16, 176, 176)

BARE = (
    "backbone.weights=none",
    "cams.long_side=192",
    "fit.workers=0",
    "amr.compensation=false",
)


def drawn(folder, box):
    """Forty gray plates on white, every other one with stripes on it; the tag says which."""
    generator = torch.Generator().manual_seed(0)
    left, top, right, bottom = SPOT
    samples = []
    for number in range(40):
        pixels = torch.randint(-6, 7, (SIZE, SIZE, 3), generator=generator) + 240
        pixels[box[1] : box[3], box[0] : box[2]] -= 120
        if number % 2:
            for x in range(left, right, 6):
                pixels[top:bottom, x : x + 3] = 30
        path = folder / f"{number}.png"
        Image.fromarray(pixels.clamp(0, 255).to(torch.uint8).numpy()).save(path)
        samples.append(Sample(str(number), path, frozenset({0} if number % 2 else ())))
    return Catalog(("scratch",), tuple(samples))


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("plates"), PLATE)


def smooth_instead_of_nothing(catalog):
    """The same images, the others tagged, too."""
    return Catalog(
        ("scratch", "smooth"),
        tuple(s if s.tags else replace(s, tags=frozenset({1})) for s in catalog),
    )


def weighed(catalog, folder, box, *settings, peak=0.9):
    """What `evidence` makes of maps that are high in a box; its record, its maps by id."""
    left, top, right, bottom = (side // 4 for side in box)
    for sample in catalog:
        classes = torch.tensor(sorted(sample.tags), dtype=torch.int64)
        maps = torch.zeros(len(classes), SIZE // 4, SIZE // 4)
        maps[:, top:bottom, left:right] = peak
        kept = ImageMaps(classes, (SIZE, SIZE), {"spotlight": maps})
        kept.save(StageDir(folder / "spread"), sample.id)
    context = context_of(catalog, folder, *settings)
    record = evidence(context)
    context.dir.finish(record)
    strengths = [own["strength"] for own in record["classes"].values()]
    assert evidence_strengths(context).tolist() == pytest.approx(strengths)
    return record, maps_of(catalog, folder)


def context_of(catalog, folder, *settings):
    """A context of the stage `evidence`, whose folder is opened."""
    config = load_config("fast", overrides=[*BARE, *settings])
    run = RunDir(folder)
    stage = run.open_stage("evidence", {"version": 1})
    return StageContext(config, catalog, run, stage, Console(quiet=True))


def maps_of(catalog, folder):
    return {s.id: ImageMaps.load(folder, "evidence", s.id).maps["evidence"] for s in catalog}


def mean_parts(catalog, maps, far=(104, 168, 104, 168)):
    """Mean map inside the stripes, and on the plate far from them, of images with the tag."""
    left, top, right, bottom = (side // 4 for side in SPOT)
    first, last, start, end = (side // 4 for side in far)
    inside, beside = [], []
    for sample in catalog:
        if 0 not in sample.tags:
            continue
        own = maps[sample.id][0]
        inside.append(own[top:bottom, left:right].mean())
        beside.append(own[first:last, start:end].mean())
    return float(torch.stack(inside).mean()), float(torch.stack(beside).mean())


def test_what_plates_without_the_tag_show_is_left_out(plates, tmp_path):
    record, maps = weighed(plates, tmp_path, PLATE)
    assert record["witnesses"] == "untagged"
    assert record["classes"]["scratch"]["strength"] > 0.8
    inside, beside = mean_parts(plates, maps)
    assert inside > 0.6
    assert beside < 0.5


def test_without_images_of_no_tag_other_classes_are_the_witnesses(tmp_path):
    (tmp_path / "images").mkdir()
    tagged = smooth_instead_of_nothing(drawn(tmp_path / "images", (0, 0, SIZE, SIZE)))
    record, maps = weighed(tagged, tmp_path / "run", (0, 0, SIZE // 2, SIZE))
    assert record["witnesses"] == "others"
    assert record["classes"]["scratch"]["strength"] > 0.4
    inside, beside = mean_parts(tagged, maps, (104, 168, 20, 70))
    assert inside > 0.5
    assert beside < 0.95 * inside


def test_what_is_other_stuff_than_all_around_may_be_shared_by_classes(plates, tmp_path):
    tagged = smooth_instead_of_nothing(plates)
    record, _ = weighed(tagged, tmp_path, PLATE)
    assert record["classes"]["scratch"]["strength"] < 0.2


def test_tags_that_no_surface_tells_change_nothing(plates, tmp_path):
    generator = torch.Generator().manual_seed(1)
    drawn = (torch.rand(len(plates), generator=generator) < 0.5).tolist()
    noise = Catalog(
        ("noise",),
        tuple(
            replace(s, tags=frozenset({0} if own else ()))
            for s, own in zip(plates, drawn, strict=True)
        ),
    )
    record, maps = weighed(noise, tmp_path, PLATE)
    assert record["classes"]["noise"]["strength"] < 0.3
    inside, _ = mean_parts(noise, maps)
    assert inside > 0.7 * 0.9


def test_too_few_images_to_hold_out_change_nothing(plates, tmp_path):
    few = Catalog(plates.classes, plates.samples[:6])
    record, maps = weighed(few, tmp_path, PLATE)
    assert record["classes"]["scratch"]["strength"] == 0
    assert float(maps["1"].max()) == pytest.approx(0.9, abs=1e-3)


def test_the_same_images_give_the_same_maps(plates, tmp_path):
    _, once = weighed(plates, tmp_path / "a", PLATE)
    _, again = weighed(plates, tmp_path / "b", PLATE)
    assert all(torch.equal(once[key], again[key]) for key in once)
    one, other = ((tmp_path / each / "evidence" / LEARNT).read_bytes() for each in "ab")
    assert one == other


def test_images_that_were_not_learnt_from_are_weighed_too(plates, tmp_path):
    record, maps = weighed(plates, tmp_path, PLATE, "evidence.images=30")
    assert record["images"] == 30
    inside, beside = mean_parts(plates, maps)
    assert inside > beside + 0.2


def test_parts_of_the_images_are_weighed_as_all_together(plates, tmp_path):
    """Workers share what the first learnt, wherever each of them does its part."""
    record, maps = weighed(plates, tmp_path, PLATE)
    for path in (tmp_path / "evidence").glob("*.npz"):
        path.unlink()
    context = context_of(plates, tmp_path)
    for start in (0, 25):
        with doing_part(Part(start, start + 25)):
            assert evidence(context) == record
    again = maps_of(plates, tmp_path)
    # In a batch of other images features differ in their last bits, and some words with them.
    differ = torch.cat([(maps[key] - again[key]).abs() for key in maps])
    assert float((differ > 0.01).float().mean()) < 0.01


def test_a_run_goes_on_with_what_it_learnt(plates, tmp_path, monkeypatch):
    record, maps = weighed(plates, tmp_path, PLATE)
    (tmp_path / "evidence" / "7.npz").unlink()
    context = context_of(plates, tmp_path)
    monkeypatch.setattr("weakseg.stages.evidence._learn", None)  # cannot be called
    assert evidence(context) == record
    again = maps_of(plates, tmp_path)["7"]
    assert float((maps["7"] - again).abs().mean()) < 0.01
    with pytest.raises(RunError, match="remove it"):  # of a run of other classes
        evidence(replace(context, catalog=smooth_instead_of_nothing(plates)))
    (tmp_path / "evidence" / LEARNT).write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"learnt\.safetensors cannot be read .* remove it"):
        evidence(context)


def test_a_map_without_room_outside_says_nothing(plates, tmp_path):
    record, _ = weighed(plates, tmp_path, (0, 0, SIZE, SIZE))
    assert record["classes"]["scratch"]["strength"] > 0.8


def learnt(strength, alone):
    """Of two words the first speaks against everything and the second for it, beyond doubt."""
    weights = torch.tensor([[-40.0], [40.0]])[None]
    of_classes = torch.ones(2)
    return LearntEvidence(
        "untagged",
        None,  # surfaces are given
        weights,
        {},
        0 * of_classes,
        strength * of_classes,
        torch.tensor([alone] * 2),
    )


MAPS = torch.tensor([[[0.8, 0.6, 0.2, 0.0]], [[0.2, 0.3, 0.1, 0.0]]])
SURFACES = Surfaces(
    [torch.tensor([[0, 1, 1, 1]])],
    torch.tensor([0, 80, 160, 240], dtype=torch.uint8).expand(3, 1, 4),
    torch.zeros(1),
)
BOTH = [[[0, 0.6, 0.2, 0]], [[0, 0.3, 0.1, 0]]]  # no more than both say
ALONE = [[[0, 1, 1, 0]], [[0, 0.5, 0.5, 0]]]  # what surfaces say, divided by the maps


@pytest.mark.parametrize(
    ("strength", "alone", "said"),
    [(1, False, BOTH), (1, True, ALONE), (0, True, ALONE), (0, False, BOTH), (0.5, True, ALONE)],
)
def test_maps_and_surfaces_together(plates, strength, alone, said):
    found = learnt(strength, alone).weighed(plates.samples[0], SURFACES, torch.tensor([0, 1]), MAPS)
    averaged = along_colours(torch.tensor(said, dtype=torch.float32), SURFACES.picture)
    assert torch.allclose(found, averaged**strength * MAPS ** (1 - strength), atol=1e-4)


def test_what_surfaces_say_ends_where_the_colour_does():
    picture = torch.full((3, 24, 24), 60, dtype=torch.uint8)
    picture[:, :, 12:] = 200
    maps = torch.zeros(1, 24, 24)
    maps[:, 8:16, 2:10] = 1
    found = along_colours(maps, picture)[0]
    assert float(found[:, 12:].max()) < 0.1
    assert float(found[5:19, :12].min()) > 0.1  # it fills its side of the edge
    assert float(found[2:22, :12].std()) < float(maps[0, 2:22, :12].std())
    half = along_colours(maps, picture[:, ::2, ::2])  # a picture of another size
    assert half.shape == maps.shape


def test_a_picture_of_one_colour_keeps_the_sum():
    maps = torch.zeros(1, 64, 64)
    maps[:, 30:34, 30:34] = 1
    found = along_colours(maps, torch.full((3, 64, 64), 7, dtype=torch.uint8))
    assert float(found.sum()) == pytest.approx(16, rel=0.02)
