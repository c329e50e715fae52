"""The paper's grids, and a reproducible random part of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

__all__ = ["CONTROLS", "SYSTEMS", "Configuration", "choose", "paper_grid"]

SYSTEMS = ("GAN", "EBGAN", "EBGAN-PT")
CONTROLS = ("GAN-Adam", "EBGAN-PT-strong")
"""Not in the paper: the GAN on the EBGAN's grid, and a pulling-away term that weighs as much as
the energy. Both share their configurations with the EBGAN."""

DEPTHS = (2, 3, 4, 5)
GENERATOR_WIDTHS = (400, 800, 1600, 3200)
DISCRIMINATOR_WIDTHS = (128, 256, 512, 1024)


@dataclass(frozen=True)
class Configuration:
    """One cell of a grid.

    Attributes
    ----------
    generator_layers, discriminator_layers : int
        Number of weight layers; a discriminator's decoder counts as one of its layers.
    generator_width, discriminator_width : int
        Units of each hidden layer.
    dropout : bool
        Whether the discriminator drops half of its hidden units.
    discriminator_optimizer, generator_optimizer : {'adam', 'sgd'}
        Each player's optimiser.
    learning_rate : float
        That of both players.
    """

    generator_layers: int
    discriminator_layers: int
    generator_width: int
    discriminator_width: int
    dropout: bool
    discriminator_optimizer: str
    generator_optimizer: str
    learning_rate: float


def paper_grid(system: str, *, max_width: int | None = None) -> list[Configuration]:
    """Every configuration that the paper tried: 512 of an EBGAN, 6,144 of a GAN.

    Parameters
    ----------
    system : str
        One of `SYSTEMS` or `CONTROLS`; all but the GAN share one grid.
    max_width : int, optional
        Leave out wider networks.

    Returns
    -------
    list of Configuration
        In a fixed order.
    """
    gan = system == "GAN"
    optimizers = ("adam", "sgd") if gan else ("adam",)
    rates = (0.01, 0.001, 0.0001) if gan else (0.001,)
    generator_widths, discriminator_widths = (
        [width for width in widths if max_width is None or width <= max_width]
        for widths in (GENERATOR_WIDTHS, DISCRIMINATOR_WIDTHS)
    )
    axes = (DEPTHS, DEPTHS, generator_widths, discriminator_widths, (False, True))
    return [Configuration(*cell) for cell in product(*axes, optimizers, optimizers, rates)]


def choose(
    system: str,
    *,
    max_width: int | None = None,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> list[Configuration]:
    """A random part of a grid: a larger part begins with the smaller one.

    Parameters
    ----------
    system : str
        All but the GAN get the same configurations, so that they can be compared pair by pair.
    max_width : int, optional
        Leave out wider networks.
    count : int, optional
        Number of configurations; None for what `fraction` says.
    fraction : float, optional
        Share of the grid in (0, 1]; None for all of it.
    seed : int
        Seed of the choice.

    Returns
    -------
    list of Configuration
        In random order.
    """
    grid = paper_grid(system, max_width=max_width)
    if count is None:
        count = len(grid) if fraction is None else max(1, round(fraction * len(grid)))
    order = np.random.default_rng(seed).permutation(len(grid))
    return [grid[i] for i in order[:count]]
