"""Exports with images are sources again: the same tags and the same masks."""

import numpy as np
import pytest

from weakseg import open_catalog
from weakseg.data.truth import true_mask


@pytest.mark.parametrize(
    ("to", "options"),
    [("voc", {}), ("yolo-seg", {}), ("labelme", {}), ("png", {"layout": "mmseg"})],
)
def test_what_is_exported_is_read(finished, to, options):
    out = finished.export(to, **options).path
    catalog = open_catalog(out)
    assert set(catalog.classes) == set(finished.classes)
    names = {name: index for index, name in enumerate(finished.classes, start=1)}
    found = {}
    for sample in catalog:
        own = true_mask(sample, catalog.classes)
        labels = np.zeros_like(own)
        for index, name in enumerate(catalog.classes, start=1):
            labels[own == index] = names[name]
        found[sample.id.removeprefix("train/")] = labels
    for key in finished.keys:
        np.testing.assert_array_equal(found[key], finished.labels(key))
