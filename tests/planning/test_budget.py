import pytest

from weakseg.config.layers import assemble
from weakseg.config.run_config import RunConfig
from weakseg.planning.budget import fitted
from weakseg.planning.choices import as_layer
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.make_plan import plan_of, rule_choices
from weakseg.types import Catalog, ConfigError


@pytest.fixture
def facts():
    return DataFacts(
        images=400,
        classes=2,
        counts=(200, 200),
        tags=400,
        untagged=0,
        long_side=500,
        short_side=375,
    )


def config(choices):
    return assemble(RunConfig, [as_layer(choices, "test")])


def test_what_fits_stays(facts):
    choices = rule_choices(facts, 448, "")
    assert fitted(choices, facts, 10, lambda _: 10.0) == (choices, [])


def test_what_costs_quality_least_goes_first(facts, costs):
    choices = rule_choices(facts, 448, "")

    def expected(some):
        return plan_of(some, facts, costs, Catalog((), ())).minutes

    before = expected(choices)
    seen = []
    for minutes in (0.99 * before, 0.5 * before, 0.1 * before):
        now, cut = fitted(choices, facts, minutes, expected)
        assert expected(now) <= minutes
        assert cut[0] == "maps are spread at one scale"
        seen.append((len(cut), config(now)))
    assert [count for count, _ in seen] == sorted({count for count, _ in seen})
    first, last = seen[0][1], seen[-1][1]
    assert first.spread.scales == (1.0,)
    assert first.fit.steps == config(choices).fit.steps
    assert last.cams.long_side < 448
    assert last.augment.crop < config(choices).augment.crop
    assert last.fit.steps == last.fit.least_steps < config(choices).fit.steps
    why = {own.setting: own.why for own in now}
    assert why["cams.long_side"] == f"to fit {minutes:g} minutes"


def test_where_nothing_fits_the_shortest_is_told(facts):
    choices = rule_choices(facts, 448, "")
    with pytest.raises(ConfigError, match=r"no plan fits 2 minutes: .* about 7\.5 .*--minutes 9"):
        fitted(choices, facts, 2, lambda _: 7.5)


def test_each_cut_is_told_once_and_small_images_are_not_cut(facts):
    small = facts.model_copy(update={"long_side": 200, "short_side": 200})
    choices = rule_choices(small, 224, "")
    with pytest.raises(ConfigError):
        fitted(choices, small, 1, lambda _: 2.0)
    seen = []

    def expected(some):
        seen.append(config(some))
        return 1.0 if len(seen) == 6 else 3.0

    now, cut = fitted(choices, small, 2, expected)
    assert cut == [
        "maps are spread at one scale",
        "maps are taken at one scale",
        "three quarters of the steps",
        "half of the steps",
        "a quarter of the steps",
    ]
    assert config(now).cams.long_side == 224
    assert config(now).fit.steps == config(choices).fit.steps // 4
