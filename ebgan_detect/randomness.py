"""The one way to draw from torch's global generator, for what knows no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from torch import nn

__all__ = ["draws_globally", "globally_seeded"]

_LOCK = RLock()
SILENT = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LeakyReLU,
    nn.ReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Flatten,
    nn.Unflatten,
    nn.Upsample,
    nn.Identity,
    nn.Sequential,
    nn.ModuleList,
)
"""Layers that draw nothing once they have their weights."""


@contextmanager
def globally_seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of the CPU and of one GPU, and put them back afterwards.

    They belong to the process: other threads wait, else each would draw from the other's seed.

    Parameters
    ----------
    seed : int
        The seed.
    device : device, optional
        A GPU whose generator is seeded too.

    Yields
    ------
    None
        While the seed holds.
    """
    on_gpu = device is not None and device.type == "cuda"
    with _LOCK, torch.random.fork_rng(devices=[device] if on_gpu else []):
        # Not torch.random.manual_seed, which would seed every GPU too, and for good.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def draws_globally(module: nn.Module) -> bool:
    """Whether a module may draw from the global generators, as dropout does.

    Parameters
    ----------
    module : Module
        Any module.

    Returns
    -------
    bool
        False only where all its layers are known not to.

    Examples
    --------
    >>> [
    ...     draws_globally(nn.Sequential(nn.Linear(2, 2), layer))
    ...     for layer in (nn.ReLU(), nn.Dropout())
    ... ]
    [False, True]
    """
    own = __name__.partition(".")[0]
    return not all(
        (isinstance(layer, SILENT) and type(layer).__module__.startswith("torch."))
        or type(layer).__module__.startswith(f"{own}.")
        for layer in module.modules()
    )
