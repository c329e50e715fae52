"""Scaler and members as one module: raw rows in, energies out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ebgan_detect.complexity import Complexity
from ebgan_detect.data import Rows
from ebgan_detect.objectives import Objective
from ebgan_detect.scaling import Scaler
from ebgan_detect.torch_state import full_precision

__all__ = ["EnergyModel"]

ELEMENTS_IN_CHUNK = 2**18
"""Input values scored at a time on a CPU; activations take some tens of bytes for each."""
IMAGES_IN_CHUNK = 64
ROWS_IN_BLOCK = 32
"""Matrix kernels round a row alike in every batch that is a multiple of this."""


class EnergyModel(nn.Module):
    """What scores rows: the fitted scaling, the mean over trained members, relative to complexity.

    Parameters
    ----------
    scaler : Scaler
        Input scaling.
    members : sequence of Objective
        Trained games, one or more.
    input_shape : tuple of int
        Shape of one row as the user gives it: ``(d,)``, ``(h, w)`` or ``(c, h, w)``.
    complexity : Complexity, optional
        What energies of images are relative to.
    """

    def __init__(
        self,
        scaler: Scaler,
        members: Sequence[Objective],
        input_shape: tuple[int, ...],
        complexity: Complexity | None = None,
    ) -> None:
        super().__init__()
        self.scaler = scaler
        self.complexity = complexity
        self.members = nn.ModuleList(members)
        self.input_shape = input_shape
        self.network_shape = network_shape(input_shape)

    def scale(self, x: Tensor) -> Tensor:
        """Scale raw rows and give them the shape that the networks take.

        Parameters
        ----------
        x : Tensor of shape (n, *input_shape)
            Raw rows of any real dtype.

        Returns
        -------
        Tensor of shape (n, *network_shape), float32
            Scaled rows.
        """
        scaled: Tensor = self.scaler(x)
        return scaled.reshape(-1, *self.network_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Energy of raw rows.

        Parameters
        ----------
        x : Tensor of shape (n, *input_shape)
            Raw rows of any real dtype.

        Returns
        -------
        Tensor of shape (n,), float64
            Mean of the members' energies, relative to the row's complexity where there is one;
            +inf where float32 overflows on the way.
        """
        energy = self.relative_energy(self.scale(x), "energy")
        return energy.nan_to_num(nan=torch.inf, posinf=torch.inf)

    def energy_map(self, x: Tensor) -> Tensor:
        """Energy of raw rows, split over features.

        Parameters
        ----------
        x : Tensor of shape (n, *input_shape)
            Raw rows.

        Returns
        -------
        Tensor of shape (n, *input_shape), float64
            Its mean over a row is that row's energy; nan where float32 overflows on the way.
        """
        return self.relative_energy(self.scale(x), "energy_map").reshape(-1, *self.input_shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the members make of raw rows, on average, in the input's unit.

        Parameters
        ----------
        x : Tensor of shape (n, *input_shape)
            Raw rows.

        Returns
        -------
        Tensor of shape (n, *input_shape), float64
            Mean reconstruction.
        """
        mean = self.mean_over_members(self.scale(x), "reconstruct")
        return self.scaler.inverse(mean.reshape(-1, *self.input_shape))

    def draw_latents(self, n: int, seed: int) -> list[Tensor]:
        """Draw generator inputs, divided evenly among the members.

        Parameters
        ----------
        n : int
            Number of rows in all.
        seed : int
            Seed of the draw.

        Returns
        -------
        list of Tensor of shape (n_member, latent_dim), float32
            One entry for each member, on the CPU; empty ones where there are more members
            than rows.
        """
        device = self.scaler.scale.device
        rng = torch.Generator(device).manual_seed(seed)
        count = len(self.members)
        return [
            game.draw_latents(len(range(k, n, count)), rng, device).cpu()
            for k, game in enumerate(self.games())
        ]

    def generate(self, latents: Tensor, member: int) -> Tensor:
        """What one member's generator makes of latents.

        Parameters
        ----------
        latents : Tensor of shape (n, latent_dim)
            Generator inputs of any real dtype.
        member : int
            Number of the member.

        Returns
        -------
        Tensor of shape (n, *input_shape), float64
            Generated rows in the input's unit.
        """
        rows = self.games()[member].generate(latents.float())
        return self.scaler.inverse(rows.reshape(-1, *self.input_shape))

    def games(self) -> list[Objective]:
        """The members, typed.

        Returns
        -------
        list of Objective
            In order.
        """
        return [member for member in self.members if isinstance(member, Objective)]

    def relative_energy(self, scaled: Tensor, method: str) -> Tensor:
        """Average energies, or their maps, over the members, relative to the rows' complexity.

        Parameters
        ----------
        scaled : Tensor of shape (n, *network_shape), float32
            Scaled rows.
        method : {'energy', 'energy_map'}
            Name of the members' method.

        Returns
        -------
        Tensor of shape (n,) or (n, *network_shape), float64
            The mean; nan where float32 overflows on the way.
        """
        mean = self.mean_over_members(scaled, method)
        if self.complexity is None:
            return mean
        factor: Tensor = self.complexity(scaled)
        return mean * factor.reshape(-1, *[1] * (mean.ndim - 1))

    def mean_over_members(self, scaled: Tensor, method: str) -> Tensor:
        """Average one method of every member, in float64.

        Parameters
        ----------
        scaled : Tensor of shape (n, *network_shape), float32
            Scaled rows.
        method : str
            Name of the method.

        Returns
        -------
        Tensor, float64
            The mean.
        """
        first, *others = (getattr(member, method) for member in self.members)
        total: Tensor = first(scaled).double()
        for other in others:
            total = total + other(scaled)
        return total / len(self.members) if others else total

    def chunk_rows(self, device: torch.device) -> int:
        """Rows to score at a time, so that memory stays bounded.

        Parameters
        ----------
        device : device
            Where scoring runs; a GPU takes larger chunks.

        Returns
        -------
        int
            Number of rows, >= 1.
        """
        size = math.prod(self.input_shape)
        if len(self.input_shape) > 1:
            more = 16 if device.type == "cuda" else 1
            return max(1, min(more * ELEMENTS_IN_CHUNK // size, more * IMAGES_IN_CHUNK))
        more = 64 if device.type == "cuda" else 1
        return max(1, more * ELEMENTS_IN_CHUNK // size // ROWS_IN_BLOCK) * ROWS_IN_BLOCK

    def stream(
        self,
        rows: Rows,
        function: Callable[[Tensor], Tensor],
        device: torch.device,
        numbers: NDArray[np.intp] | None = None,
    ) -> Iterator[Tensor]:
        """Apply a function of raw rows, or of latents, to a whole input, chunk by chunk.

        Short chunks are filled up and the surplus is cut off again: kernels round differently
        for different batch sizes, and a row's energy must not depend on its company.

        Parameters
        ----------
        rows : Rows
            The input.
        function : callable
            A method of this model.
        device : device
            Where to compute.
        numbers : ndarray of int, optional
            Row numbers; all rows when absent.

        Returns
        -------
        iterator of Tensor
            Results of consecutive chunks, on the CPU.
        """
        with torch.inference_mode(mode=False):  # weights moved in it could not train any more
            self.eval().to(device)
        return self._stream(rows, function, device, numbers)

    @torch.inference_mode()
    def _stream(
        self,
        rows: Rows,
        function: Callable[[Tensor], Tensor],
        device: torch.device,
        numbers: NDArray[np.intp] | None,
    ) -> Iterator[Tensor]:
        """What `stream` yields, the model being in place."""
        size = self.chunk_rows(device)
        block = size if len(self.input_shape) > 1 else ROWS_IN_BLOCK
        for chunk in rows.tensors(size, device, numbers):
            n = len(chunk)
            if n % block:
                surplus = chunk.new_zeros(block - n % block, *chunk.shape[1:])
                chunk = torch.cat([chunk, surplus])
            with full_precision(device):
                answers = function(chunk)[:n].cpu()
            yield answers

    def portable(self) -> EnergyModel:
        """Copy for another process: on the CPU, with empty optimisers and replay.

        Returns
        -------
        EnergyModel
            Scores like this one.
        """
        return copy.deepcopy(self).cpu()


def network_shape(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one row as networks take it: grey images get their channel axis.

    Parameters
    ----------
    input_shape : tuple of int
        ``(d,)``, ``(h, w)`` or ``(c, h, w)``.

    Returns
    -------
    tuple of int
        ``(d,)`` or ``(c, h, w)``.
    """
    return (1, *input_shape) if len(input_shape) == 2 else input_shape
