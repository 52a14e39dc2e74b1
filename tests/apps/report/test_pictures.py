import base64
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from weakseg.apps.report.facts import read_facts
from weakseg.apps.report.pictures import cards, colour, gallery, heat_image


def opened(uri):
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_gallery_is_spread_over_classes(drawing):
    for k in range(60):
        drawing.add(f"cat{k:02d}", ["cat"])
    for k in range(3):
        drawing.add(f"cow{k}", ["cow"])
        drawing.add(f"none{k}", [])
    facts = read_facts(drawing.run(until="classify"))
    chosen = gallery(facts, 12)
    assert Counter(s.id[:4].rstrip("0123456789") for s in chosen) == {"cat": 6, "cow": 3, "none": 3}
    assert [s.id for s in chosen] == [s.id for s in gallery(facts, 12)]
    assert len(gallery(facts, 1000)) == 66


def test_a_card_holds_the_photo_once_and_thin_layers(drawing):
    drawing.add("a", ["cow", "dog"], truth=True)
    facts = read_facts(drawing.run())
    (card,) = cards(facts, facts.catalog, {}, 10**6)
    assert [panel.title for panel in card.panels] == [
        "photo", "spotlight", "compensation", "weighted map", "mask", "truth",
    ]  # fmt: skip
    assert opened(card.photo).size == (card.width, card.height) == (64, 48)
    assert card.panels[0].layer == ""
    for panel in card.panels[1:]:
        assert opened(panel.layer).mode == "P"
        assert len(panel.layer) < 4000
    assert card.panels[0].told == "a, tagged cow, dog"
    assert card.panels[-1].told == "truth: cow 54 %, open 4 %"


def test_heat_is_clear_where_the_map_is_0_and_bright_where_it_is_1(drawing):
    peak = np.zeros((12, 16))
    peak[3, 4] = 1
    drawing.add("a", ["cow"], [peak])
    facts = read_facts(drawing.run(branches=1, overrides=["refine.threshold=0.5"]))
    (card,) = cards(facts, facts.catalog, {}, 10**6)
    assert [panel.title for panel in card.panels] == ["photo", "map", "mask"]
    heat = np.asarray(opened(card.panels[1].layer).convert("RGBA"))
    assert heat[0, 0, 3] == 0
    assert heat[3, 4].tolist() == [255, 240, 120, 210]


def alphas(values):
    png = heat_image(np.array(values, np.float32).reshape(1, -1))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[0, :, 3].tolist()


def test_a_map_of_probabilities_glows_as_strongly_as_others():
    low, *_, high = alphas(np.linspace(0.2, 0.75, 60))
    assert low <= 10
    assert high == 210
    assert set(alphas([1.0] * 8)) == {210}
    assert set(alphas([0.0] * 8)) == {0}
    assert max(alphas([0.4] * 8)) < 60  # nothing stands out


def test_mask_layers_bear_the_classes_colours_and_veil_what_is_open(drawing):
    drawing.add("a", ["dog"], truth=True)
    facts = read_facts(drawing.run())
    (card,) = cards(facts, facts.catalog, {}, 10**6)
    truth = np.asarray(opened(card.panels[-1].layer).convert("RGBA"))
    assert truth[20, 30].tolist() == [*colour(2), 135]
    assert truth[20, 5].tolist()[:3] == list(colour(2))
    assert truth[39, 30].tolist() == [*colour(2), 255]
    assert truth[0, 0].tolist() == [150, 160, 165, 140]
    assert truth[5, 5, 3] == 0
    assert card.tags == (("dog", f"#{bytes(colour(2)).hex()}"),)


def test_the_first_colours_differ(drawing):
    first = np.array([colour(k) for k in range(12)], float)
    distances = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e3 * np.eye(12)
    assert distances.min() > 40


def test_large_photos_become_small(drawing):
    drawing.add("a", ["cow"])
    Image.effect_noise((3000, 1500), 60).convert("RGB").save(drawing.samples[0].image)
    facts = read_facts(drawing.run(until="classify"))
    (card,) = cards(facts, facts.catalog, {}, 10**6)
    assert (card.width, card.height) == (480, 240)


def test_cards_stay_within_their_budget_and_leave_out_what_cannot_be_read(drawing):
    for k in range(8):
        drawing.add(f"{k}", ["cow"])
    facts = read_facts(drawing.run())
    everything = list(cards(facts, facts.catalog, {}, 10**9))
    budget = sum(card.bytes for card in everything[:3]) + 10
    assert list(cards(facts, facts.catalog, {}, budget)) == everything[:3]
    drawing.samples[0].image.unlink()
    drawing.samples[1].image.write_bytes(b"no image")
    assert [card.id for card in cards(facts, facts.catalog, {}, 10**9)] == list("234567")


@pytest.mark.parametrize("stage", ["segment", "validate"])
def test_seeds_and_predictions_are_shown_where_there_are_some(drawing, stage):
    drawing.add("a", ["cow"])
    run = drawing.run()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("kind: none", "kind: irn"))  # it makes seeds
    for name in ("seeds", stage):
        (run / name).mkdir()
        for file in ("fingerprint.json", "done.json"):
            (run / name / file).write_bytes((run / "cams" / file).read_bytes())
        Image.fromarray(np.full((48, 64), 255 if name == "seeds" else 1, np.uint8)).save(
            run / name / "a.png"
        )
    facts = read_facts(run)
    (card,) = cards(facts, facts.catalog, {}, 10**6)
    told = {panel.title: panel.told for panel in card.panels}
    assert told["seeds"] == "seeds: open 100 %"
    assert told["prediction"] == "prediction: cat 100 %"
