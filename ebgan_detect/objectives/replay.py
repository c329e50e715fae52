"""A store of earlier generator samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ReplayBuffer"]


class ReplayBuffer(nn.Module):
    """Ring of the latest generated rows, kept on the device and outside saved models.

    Negatives drawn from it stay a broad mixture of what the generator has made so far,
    rather than only of what it makes now.

    Parameters
    ----------
    capacity : int
        Number of rows kept, >= 1.
    input_shape : tuple of int
        Shape of one row.
    """

    n_stored: Tensor
    _allocated: Tensor

    def __init__(self, capacity: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("_allocated", torch.empty(0, *input_shape), persistent=False)
        self.register_buffer("n_stored", torch.zeros(1, dtype=torch.int64), persistent=False)

    def __reduce__(self) -> tuple[type[ReplayBuffer], tuple[int, tuple[int, ...]]]:
        """Copies and pickles start empty: the rows belong to one training."""
        return ReplayBuffer, (self.capacity, tuple(self._allocated.shape[1:]))

    @property
    def rows(self) -> Tensor:
        """The ring, allocated when first used: scoring needs none.

        Returns
        -------
        Tensor of shape (capacity, ...)
            Stored rows; zeros where none is stored yet.
        """
        if len(self._allocated) < self.capacity:
            self._allocated = self._allocated.new_zeros(self.capacity, *self._allocated.shape[1:])
        return self._allocated

    def extend(self, batch: Tensor) -> None:
        """Store rows, overwriting the oldest.

        Parameters
        ----------
        batch : Tensor of shape (n, ...)
            New rows; of more than the capacity, the last ones are kept.
        """
        batch = batch[-self.capacity :]
        slots = torch.arange(len(batch), device=batch.device).add_(self.n_stored)
        self.rows.index_copy_(0, slots.remainder_(self.capacity), batch)
        self.n_stored.add_(len(batch))

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw stored rows, with replacement.

        Parameters
        ----------
        n : int
            Number of rows.
        rng : Generator
            Source of randomness, on the same device.

        Returns
        -------
        Tensor of shape (n, ...)
            Stored rows; zeros as long as nothing is stored.
        """
        share = torch.rand(n, generator=rng, device=self.n_stored.device, dtype=torch.float64)
        n_kept = self.n_stored.clamp(max=self.capacity)
        return self.rows.index_select(0, share.mul_(n_kept).long())
