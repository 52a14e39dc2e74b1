import pytest

from weakseg.config.run_config import load_config
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.stage_costs import most_gigabytes, stage_costs, steps_of, total_minutes

ALL = ["classify", "cams", "spread", "weigh", "walk", "seeds", "masks", "segment", "evaluate"]


@pytest.fixture
def facts():
    return DataFacts(
        images=600, classes=3, counts=(200,) * 3, tags=600, untagged=0, long_side=128, short_side=96
    )


def minutes(config, facts, costs, stage):
    ((found),) = stage_costs(config, facts, costs, [stage])
    return found.minutes


SIZES = ("cams.long_side=128", "augment.crop=64", "segment.augment.crop=64", "cams.scales=[1.0]")


def test_a_training_takes_its_views_times_a_view(facts, costs):
    config = load_config("fast", overrides=[*SIZES, "fit.steps=100", "fit.epochs=9"])
    # 100 steps of 16 views of 0.1 s, read meanwhile by half a processor; 1.5 s for the start.
    expected = (1600 * (0.1 + 0.01 / 2) + 1.5) / 60
    assert minutes(config, facts, costs, "classify") == pytest.approx(expected, abs=0.01)


def test_views_cost_as_many_times_as_they_have_pixels(facts, costs):
    one, four = (
        minutes(load_config("fast", overrides=[f"augment.crop={crop}"]), facts, costs, "classify")
        for crop in (64, 128)
    )
    assert 3 < four / one < 4


def test_maps_cost_by_scale_and_mirror(facts, costs):
    def maps(*settings):
        config = load_config("fast", overrides=[*SIZES, *settings])
        return minutes(config, facts, costs, "cams")

    one = maps()
    assert one == pytest.approx((600 * (0.01 + 0.01 / 2) + 1.5) / 60, abs=0.01)
    assert maps("cams.mirror=false") < one < maps("cams.scales=[0.5,1.0,1.5]")
    assert maps("cams.long_side=256") > 2 * one


def test_time_grows_with_the_images(facts, costs):
    config = load_config("fast", overrides=SIZES)
    more = facts.model_copy(update={"images": 1200, "tags": 1200, "truth": 1200})
    few = {own.stage: own.minutes for own in stage_costs(config, facts, costs, ALL)}
    for own in stage_costs(config, more, costs, ALL):
        assert own.minutes > 1.5 * few[own.stage], own.stage


def test_readers_work_beside_an_accelerator(facts, costs):
    config = load_config("fast", overrides=[*SIZES, "fit.steps=100", "fit.epochs=9"])
    gpu = costs.model_copy(update={"device": "cuda", "processors": 3, "read_view": 0.4})
    # Two processes read: a view in 0.2 s, which the network waits for.
    expected = (1600 * 0.4 / 2 + 1.5) / 60
    assert minutes(config, facts, gpu, "classify") == pytest.approx(expected, abs=0.01)


def test_memory_is_that_of_a_piece(facts, costs):
    whole, halves = (
        stage_costs(
            load_config("fast", overrides=[*SIZES, f"fit.accumulate={n}"]),
            facts,
            costs,
            ["classify"],
        )
        for n in (1, 2)
    )
    assert most_gigabytes(whole) == pytest.approx(0.5 + 16 * 0.01)
    assert most_gigabytes(halves) == pytest.approx(0.5 + 8 * 0.01)


def test_sums(facts, costs):
    stages = stage_costs(load_config("fast"), facts, costs, ALL)
    assert total_minutes(stages) == pytest.approx(sum(s.minutes for s in stages), abs=0.06)
    assert total_minutes(()) == most_gigabytes(()) == 0


def test_steps_of():
    fit = load_config("fast").fit  # 5 epochs of 16
    assert steps_of(fit, 100) == 35
    assert steps_of(fit, 100, dry_run=2) == 2
    assert steps_of(fit.model_copy(update={"least_steps": 50, "steps": 50}), 100) == 50
    assert steps_of(fit, 0) == 5
