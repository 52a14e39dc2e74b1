import multiprocessing
import os
import signal

import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from weakseg.faults import FileError
from weakseg.models.backbones import BackboneSettings
from weakseg.processors import free_memory
from weakseg.runs.image_batches import image_batches
from weakseg.runs.outside_faults import outside_faults_told
from weakseg.training.fit import FitSettings
from weakseg.types import Catalog, RunError, Sample

NONE = Catalog((), ())


class Deadly(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
def test_a_killed_process_is_told_with_the_setting():
    with pytest.raises(RunError) as error, outside_faults_told("cams", NONE, "fit.workers"):
        list(DataLoader(Deadly(), num_workers=2))
    assert not multiprocessing.active_children()
    text = str(error.value)
    assert "stage 'cams': a process that reads images was ended" in text
    assert "--set fit.workers=1" in text
    assert "GB are free" in text or free_memory() is None
    assert "\n" not in text


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_want_of_memory_is_told(error):
    told = pytest.raises(RunError, match=r"not enough memory .*segment\.fit\.workers")
    with told, outside_faults_told("segment", NONE, "segment.fit.workers"):
        raise error


def test_images_that_were_fine_when_checked(tmp_path):
    catalog = Catalog((), (Sample("a", tmp_path / "a.jpg", frozenset()),))
    for name, remedy in {"a.jpg": "--skip-bad", "masks/a.png": "replace it"}.items():
        told = pytest.raises(FileError, match=remedy)
        with told as error, outside_faults_told("cams", catalog, "fit.workers"):
            raise FileError(tmp_path / name, "image_missing", "gone", "replace it")
        assert str(error.value).startswith(str(tmp_path / name))


def test_an_image_that_is_damaged_while_others_are_read(tmp_path):
    paths = [tmp_path / f"{k}.jpg" for k in range(4)]
    for path in paths:
        Image.effect_noise((96, 96), 60).convert("RGB").save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:-900])
    samples = [Sample(path.stem, path, frozenset()) for path in paths]
    batches = image_batches(
        samples,
        FitSettings(workers=1),
        BackboneSettings(),
        long_side=96,
        most=1,
        pixels=96 * 96,
    )
    with pytest.raises(FileError, match=r"2\.jpg: truncated or damaged"):
        list(batches)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no")])
def test_bugs_stay_bugs(error):
    with (
        pytest.raises(type(error), match=str(error)),
        outside_faults_told("cams", NONE, "fit.workers"),
    ):
        raise error


def test_a_process_that_ends_in_the_middle_of_a_batch():
    told = pytest.raises(RunError, match="a process that reads images was ended from outside")
    with told, outside_faults_told("cams", Catalog((), ()), "fit.workers"):
        raise ConnectionResetError(104, "Connection reset by peer")
