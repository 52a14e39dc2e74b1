import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from weakseg.data.loading import KeptErrors, collated, raised
from weakseg.faults import FileError


class Numbers(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3:
            raise FileError("a.jpg", "image_damaged", "truncated", "replace it")
        if index == 5:
            raise ValueError("a bug")
        return torch.tensor(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_arrive_as_they_were(workers):
    loader = DataLoader(
        KeptErrors(Numbers()), batch_size=2, num_workers=workers, collate_fn=collated
    )
    assert len(loader) == 3
    batches = raised(loader)
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(FileError) as error:
        next(batches)
    assert str(error.value) == "a.jpg: truncated; replace it"
    assert error.value.kind == "image_damaged"


def test_bugs_stay_bugs():
    with pytest.raises(ValueError, match="a bug"):
        list(raised(DataLoader(KeptErrors(Numbers()), sampler=[5], collate_fn=collated)))
