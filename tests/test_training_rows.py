"""Training rows on the device, or read as they are needed."""

import numpy as np
import pytest
import torch

from ebgan_detect.data import as_rows
from ebgan_detect.training import ResidentRows, StreamedRows, training_rows
from ebgan_detect.training import rows as rows_module

CPU = torch.device("cpu")


def double(x):
    return (2 * x.double()).float()


def with_channel(x):
    return x.float().reshape(len(x), 1, *x.shape[1:])


@pytest.mark.parametrize("transform", [double, with_channel])
@pytest.mark.parametrize("kind", ["array", "tensor", "uint16", "dataset", "map"])
def test_streamed_rows_equal_resident_rows(kind, transform, monkeypatch, np_rng, tmp_path):
    x = np_rng.integers(0, 100, size=(20, 4, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    source = {
        "array": lambda: x,
        "tensor": lambda: torch.from_numpy(x),
        "uint16": lambda: x.astype(np.uint16),
        "dataset": lambda: torch.utils.data.TensorDataset(torch.from_numpy(x)),
        "map": lambda: np.load(tmp_path / "x.npy", mmap_mode="r"),
    }[kind]()
    numbers = np.array([1, 4, 5, 9, 13, 19])
    rows = as_rows(source)
    resident = training_rows(rows, numbers, transform, CPU, chunk_rows=4)
    monkeypatch.setattr(rows_module, "RESIDENT_BYTES", 4 * 6 * 20 - 1)
    streamed = training_rows(rows, numbers, transform, CPU, chunk_rows=4)
    assert isinstance(resident, ResidentRows)
    assert isinstance(streamed, StreamedRows)
    assert len(resident) == len(streamed) == 6
    for drawn in (resident, streamed):
        assert torch.equal(drawn.placed(torch.arange(3)), torch.arange(3))
    expected = transform(torch.from_numpy(x))
    for indices in (torch.arange(6), torch.tensor([5, 0, 5]), torch.tensor([2])):
        batch = resident.take(indices)
        assert batch.dtype == torch.float32
        assert torch.equal(batch, streamed.take(indices))
        assert torch.equal(batch, expected[numbers[indices.numpy()]])


def test_training_rows_stay_resident_up_to_the_limit(monkeypatch):
    rows = as_rows(np.zeros((10, 3)))
    monkeypatch.setattr(rows_module, "RESIDENT_BYTES", 4 * 10 * 3)
    assert isinstance(
        training_rows(rows, np.arange(10), torch.Tensor.float, CPU, chunk_rows=4), ResidentRows
    )


def test_training_rows_never_change_their_input(np_rng):
    x = np_rng.normal(size=(12, 3)).astype(np.float32)
    before = x.copy()
    # A transform without arithmetic returns memory of the input itself.
    resident = training_rows(as_rows(x), np.arange(12), torch.Tensor.float, CPU, chunk_rows=4)
    resident.scaled.zero_()
    assert isinstance(resident, ResidentRows)
    np.testing.assert_array_equal(x, before)
    batch = ResidentRows(torch.from_numpy(x)).take(torch.arange(12))
    batch.zero_()
    np.testing.assert_array_equal(x, before)


def test_streamed_rows_are_looked_up_without_waiting_for_the_device():
    class Elsewhere:
        """Row numbers that live on a device: reading them there makes the host wait."""

        def cpu(self):
            return torch.arange(4)

    drawn = StreamedRows(as_rows(np.eye(4)), np.arange(4), torch.Tensor.float, CPU)
    placed = drawn.placed(Elsewhere())
    assert placed.device == CPU
    assert torch.equal(drawn.take(placed[:2]), torch.eye(4)[:2])
