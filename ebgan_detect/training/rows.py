"""What the loop draws its batches from: rows on the device, or read as they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from ebgan_detect.data import Rows, to_tensor

__all__ = ["ResidentRows", "StreamedRows", "TrainingRows", "training_rows"]

RESIDENT_BYTES = 4 * 2**30
"""Training rows up to this size live in a CPU's memory; a GPU takes half of what is free."""

Transform = Callable[[Tensor], Tensor]


class TrainingRows(Protocol):
    """What the training loop draws its batches from."""

    def __len__(self) -> int: ...

    def placed(self, indices: Tensor) -> Tensor:
        """Row numbers where `take` looks them up, lest every batch move its own.

        Parameters
        ----------
        indices : Tensor of shape (n_indices,), int64
            Row numbers.

        Returns
        -------
        Tensor of shape (n_indices,), int64
            The same, on the device or on the CPU.
        """
        ...

    def take(self, indices: Tensor) -> Tensor:
        """Batch of the given rows, scaled, float32, on the device.

        Parameters
        ----------
        indices : Tensor of shape (n_batch,), int64
            Row numbers.

        Returns
        -------
        Tensor of shape (n_batch, ...), float32
            The rows.
        """
        ...


class ResidentRows(TrainingRows):
    """Scaled training rows that live on the device: a batch is one index lookup.

    Parameters
    ----------
    scaled : Tensor of shape (n, ...), float32
        All rows.
    """

    def __init__(self, scaled: Tensor) -> None:
        self.scaled = scaled

    @override
    def __len__(self) -> int:
        return len(self.scaled)

    @override
    def placed(self, indices: Tensor) -> Tensor:
        return indices.to(self.scaled.device)

    @override
    def take(self, indices: Tensor) -> Tensor:
        return self.scaled.index_select(0, indices)


class StreamedRows(TrainingRows):
    """Training rows too large for the device, read and scaled batch by batch.

    Parameters
    ----------
    rows : Rows
        The whole input.
    numbers : ndarray of int
        Which of its rows train.
    transform : callable
        From a raw batch on the device to a scaled float32 one.
    device : device
        Where batches go.
    """

    def __init__(
        self, rows: Rows, numbers: NDArray[np.intp], transform: Transform, device: torch.device
    ) -> None:
        self.rows = rows
        self.numbers = numbers
        self.transform = transform
        self.device = device

    @override
    def __len__(self) -> int:
        return len(self.numbers)

    @override
    def placed(self, indices: Tensor) -> Tensor:
        return indices.cpu()  # where rows are read: no batch then waits for the device

    @override
    def take(self, indices: Tensor) -> Tensor:
        chunk = self.rows.read(self.numbers[indices.cpu().numpy()])
        return self.transform(to_tensor(chunk, self.device))


def training_rows(
    rows: Rows,
    numbers: NDArray[np.intp],
    transform: Transform,
    device: torch.device,
    *,
    chunk_rows: int,
) -> TrainingRows:
    """Scale the training rows once onto the device if they fit there, else batch by batch.

    Parameters
    ----------
    rows : Rows
        The whole input.
    numbers : ndarray of int
        Which of its rows train.
    transform : callable
        From a raw chunk on the device to a scaled float32 one.
    device : device
        Where training runs.
    chunk_rows : int
        Rows to read at a time.

    Returns
    -------
    TrainingRows
        Resident or streamed rows.
    """
    limit = RESIDENT_BYTES
    if device.type == "cuda":
        limit = torch.cuda.mem_get_info(device)[0] // 2
    if 4 * len(numbers) * math.prod(rows.shape[1:]) > limit:
        return StreamedRows(rows, numbers, transform, device)
    shape = transform(to_tensor(rows.read(numbers[:1]), device)).shape[1:]
    layout = torch.channels_last if len(shape) == 3 else torch.contiguous_format
    resident = torch.empty((len(numbers), *shape), device=device, memory_format=layout)
    start = 0
    for chunk in rows.tensors(chunk_rows, device, numbers):
        resident[start : start + len(chunk)] = transform(chunk)
        start += len(chunk)
    return ResidentRows(resident)
