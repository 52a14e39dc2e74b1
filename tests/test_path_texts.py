"""Paths that very many objects hold."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from weakseg.types import Catalog, Sample

SAMPLE = Sample("cats/1", Path("photos/cats/1.jpg"), frozenset({0}))


def test_fields_are_paths_and_take_none():
    assert SAMPLE.image == Path("photos/cats/1.jpg")
    assert SAMPLE.mask is None
    with_mask = replace(SAMPLE, mask=Path("masks/1.png"))
    assert (with_mask.mask, with_mask.image) == (Path("masks/1.png"), SAMPLE.image)
    assert with_mask != SAMPLE
    assert "photos" in repr(SAMPLE)


def test_a_path_is_required():
    with pytest.raises(TypeError, match="image"):
        Sample("1", tags=frozenset())  # type: ignore[call-arg]


def test_samples_are_frozen_and_survive_copies():
    with pytest.raises(FrozenInstanceError):
        SAMPLE.image = Path("other.jpg")  # type: ignore[misc]
    for other in (pickle.loads(pickle.dumps(SAMPLE)), copy.deepcopy(SAMPLE)):
        assert other == SAMPLE
        assert hash(other) == hash(SAMPLE)


def test_a_catalog_finds_its_samples():
    catalog = Catalog(("cat",), (SAMPLE, replace(SAMPLE, id="cats/2")))
    assert catalog["cats/2"].id == "cats/2"
    with pytest.raises(KeyError):
        catalog["cats/3"]
