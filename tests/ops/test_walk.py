import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from weakseg.ops import walk
from weakseg.ops.affinity import displacements, pair_affinity
from weakseg.ops.walk import WalkSettings, power_series, random_walk, walked_scores

GOLDEN = Path(
    os.environ.get("WEAKSEG_GOLDEN", Path(__file__).parents[2] / ".." / "shared" / "golden")
)


def golden(pattern):
    found = sorted(GOLDEN.glob(pattern))
    if not found:
        reason = f"no {pattern} in {GOLDEN}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(file, id=file.stem) for file in found]


def dense_walk(cams, boundary, radius, beta, steps):
    k, h, w = cams.shape
    a = torch.eye(h * w, dtype=torch.float64)
    for plane, (dy, dx) in zip(
        pair_affinity(boundary.double(), radius), displacements(radius), strict=True
    ):
        for y in range(h):
            for x in range(w):
                if 0 <= y + dy < h and 0 <= x + dx < w:
                    i, j = y * w + x, (y + dy) * w + x + dx
                    a[i, j] = a[j, i] = plane[y, x] ** beta
    t = a / a.sum(0, keepdim=True)
    start = (cams.double() * (1 - boundary.double())).reshape(k, -1)
    return (start @ torch.linalg.matrix_power(t, steps)).reshape(k, h, w)


def scene(k, h, w, seed, sharpness=6):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(k, h, w, generator=generator),
        torch.rand(h, w, generator=generator) ** sharpness,
    )


@pytest.mark.parametrize("file", golden("random_walk*.npz"))
def test_walk_golden(file):
    case = np.load(file)
    walked = random_walk(
        torch.from_numpy(case["cam"]),
        torch.from_numpy(case["edge"]),
        radius=int(case["radius"]),
        beta=float(case["beta"]),
        steps=2 ** int(case["exp_times"]),
    )
    assert (walked - torch.from_numpy(case["walked"])).abs().max() < 1e-4


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 8, 37, 256, 1000])
def test_walk_is_the_dense_matrix_power(steps):
    cams, boundary = scene(3, 8, 8, seed=steps)
    expected = dense_walk(cams, boundary, 5, 10, steps)
    assert (random_walk(cams.double(), boundary, steps=steps) - expected).abs().max() < 1e-5
    assert (random_walk(cams, boundary, steps=steps) - expected).abs().max() < 1e-4


@settings(max_examples=20, deadline=None)
@given(
    h=st.integers(1, 10),
    w=st.integers(1, 10),
    radius=st.integers(2, 6),
    beta=st.sampled_from([1.0, 4.0, 10.0]),
    sharpness=st.sampled_from([0.3, 1.0, 8.0]),
    seed=st.integers(0, 10**6),
)
def test_walk_on_any_grid(h, w, radius, beta, sharpness, seed):
    cams, boundary = scene(2, h, w, seed, sharpness)
    expected = dense_walk(cams, boundary, radius, beta, 32)
    walked = random_walk(cams, boundary, radius=radius, beta=beta, steps=32)
    assert (walked - expected).abs().max() < 1e-4


def test_blocks_do_not_change_the_result(monkeypatch):
    cams, boundary = scene(3, 17, 13, seed=0)
    whole = random_walk(cams, boundary)
    monkeypatch.setattr(walk, "_BLOCK", 100)
    assert torch.equal(random_walk(cams, boundary), whole)


@pytest.mark.parametrize("gathered", [2**26, 1000])
@pytest.mark.parametrize(("h", "w", "radius"), [(17, 13, 5), (1, 1, 3), (2, 9, 6)])
def test_gpus_take_another_way_to_the_same_walk(monkeypatch, gathered, h, w, radius):
    cams, boundary = scene(3, h, w, seed=2)
    expected = dense_walk(cams, boundary, radius, 10, 256)
    monkeypatch.setattr(walk, "_recurrence", walk._GatheredRecurrence)
    monkeypatch.setattr(walk, "_GATHERED", gathered)
    assert (random_walk(cams, boundary, radius=radius) - expected).abs().max() < 1e-4


def test_classes_do_not_mix():
    cams, boundary = scene(4, 20, 30, seed=1)
    together = random_walk(cams, boundary)
    for k in range(4):
        torch.testing.assert_close(random_walk(cams[k : k + 1], boundary)[0], together[k])


def test_walls_stop_the_walk():
    cams = torch.zeros(1, 12, 21)
    cams[0, 6, 3] = 1
    boundary = torch.zeros(12, 21)
    boundary[:, 10] = 1
    walked = random_walk(cams, boundary)
    assert walked[0, :, :10].min() > 1e-3
    assert walked[0, :, 10:].abs().max() == 0


def flushes():
    return bool(torch.tensor(1e-40) * 1 == 0)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_left_as_found(before):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        torch.set_flush_denormal(before)
        random_walk(*scene(1, 8, 8, seed=0))
        assert flushes() == before
        with pytest.raises(ValueError, match="at least 2"):
            random_walk(*scene(1, 8, 8, seed=0), radius=0)
        assert flushes() == before
    finally:
        torch.set_flush_denormal(False)


def test_firm_boundaries_are_walked_right():
    cams = torch.zeros(1, 10, 30)
    cams[0, 3:6, 2:6] = 1
    boundary = (torch.arange(30) % 5 == 0).float().expand(10, 30) * 0.9999
    expected = dense_walk(cams, boundary, 5, 10, 64)
    assert (random_walk(cams, boundary, steps=64) - expected).abs().max() < 1e-4


def test_long_walk_becomes_the_weighted_mean_of_a_component():
    cams, boundary = (
        torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(2)),
        torch.zeros(6, 7),
    )
    columns = walk.transition(boundary, 5, 10).row_sums().view(6, 7)
    mean = (columns * cams[0]).sum() / columns.sum()
    walked = random_walk(cams, boundary, steps=4096)
    torch.testing.assert_close(walked[0], mean.expand(6, 7), rtol=1e-3, atol=0)


def test_scale_passes_through():
    cams, boundary = scene(2, 16, 16, seed=4)
    small = random_walk(cams * 1e-3, boundary)
    torch.testing.assert_close(small * 1e3, random_walk(cams, boundary), rtol=1e-3, atol=1e-5)


def test_half_precision_maps_are_walked_in_float32():
    cams, boundary = scene(2, 9, 9, seed=5)
    assert random_walk(cams.half(), boundary.half()).dtype == torch.float32
    torch.testing.assert_close(
        random_walk(cams.half(), boundary), random_walk(cams.half().float(), boundary)
    )


def test_arguments_are_not_changed():
    cams, boundary = scene(2, 9, 9, seed=6)
    before = cams.clone(), boundary.clone()
    random_walk(cams, boundary)
    random_walk(cams, boundary, steps=0).add_(1)
    assert torch.equal(cams, before[0])
    assert torch.equal(boundary, before[1])


def test_no_class_is_no_map():
    assert random_walk(torch.zeros(0, 5, 6), torch.zeros(5, 6)).shape == (0, 5, 6)


@pytest.mark.parametrize("steps", [0, 1, 5, 64, 256, 3000])
def test_power_series(steps):
    x = np.linspace(-1, 1, 2001)
    approximation = np.polynomial.chebyshev.chebval(x, power_series(steps))
    assert np.abs(approximation - x**steps).max() <= 1.1e-6
    assert len(power_series(steps)) - 1 <= min(steps, math.ceil(math.sqrt(29.1 * steps)) + 1)


def test_256_steps_cost_78_products():
    assert len(power_series(256)) - 1 == 78


@pytest.mark.parametrize(
    ("cams", "boundary", "options", "message"),
    [
        (torch.zeros(4, 4), torch.zeros(4, 4), {}, r"expected maps \[K,h,w\], got \(4, 4\)"),
        (torch.zeros(1, 4, 4), torch.zeros(4, 5), {}, r"got \(4, 5\)"),
        (torch.zeros(1, 4, 4), torch.full((4, 4), 3.0), {}, "apply a sigmoid"),
        (torch.zeros(1, 4, 4), torch.full((4, 4), math.nan), {}, "with NaN or infinity"),
        (torch.zeros(1, 4, 4), torch.zeros(4, 4), {"radius": 1}, "at least 2"),
        (torch.zeros(1, 4, 4), torch.zeros(4, 4), {"steps": -1}, "got steps -1"),
        (torch.zeros(1, 4, 4), torch.zeros(4, 4), {"beta": 0}, "beta 0"),
    ],
)
def test_wrong_arguments_are_explained(cams, boundary, options, message):
    with pytest.raises(ValueError, match=message):
        random_walk(cams, boundary, **options)


def test_settings_are_the_arguments_of_the_function():
    cams, boundary = scene(1, 8, 8, seed=7)
    chosen = WalkSettings(radius=3, beta=4, steps=16)
    expected = random_walk(cams, boundary, radius=3, beta=4, steps=16)
    assert torch.equal(
        random_walk(cams, boundary, **chosen.model_dump(exclude={"power", "background"})), expected
    )
    assert torch.equal(
        random_walk(cams, boundary, **WalkSettings().model_dump(exclude={"power", "background"})),
        random_walk(cams, boundary),
    )
    with pytest.raises(ValidationError):
        WalkSettings(stepz=3)


def test_the_background_walks_along_and_competes():
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(2, 12, 12, generator=generator)
    boundary = torch.rand(12, 12, generator=generator)
    settings = WalkSettings(steps=8, power=2.0)
    start = torch.cat([maps, 1 - maps.amax(dim=0, keepdim=True)]) ** 2
    walked = random_walk(start, boundary, steps=8)
    highest = walked[:2] / walked[:2].max()
    share = walked[:2] / walked.sum(dim=0)
    found = walked_scores(maps, boundary, settings)
    torch.testing.assert_close(found, (highest * share).sqrt())
    published = walked_scores(maps, boundary, settings.model_copy(update={"background": False}))
    torch.testing.assert_close(published, highest)


def test_little_stays_little_where_the_background_walks():
    weak = torch.full((1, 20, 20), 0.1)  # nothing is there: the maximum makes it all
    maximum, competing = (
        walked_scores(weak, torch.zeros(20, 20), WalkSettings(steps=16, background=background))
        for background in (False, True)
    )
    assert float(maximum.min()) > 0.9
    assert float(competing.max()) < 0.25


def test_scores_are_0_where_a_firm_boundary_is():
    boundary = torch.zeros(9, 9)
    boundary[:, 4] = 1
    found = walked_scores(torch.full((1, 9, 9), 0.8), boundary, WalkSettings(steps=4))
    assert bool(found.isfinite().all())
    assert float(found[0, :, 4].max()) == 0


def test_a_walk_keeps_no_gradients():
    maps = torch.rand(1, 6, 6, requires_grad=True)
    assert not random_walk(maps, torch.zeros(6, 6), steps=2).requires_grad
