import math

import pytest

from weakseg.config.layers import assemble
from weakseg.config.run_config import RunConfig
from weakseg.planning.choices import Choice, as_layer
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import TrainingCost
from weakseg.planning.machine_rules import machine_choices, pieces, readers
from weakseg.planning.make_plan import rule_choices
from weakseg.planning.size_rules import crop_of, sides_to_try, size_choices, usual_side
from weakseg.planning.training_rules import (
    classify_steps,
    passes_to_see,
    seen_share,
    segment_steps,
    settled_steps,
    step_choices,
)


def facts(images=400, shares=(0.2, 0.2, 0.2), long_side=500, short_side=375, **more):
    counts = tuple(sorted(round(share * images) for share in shares))
    return DataFacts(
        images=images,
        classes=len(shares),
        counts=counts,
        tags=sum(counts),
        untagged=0,
        long_side=long_side,
        short_side=short_side,
        **more,
    )


def of(choices, key):
    return {choice.setting: choice.value for choice in choices}[key]


def test_a_training_settles_when_momentum_is_filled_within_the_warm_up():
    steps = settled_steps(0.9, 0.05)
    assert 1 - 0.9 ** (0.05 * steps) >= 0.9
    assert 1 - 0.9 ** (0.05 * steps - 1) < 0.9
    assert settled_steps(0.9, 0.1) == steps / 2


@pytest.mark.parametrize("images", [5, 40, 75, 400])
def test_small_sets_are_not_trained_for_a_few_steps(images):
    chosen = step_choices(facts(images), 0.7, 0.4)
    assert of(chosen, "fit.steps") >= 440
    assert of(chosen, "segment.fit.steps") >= 440
    assert of(chosen, "relate.fit.steps") >= 200
    assert of(chosen, "recalibrate.fit.steps") >= 140


def test_rare_classes_are_met_as_often():
    usual, _ = classify_steps(facts(), 0.7)
    rare, why = classify_steps(facts(shares=(0.01, 0.01, 0.01)), 0.7)
    met = 1 - 0.99**16
    assert rare == math.ceil(440 / met) > 2 * usual
    assert "1% of the images" in why


def test_many_images_are_gone_through_until_nearly_all_was_shown():
    many, why = classify_steps(facts(10_000), 0.7)
    assert many == 2 * 10_000 / 16
    assert why.startswith("2 passes over 10000 images")
    assert segment_steps(facts(10_000), 0.4)[0] == 5 * 10_000 / 8


def test_steps_do_not_grow_beyond_what_images_of_one_kind_teach():
    assert classify_steps(facts(20_000), 0.7)[0] == classify_steps(facts(10**7), 0.7)[0]


def test_passes_to_see():
    assert passes_to_see(1.0) == 1
    assert passes_to_see(0.5) == 4  # 1 − 0.5⁴ = 94%, 1 − 0.5³ = 88%
    assert passes_to_see(0.9) == 1


def test_seen_share():
    assert seen_share(100, (100, 100), 1.0) == 1.0
    assert seen_share(100, (200, 200), 1.0) == 0.25
    assert seen_share(100, (200, 200), 2.0) == 0.5  # the short side fits
    assert 0.25 < seen_share(100, (100, 200), 1.0) < 1


def test_steps_are_what_is_trained():
    config = assemble(RunConfig, [as_layer(step_choices(facts(), 0.7, 0.4), "test")])
    for fit in (config.fit, config.recalibrate.fit, config.relate.fit, config.segment.fit):
        assert fit.passes(400) * -(-400 // fit.batch_size) >= fit.steps


def test_sides_to_try_are_no_larger_than_the_images():
    assert sides_to_try(facts(long_side=2000)) == (320, 448, 640)
    assert sides_to_try(facts(long_side=500)) == (320, 448)
    assert sides_to_try(facts(long_side=240, short_side=180)) == (256,)
    assert sides_to_try(facts(long_side=60, short_side=60)) == (224,)
    assert usual_side(facts(long_side=2000)) == 448
    assert usual_side(facts(long_side=400)) == 320


@pytest.mark.parametrize(
    ("side", "aspect", "crop"), [(448, 4 / 3, 256), (448, 2.0, 224), (256, 1.3, 160), (640, 1, 352)]
)
def test_a_view_is_a_third_of_an_image_and_within_it(side, aspect, crop):
    assert crop_of(side, aspect) == crop


def test_all_sizes_follow_from_one():
    config = assemble(RunConfig, [as_layer(size_choices(320, facts(), "why"), "test")])
    assert config.cams.long_side == config.segment.long_side == 320
    assert config.augment.long_side == config.relate.augment.long_side == (192, 320)
    assert config.segment.augment.long_side == (160, 640)
    assert config.augment.crop == config.segment.augment.crop == 192
    assert config.seeds.long_side == 250


def test_gray_images_keep_their_brightness():
    assert of(rule_choices(facts(gray=True), 320, ""), "segment.augment.color") == 0
    assert "segment.augment.color" not in {c.setting for c in rule_choices(facts(), 320, "")}


def test_batches_that_do_not_fit_are_cut():
    assert pieces(16, 10**8, 8 * 10**9) == 1
    assert pieces(16, 10**9, 8 * 10**9) == 4
    assert pieces(8, 10**12, 8 * 10**9, least=2) == 4
    assert pieces(16, 10**12, None) == 1


def test_batches_are_shared_by_all_processes(costs):
    chosen = machine_choices(costs, processes=3)
    assert of(chosen, "fit.batch_size") == 18
    assert of(chosen, "segment.fit.batch_size") == 9
    assemble(RunConfig, [as_layer(chosen, "test")])


def test_what_is_free_and_what_is_needed_is_told(costs):
    chosen = machine_choices(costs.model_copy(update={"free_bytes": 10**8}))
    assert of(chosen, "fit.accumulate") == 4
    why = {choice.setting: choice.why for choice in chosen}
    assert why["fit.accumulate"] == "4 images take 0.0 GB, and 0.1 GB are free"
    assert "float32" in why["precision"]


def test_more_readers_only_where_they_are_needed_and_there():
    training = TrainingCost(seconds=0.001, bytes=1)
    assert readers(0.0005, training, 2)[0] is None
    assert readers(0.004, training, 16)[0] is None  # 8 is the default
    assert readers(0.02, training, 16)[0] == 15
    assert readers(0.012, training, 16)[0] == 12
    workers, why = readers(0.02, training, 4)
    assert workers is None
    assert "smaller files would help" in why


def test_of_each_setting_the_last_choice_counts():
    layer = as_layer([Choice("fit.lr", 1, ""), Choice("fit.lr", 2, ""), Choice("seed", 3, "")], "x")
    assert layer.values == {"fit": {"lr": 2}, "seed": 3}
