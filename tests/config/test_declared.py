"""A stage reads what its row declares: anything else is an error, so that fingerprints are true."""

import pickle

import pytest

from weakseg.config.declared import UndeclaredSettingError, declared_settings
from weakseg.config.run_config import ENVIRONMENT, RunConfig, load_config
from weakseg.pipeline import STAGES, fingerprints
from weakseg.runs.review_dir import REVIEW
from weakseg.types import Catalog

CONFIG = load_config("fast")


def test_sections_single_settings_and_the_environment():
    settings = declared_settings(CONFIG, "masks", ["refine", "cams.xi"])
    assert settings.refine is CONFIG.refine
    assert settings.cams.xi == CONFIG.cams.xi
    assert (settings.seed, settings.device) == (CONFIG.seed, CONFIG.device)
    assert settings.fit.workers == CONFIG.fit.workers
    assert pickle.loads(pickle.dumps(settings)).cams.xi == CONFIG.cams.xi


@pytest.mark.parametrize("read", [lambda s: s.amr, lambda s: s.cams.scales, lambda s: s.fit.lr])
def test_others_are_refused_by_name(read):
    settings = declared_settings(CONFIG, "masks", ["refine", "cams.xi"])
    with pytest.raises(
        UndeclaredSettingError, match=r"stage 'masks' reads the setting '(amr|cams.scales|fit.lr)'"
    ):
        read(settings)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_what_is_declared_exists_and_counts(stage):
    dry = load_config("fast", overrides=["dry_run=2"])
    flat = dry.sections(tuple(RunConfig.model_fields))
    for name in stage.reads:
        assert any(key == name or key.startswith(f"{name}.") for key in flat), name
    # How much corrections count belongs to a fingerprint only where there are some.
    mine = CONFIG.sections([name for name in stage.reads if name != REVIEW])
    assert mine
    assert not ENVIRONMENT & mine.keys()
    prints = fingerprints(CONFIG, Catalog(("cat",), ()), STAGES, Catalog(("cat",), ()))
    assert mine.items() <= prints[stage.name].items()
