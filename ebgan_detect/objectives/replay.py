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

    rows: Tensor
    n_stored: Tensor

    def __init__(self, capacity: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(capacity, *input_shape), persistent=False)
        self.register_buffer("n_stored", torch.zeros(1, dtype=torch.int64), persistent=False)

    def __reduce__(self) -> tuple[type[ReplayBuffer], tuple[int, tuple[int, ...]]]:
        """Copies and pickles start empty: the rows belong to one training."""
        return ReplayBuffer, (len(self.rows), tuple(self.rows.shape[1:]))

    def extend(self, batch: Tensor) -> None:
        """Store rows, overwriting the oldest.

        Parameters
        ----------
        batch : Tensor of shape (n, ...)
            New rows; of more than the capacity, the last ones are kept.
        """
        capacity = len(self.rows)
        batch = batch[-capacity:]
        slots = torch.arange(len(batch), device=batch.device).add_(self.n_stored)
        self.rows.index_copy_(0, slots.remainder_(capacity), batch)
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
        share = torch.rand(n, generator=rng, device=self.rows.device, dtype=torch.float64)
        n_kept = self.n_stored.clamp(max=len(self.rows))
        return self.rows.index_select(0, share.mul_(n_kept).long())
