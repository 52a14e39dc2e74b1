import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.config.layers import Layer
from weakseg.config.run_config import load_config
from weakseg.planning import size_trial, tag_trial
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.size_trial import (
    Trial,
    chance_of_no_gain,
    nothing_to_try,
    trial_seconds,
    tried_size,
    worth_it,
)
from weakseg.planning.tag_trial import parted, tag_scores, trial_settings, true_tags
from weakseg.types import Catalog, Sample


def facts(**more):
    known = {
        "images": 300,
        "classes": 3,
        "counts": (60, 100, 140),
        "tags": 300,
        "untagged": 0,
        "long_side": 500,
        "short_side": 375,
    }
    return DataFacts(**{**known, **more})


TAGS = torch.arange(60)[:, None] % 3 == torch.arange(3)
GUESSED = torch.rand(60, 3, generator=torch.Generator().manual_seed(1))
KNOWN = TAGS + 0.1 * GUESSED


def test_what_is_better_beyond_chance():
    assert chance_of_no_gain(KNOWN, GUESSED, TAGS) < 0.01
    assert chance_of_no_gain(GUESSED, KNOWN, TAGS) == 1
    assert chance_of_no_gain(KNOWN, KNOWN, TAGS) == 1  # the same is no gain


def test_the_cheaper_size_unless_the_dearer_is_better():
    cheap, dear = Trial(320, 16, GUESSED), Trial(448, 16, KNOWN)
    taken, why = worth_it([cheap, dear], TAGS)
    assert taken is dear
    assert "60 images held out" in why
    assert "100.0% at 448 pixels, which is more" in why
    noisy = Trial(448, 16, KNOWN + 1e-3 * GUESSED)
    taken, why = worth_it([Trial(320, 16, KNOWN), noisy, Trial(640, 8, GUESSED)], TAGS)
    assert taken.side == 320
    assert "not more beyond chance" in why
    assert "at 640 pixels at stride 8" in why


def test_the_best_of_three_need_not_be_the_largest():
    trials = [Trial(320, 16, GUESSED), Trial(448, 16, KNOWN), Trial(640, 16, GUESSED)]
    assert worth_it(trials, TAGS)[0].side == 448


def test_where_nothing_is_tried_it_is_said_why():
    assert nothing_to_try(facts(), []) == ""
    assert "no other size" in nothing_to_try(facts(long_side=300, short_side=200), [])
    assert "too few images" in nothing_to_try(facts(counts=(5, 20, 100)), [])
    given = Layer({"augment": {"crop": 64}}, "--set augment.crop=64")
    assert nothing_to_try(facts(), [given]) == "augment.crop is given"
    assert nothing_to_try(facts(), [Layer({"dry_run": 2}, "--steps")]) == "dry_run is given"
    assert nothing_to_try(facts(), [Layer({"augment": {"flip": 0}}, "")]) == ""


def test_larger_sizes_take_longer(costs):
    small, large = (trial_seconds(side, facts(), costs) for side in (320, 640))
    assert 3 < large / small < 5
    assert trial_seconds(320, facts(), costs, 8) > 2 * small


@pytest.fixture
def tried(monkeypatch):
    """Which sizes were tried, with the scores that each is to have; the second one is best."""
    found = []

    def scores(learnt, held, config, advance, *, rate):
        advance()
        found.append((config.cams.long_side, config.augment.crop, config.backbone.output_stride))
        tags = true_tags(held, len(learnt.classes))
        return tags.float() if len(found) > 1 else torch.rand(tags.shape)

    monkeypatch.setattr(size_trial, "tag_scores", scores)
    return found


def catalog(count=60):
    samples = (Sample(str(i), f"{i}.png", frozenset({i % 3})) for i in range(count))
    return Catalog(("a", "b", "c"), tuple(samples))


def test_all_sizes_are_tried_where_there_is_time(tried, costs):
    told = []
    trial, why = tried_size(
        catalog(), facts(), costs, [], seconds=1e6, progress=lambda *own: told.append(own)
    )
    assert (trial.side, trial.stride) == (448, 16)
    assert tried == [(320, 192, 16), (448, 256, 16), (448, 256, 8)]
    assert "which is more" in why
    assert [done for done, _ in told] == [1, 2, 3]


def test_a_training_that_diverged_tells_nothing_of_a_size(monkeypatch, costs):
    asked = []

    def scores(learnt, held, config, advance, *, rate):
        asked.append((config.cams.long_side, rate))
        tags = true_tags(held, len(learnt.classes)).float()
        return tags if rate < 1 or config.cams.long_side > 320 else torch.zeros(tags.shape)

    monkeypatch.setattr(size_trial, "tag_scores", scores)
    data = facts()
    needed = sum(trial_seconds(side, data, costs) for side in (320, 448))
    trial, _ = tried_size(catalog(), data, costs, [], seconds=needed + 1)
    assert asked == [(320, 1.0), (320, 0.5), (448, 1.0)]
    assert trial.side == 320


def test_a_size_for_which_there_is_no_time_is_not_tried(tried, costs):
    data = facts(long_side=1000, short_side=750)
    needed = [trial_seconds(side, data, costs) for side in (320, 448)]
    trial, _ = tried_size(catalog(), data, costs, [], seconds=sum(needed) + 1)
    assert trial.side == 448
    assert [side for side, _, _ in tried] == [320, 448]  # neither 640 nor the finer stride
    trial, why = tried_size(catalog(), data, costs, [], seconds=needed[0] + 1)
    assert trial is None
    assert why.startswith("to try two sizes takes more than")


def test_a_stride_that_is_given_is_not_tried(tried, costs):
    given = Layer({"backbone": {"output_stride": 32}}, "")
    trial, _ = tried_size(catalog(), facts(), costs, [given], seconds=1e6)
    assert trial.side == 448
    assert [stride for _, _, stride in tried] == [32, 32]


def test_a_fifth_of_each_kind_is_held_out():
    learnt, held = parted(catalog(60))
    assert (len(learnt), len(held)) == (48, 12)
    assert [sum(k in s.tags for s in held) for k in range(3)] == [4, 4, 4]
    assert not {s.id for s in held} & {s.id for s in learnt}
    assert parted(catalog(60))[1] == held


def test_the_short_training_warms_up_until_momentum_is_filled():
    fit = trial_settings()
    assert fit.steps == fit.least_steps == 220
    assert 1 - 0.9 ** (fit.warmup * fit.steps) >= 0.9
    assert fit.lr / fit.batch_size == pytest.approx(0.02 / 16)


def test_tags_are_scored_by_a_network_that_learnt(tmp_path, monkeypatch):
    samples = []
    for number in range(20):
        pixels = np.zeros((40, 48, 3), np.uint8)
        pixels[..., 0 if number % 2 else 2] = 200 + number
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        samples.append(Sample(f"{number}", tmp_path / f"{number}.png", frozenset({number % 2})))
    short = trial_settings().model_copy(update={"steps": 8, "least_steps": 8, "lr": 0.005})
    monkeypatch.setattr(tag_trial, "trial_settings", lambda: short)
    settings = (
        "augment.crop=32", "augment.long_side=[32, 48]", "cams.long_side=32", "fit.workers=0",
        "device=cpu", "precision=fp32",
    )  # fmt: skip
    config = load_config(overrides=settings)
    learnt, held = parted(Catalog(("blue", "red"), tuple(samples)))
    steps = []
    scores = tag_scores(learnt, held, config, lambda: steps.append(1))
    assert len(steps) == 8
    assert scores.shape == (4, 2)
    assert torch.equal(scores.argmax(dim=1), true_tags(held, 2).int().argmax(dim=1))
