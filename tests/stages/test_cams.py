from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from weakseg.models.amr import AMR, AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.cams import CamSettings, normalized
from weakseg.runs.processes import Part, doing_part
from weakseg.stages.cams import MapNetwork, examples
from weakseg.training.device import Inference
from weakseg.types import Catalog, Sample

SETTINGS = CamSettings(scales=(0.5, 1.0))
TAGS = [(0, 2), (), (1,)]


def network(strength, compensation=True):
    torch.manual_seed(0)
    settings = AMRSettings(compensation=compensation, supervision="maps")
    model = AMR(3, BackboneSettings(), settings).eval()
    with torch.no_grad():
        for branch in (model.spotlight, model.compensation):
            if branch is not None:
                branch.head.weight.normal_().abs_().mul_(strength)
    return model


def images():
    torch.manual_seed(1)
    coarse = torch.rand(3, 3, 8, 12) * 255
    return torch.nn.functional.interpolate(coarse, (128, 192), mode="bicubic").clamp(0, 255).byte()


def maps(model, precision):
    names = ["spotlight"] if model.compensation is None else ["spotlight", "compensation"]
    own = MapNetwork(model, Inference("cpu", precision), [images()], names)
    return own.maps(images(), TAGS, SETTINGS)


@pytest.mark.parametrize("compensation", [False, True])
def test_bf16_gives_nearly_the_maps_of_float32(compensation):
    model = network(1.0, compensation)
    exact, quick = maps(model, "fp32"), maps(model, "bf16")
    assert len(exact) == len(quick) == 1 + compensation
    for a, b in zip(exact, quick, strict=True):
        assert 0 < float((normalized(a) - normalized(b)).abs().max()) < 1e-2


def test_probabilities_are_nearly_the_same_in_bf16():
    torch.manual_seed(0)
    model = AMR(3, BackboneSettings(), AMRSettings()).eval()
    with torch.no_grad():
        model.compensation.head.weight.normal_().mul_(0.05)
    for a, b in zip(maps(model, "fp32"), maps(model, "bf16"), strict=True):
        assert float((normalized(a) - normalized(b)).abs()[[0, 0, 2], [0, 2, 1]].max()) < 2e-2


def test_images_with_faint_tags_are_computed_in_float32():
    model = network(1e-4)
    for a, b in zip(maps(model, "fp32"), maps(model, "bf16"), strict=True):
        tagged = [0, 2]
        torch.testing.assert_close(a[tagged], b[tagged])  # the untagged one in bf16
        assert not torch.equal(a[1], b[1])


def test_examples_are_spread_and_always_the_same():
    def of(count):
        samples = (Sample(f"{n}", Path(f"/{n}.png"), frozenset({0})) for n in range(count))
        return SimpleNamespace(catalog=Catalog(("cat",), tuple(samples)))

    many = of(1000)
    assert examples(many) == examples(many)
    assert examples(many)[0] == many.catalog.samples[0]
    assert int(examples(many)[-1].id) > 900
    assert examples(of(5)) == list(of(5).catalog)


def test_a_part_of_the_images_has_the_examples_of_all():
    samples = tuple(Sample(f"{n}", Path(f"/{n}.png"), frozenset()) for n in range(100))
    with doing_part(Part(is_first=True)) as first:
        of_all = examples(SimpleNamespace(catalog=Catalog(("cat",), samples)))
    with doing_part(Part(stop=2, told=first.told)):
        assert examples(SimpleNamespace(catalog=Catalog(("cat",), samples[:2]))) == of_all
