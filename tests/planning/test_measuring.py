import numpy as np
import pytest
from PIL import Image

from weakseg.config.run_config import load_config
from weakseg.planning.data_facts import DataFacts
from weakseg.planning.machine_costs import TrainingCost
from weakseg.planning.measuring import MEASUREMENTS, measured_costs
from weakseg.types import Catalog, Sample

SETTINGS = (
    "backbone.name=resnet18", "backbone.weights=none", "augment.crop=64", "augment.long_side=[64, 64]",
    "cams.long_side=64", "seeds.long_side=32", "device=cpu", "walk.steps=4", "seeds.crf.iterations=1",
)  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_kinds_of_work_are_measured(tmp_path, precision):
    samples = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(str(number), path, frozenset({number % 2})))
    catalog = Catalog(("cat", "dog"), tuple(samples))
    advanced = []
    costs = measured_costs(
        catalog,
        DataFacts.of(catalog),
        load_config(overrides=[*SETTINGS, f"precision={precision}"]),
        seconds=0.0,
        advance=lambda: advanced.append(1),
    )
    assert costs.bf16 == (precision == "bf16")
    assert len(advanced) == MEASUREMENTS - (not costs.bf16)
    assert (costs.device, costs.crop, costs.pixels) == ("cpu", 64, 64 * 64)
    assert costs.crf_pixels == 32 * 24
    for name, value in costs:
        if isinstance(value, TrainingCost):
            assert value.seconds > 0, name
            assert value.bytes > 64 * 64 * 3, name  # more than the view itself
        elif isinstance(value, float):
            assert value > 0, name
