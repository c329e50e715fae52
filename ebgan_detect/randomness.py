"""Randomness that leaves the caller's alone, also where torch's global generator draws it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor, nn

__all__ = ["GlobalRandomness", "draws_globally", "random_source"]

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


def random_source(random_state: int | np.random.RandomState | None) -> np.random.RandomState:
    """A source of random numbers as scikit-learn has them, but never NumPy's global one.

    Parameters
    ----------
    random_state : int, RandomState or None
        Seed, or the source itself. None starts a new one from what the system holds random.

    Returns
    -------
    RandomState
        The source.

    Examples
    --------
    >>> int(random_source(0).randint(10)) == int(np.random.RandomState(0).randint(10))
    True
    """
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


class GlobalRandomness:
    """A course of torch's global generators of one's own, on the CPU and on one GPU.

    They belong to the process: while they are in use, other threads wait that want them too,
    else each would draw from the other's course.

    Parameters
    ----------
    seed : int
        Where the course starts.
    device : device, optional
        A GPU whose generator takes part.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self.seed = seed
        self.gpu = device if device is not None and device.type == "cuda" else None
        self.states: list[Tensor] = []

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let what follows draw from this course, and put the process's own back.

        Yields
        ------
        None
            While the generators are in use.
        """
        with _LOCK, torch.random.fork_rng(devices=[] if self.gpu is None else [self.gpu]):
            if self.states:
                self._go_on()
            else:
                self._start()
            yield
            self.states = [torch.get_rng_state()]
            if self.gpu is not None:
                self.states.append(torch.cuda.get_rng_state(self.gpu))

    def _start(self) -> None:
        """Seed; not by torch.random.manual_seed, which would seed every GPU, and for good."""
        torch.default_generator.manual_seed(self.seed)
        if self.gpu is not None:
            with torch.cuda.device(self.gpu):
                torch.cuda.manual_seed(self.seed)

    def _go_on(self) -> None:
        """Return to where the course was left."""
        torch.set_rng_state(self.states[0])
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.states[1], self.gpu)


def draws_globally(module: nn.Module) -> bool:
    """Whether a module may draw from the global generators, as dropout does.

    Parameters
    ----------
    module : Module
        Any module.

    Returns
    -------
    bool
        False only where all its layers are known not to, and none has a hook.

    Examples
    --------
    >>> [
    ...     draws_globally(nn.Sequential(nn.Linear(2, 2), layer))
    ...     for layer in (nn.ReLU(), nn.Dropout())
    ... ]
    [False, True]
    """
    return not all(map(_is_silent, module.modules()))


def _is_silent(layer: nn.Module) -> bool:
    """Whether one layer, apart from those in it, is known to draw nothing."""
    home = type(layer).__module__.partition(".")[0]
    known = home == __name__.partition(".")[0] or (home == "torch" and isinstance(layer, SILENT))
    return known and not layer._forward_hooks and not layer._forward_pre_hooks
