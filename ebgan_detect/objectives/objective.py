"""What the training loop asks of a game: its modules, its update, its score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.optim import Adam, Optimizer
from typing_extensions import override

from ebgan_detect.distributed import ALONE, ProcessGroup
from ebgan_detect.errors import InvalidParameterError

__all__ = ["Objective", "make_adam"]


class Objective(nn.Module, ABC):
    """One game: the networks that play it, how they are updated, and the energy they give.

    The training loop calls `begin_step` and `update` in turn and reads `optimizers`; it
    knows nothing of losses. `update` runs on one device without waiting for it, so that a
    whole step can be captured as a graph.
    """

    latent_dim: int = 0
    """Number of features in the generator's input; 0 for a game without generator."""
    group: ProcessGroup = ALONE
    """The processes that play it together, while they train."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizers: dict[str, Optimizer] = {}
        self.rate_factors: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles start with fresh optimisers: moments belong to one training."""
        return {**self.__dict__, "optimizers": {}, "group": ALONE}

    def begin_step(self, progress: float) -> None:
        """Set scheduled quantities before an update.

        Parameters
        ----------
        progress : float
            Share of the planned updates already made, in [0, 1).
        """

    def go_on(self) -> None:
        """Begin a further training: what the first one schedules comes to its end, and stays."""

    @abstractmethod
    def configure_optimizers(self, learning_rate: float) -> None:
        """Fill `optimizers`, once the modules are on their device.

        The loop sets each player's rate before every update: the base rate, times the
        player's entry in `rate_factors` (1 where there is none), times the schedule.

        Parameters
        ----------
        learning_rate : float
            Base rate.
        """

    @abstractmethod
    def update(self, real: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Make one step of every player.

        Parameters
        ----------
        real : Tensor of shape (n, ...), float32
            Scaled training rows, on the device.
        rng : Generator
            The only source of randomness, on the same device.

        Returns
        -------
        dict of str to Tensor of shape () or (n,)
            What was measured, on the device and without gradient: a metric of the history is
            the mean over rows and updates. Later updates leave these tensors as they are. The
            names of losses start with ``loss``.
        """

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """Energy of scaled rows.

        Parameters
        ----------
        x : Tensor of shape (n, ...), float32
            Scaled rows.

        Returns
        -------
        Tensor of shape (n,), float64
            Energies; high = abnormal.
        """

    def draw_latents(self, n: int, rng: torch.Generator, device: torch.device) -> Tensor:
        """Draw generator inputs from the standard normal distribution.

        Parameters
        ----------
        n : int
            Number of rows.
        rng : Generator
            Source of randomness, on `device`.
        device : device
            Where to draw.

        Returns
        -------
        Tensor of shape (n, latent_dim)
            Latents.

        Raises
        ------
        InvalidParameterError
            If the game has no generator.
        """
        if not self.latent_dim:
            raise self.without_generator()
        return self.group.own(
            n, lambda count: torch.randn((count, self.latent_dim), generator=rng, device=device)
        )

    def generate(self, latents: Tensor) -> Tensor:
        """What the game's generator makes of given latents; `sample` needs nothing else.

        Parameters
        ----------
        latents : Tensor of shape (n, latent_dim), float32
            Generator inputs, on the device.

        Returns
        -------
        Tensor of shape (n, ...), float32
            Scaled rows.

        Raises
        ------
        InvalidParameterError
            If the game has no generator.
        """
        raise self.without_generator()

    def descend(self, player: str, loss: Tensor) -> None:
        """Make one step of one player down the gradient of a loss.

        Parameters
        ----------
        player : str
            Key of `optimizers`.
        loss : Tensor of shape ()
            What to lower.
        """
        optimizer = self.optimizers[player]
        weights = optimizer.param_groups[0]["params"]
        # What `torch.autograd.grad` ends in, without the checks of its arguments: for small
        # networks these take one fifteenth of an update.
        gradients = Variable._execution_engine.run_backward(
            (loss,),
            (torch.ones_like(loss),),
            False,  # keep the graph
            False,  # create one of the gradients
            tuple(weights),
            allow_unreachable=True,
            accumulate_grad=False,
        )
        for weight, gradient in zip(weights, self.group.average_gradients(gradients), strict=True):
            weight.grad = _laid_out(gradient, weight)
        optimizer.step()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw rows from the game's generator.

        Parameters
        ----------
        n : int
            Number of rows.
        rng : Generator
            Source of randomness, on the device.

        Returns
        -------
        Tensor of shape (n, ...), float32
            Scaled rows.

        Raises
        ------
        InvalidParameterError
            If the game has no generator.
        """
        return self.generate(self.draw_latents(n, rng, rng.device))

    def without_generator(self) -> InvalidParameterError:
        """The error of a game that cannot make rows.

        Returns
        -------
        InvalidParameterError
            To be raised.
        """
        return InvalidParameterError(
            f"sample needs a game with a generator, got {type(self).__name__}; use an adversary"
        )

    def training_tensors(self) -> dict[str, Tensor]:
        """Tensors beyond weights and optimisers that resuming needs.

        Returns
        -------
        dict of str to Tensor
            Live tensors, by name; loading copies into them.
        """
        return {}

    def negatives(self, n: int, rng: torch.Generator) -> Tensor | None:
        """Broad negatives, for a criterion that compares states without labels.

        Parameters
        ----------
        n : int
            Number of rows.
        rng : Generator
            Source of randomness, on the device.

        Returns
        -------
        Tensor of shape (n, ...) or None
            Scaled rows; None for a game that makes none.
        """
        return None

    def diagnose(self, history: Mapping[str, Sequence[float]]) -> str | None:
        """Say in words what went wrong.

        Parameters
        ----------
        history : mapping of str to sequence of float
            Per-epoch means of the metrics.

        Returns
        -------
        str or None
            The problem and its remedy; None when training looks healthy.
        """
        return None


def _laid_out(gradient: Tensor | None, weight: Tensor) -> Tensor | None:
    """A gradient in its weight's memory layout: the fused Adam goes through both as they lie."""
    if gradient is None or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def make_adam(
    modules: Sequence[nn.Module], learning_rate: float, betas: tuple[float, float]
) -> Optimizer:
    """One fused Adam over the parameters of some modules.

    Parameters
    ----------
    modules : sequence of Module
        Modules on one device.
    learning_rate : float
        Step size.
    betas : tuple of float
        Decay rates of the first and second moment.

    Returns
    -------
    Optimizer
        On a GPU its rate is a tensor there and its step can be captured as a graph.
    """
    found = (p for module in modules for p in module.parameters() if p.requires_grad)
    parameters = list(dict.fromkeys(found))  # modules may share a layer
    device = parameters[0].device
    on_gpu = device.type == "cuda"
    rate = torch.tensor(learning_rate, device=device) if on_gpu else learning_rate
    return LeanAdam(parameters, lr=rate, betas=betas, fused=True, capturable=on_gpu)


class LeanAdam(Adam):
    """Fused Adam over one group of weights, without its bookkeeping at every step.

    For small networks that costs several times as much as the arithmetic, which stays torch's.
    """

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights that have a gradient.

        Parameters
        ----------
        closure : callable, optional
            As in `torch.optim.Adam`.

        Returns
        -------
        Any
            What the closure returns.
        """
        (group,) = self.param_groups
        weights = [weight for weight in group["params"] if weight.grad is not None]
        states = [self.state.get(weight, {}) for weight in weights]
        if closure is not None or not all(states):
            return super().step(closure)
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, [torch.ones_like(steps[0])] * len(steps))
        torch._fused_adam_(
            weights,
            [weight.grad for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        return None

    step.hooked = True  # type: ignore[attr-defined]  # torch then adds no profiler record to it
