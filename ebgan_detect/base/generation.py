"""What a detector with a generator can make."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ebgan_detect.base.scoring import ScoringDetector
from ebgan_detect.data import Rows, as_rows
from ebgan_detect.errors import InvalidInputError, InvalidParameterError
from ebgan_detect.parameters import check_parameters, integer, seed
from ebgan_detect.randomness import random_source
from ebgan_detect.torch_state import usual_defaults
from ebgan_detect.training import resolve_device

__all__ = ["GenerationMixin"]


class GenerationMixin(ScoringDetector):
    """Adds rows made by the generator."""

    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> NDArray[np.float64]:
        """Draw rows from the generator.

        Parameters
        ----------
        n_samples : int
            Number of rows, >= 1, divided evenly among the members: first those of member 0.
        random_state : int, RandomState or None
            Seed of the draw; None draws anew each time.

        Returns
        -------
        ndarray of shape (n_samples, *input_shape_), float64
            Generated rows [fitted unit].

        Raises
        ------
        InvalidParameterError
            If `n_samples` is below 1, or the detector has no generator.
        """
        drawn = self._draw_latents(n_samples, random_state)
        return np.concatenate(
            [self._generate(Rows(latents), k) for k, latents in enumerate(drawn) if len(latents)]
        )

    def draw_latents(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> NDArray[np.float64]:
        """The latents that `sample` draws at the same number and seed.

        Parameters
        ----------
        n_samples : int
            Number of latents, >= 1.
        random_state : int, RandomState or None
            Seed of the draw; None draws anew each time.

        Returns
        -------
        ndarray of shape (n_samples, latent_dim), float64
            Latents, drawn from the standard normal distribution. With one member, `generate`
            makes of them what `sample` returns; with more, of each member's share.

        Raises
        ------
        InvalidParameterError
            As in `sample`.
        """
        drawn = self._draw_latents(n_samples, random_state)
        return torch.cat(drawn).double().numpy()

    def generate(self, latents: Any, *, member: int = 0) -> NDArray[np.float64]:
        """What a generator makes of given latents.

        Parameters
        ----------
        latents : array-like, Tensor or DataFrame of shape (n, latent_dim)
            Generator inputs; those that it was trained on are standard normal.
        member : int
            Number of the ensemble member whose generator is used, from 0. Each has learnt
            its own meaning of the latents, so they are never averaged.

        Returns
        -------
        ndarray of shape (n, *input_shape_), float64
            Generated rows [fitted unit]. A row depends on its own latent alone.

        Raises
        ------
        InvalidInputError
            If `latents` is not of shape (n, latent_dim), or holds nan or infinity.
        InvalidParameterError
            If the detector has no generator, or no such member.
        """
        check_is_fitted(self, "model_")
        games = self.model_.games()
        if not integer(0).holds(member) or member >= len(games):
            raise InvalidParameterError(
                f"member must be an int from 0 to {len(games) - 1}, got {member!r}"
            )
        game = games[member]
        if not game.latent_dim:
            raise game.without_generator()
        rows = as_rows(latents)
        if rows.shape[1:] != (game.latent_dim,):
            raise InvalidInputError(
                f"latents must have shape (n, {game.latent_dim}), got {rows.shape}; "
                "draw_latents makes some"
            )
        rows.check_finite()
        return self._generate(rows, member)

    @usual_defaults()
    def _draw_latents(
        self, n_samples: int, random_state: int | np.random.RandomState | None
    ) -> list[Tensor]:
        """Latents of each member."""
        check_is_fitted(self, "model_")
        check_parameters(
            {"n_samples": n_samples, "random_state": random_state},
            {"n_samples": integer(1), "random_state": seed()},
        )
        drawn = int(random_source(random_state).randint(2**31 - 1))
        return self.model_.to(resolve_device(self.device)).draw_latents(n_samples, drawn)

    def _generate(self, rows: Rows, member: int) -> NDArray[np.float64]:
        """Rows of one member's generator, from checked latents."""
        function = partial(self.model_.generate, member=member)
        return self._stream(rows, function, self.input_shape_, np.float64)
