"""How near an energy-based game is to its equilibrium.

Theory (Zhao, Mathieu, LeCun, ICLR 2017, section 2.2) has two players without limits. Against a
fixed generator the best energy is 0 where the data are denser than the generated rows, and the
margin where they are thinner (lemma 1). At a Nash equilibrium generated rows are distributed as
the data and the value of the game is the margin (theorem 1), and the energy is one constant
between 0 and the margin on all of them (theorem 2).

The value alone proves nothing, because a discriminator that is 0 everywhere has it too; nor is
the equilibrium a good detector, because a constant energy tells nothing apart. So look at the
value, the distance between the two distributions and the energies together.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from typing_extensions import override

from ebgan_detect.base import rows_of_shape
from ebgan_detect.data import to_tensor
from ebgan_detect.diagnostics.discrepancy import maximum_mean_discrepancy, median_distance
from ebgan_detect.errors import InvalidInputError, InvalidParameterError
from ebgan_detect.losses import discriminator_loss
from ebgan_detect.objectives import EBGANObjective
from ebgan_detect.parameters import check_parameters, integer, real
from ebgan_detect.randomness import random_source
from ebgan_detect.torch_state import usual_defaults
from ebgan_detect.training import Callback, TrainingRun, resolve_device

__all__ = ["Equilibrium", "EquilibriumRecorder", "equilibrium", "game_value"]

ROWS_SCORED = 256
"""Rows scored at a time."""
RIM = 0.25
"""Width of the rim around the data, as a share of theirs."""


def game_value(energy_real: ArrayLike, energy_generated: ArrayLike, *, margin: float) -> float:
    """Value of the game, ``V(G, D) = E D(x) + E [margin - D(G(z))]^+``.

    Parameters
    ----------
    energy_real : array-like of shape (n,)
        Energies of real rows [scaled input unit ** 2], >= 0.
    energy_generated : array-like of shape (m,)
        Energies of generated rows, same unit.
    margin : float
        Energy from which on a generated row is left alone, same unit, > 0.

    Returns
    -------
    float
        The value, same unit: the margin at equilibrium, less while the discriminator tells
        the rows apart, more where it prefers generated ones. The discriminator lowers it.

    Raises
    ------
    InvalidInputError
        If energies are not vectors with at least one entry.
    InvalidParameterError
        If `margin` is not above 0.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network",
       ICLR 2017, equation 3.

    Examples
    --------
    >>> game_value([0.25, 0.75], [0.5, 3.0], margin=1.0)
    0.75
    """
    check_parameters({"margin": margin}, {"margin": real(0, closed="()")})
    energies = (
        torch.from_numpy(np.asarray(energy, dtype=np.float64))
        for energy in (energy_real, energy_generated)
    )
    return float(discriminator_loss(*energies, margin=margin))


@dataclass(frozen=True)
class Equilibrium:
    """How near a game is to its equilibrium; of an ensemble, the mean over its games.

    Attributes
    ----------
    epoch : int
        Epochs trained.
    value : float
        `game_value` [scaled input unit ** 2]; the margin at equilibrium.
    margin : float
        Margin in force, same unit.
    energy_real, energy_generated : float
        Mean energy of real and of generated rows, without noise, same unit; equal at
        equilibrium.
    energy_background : float
        Mean energy of rows drawn evenly from the box that the real rows span and a quarter
        of its width around it, same unit. Near 0 together with the others, the discriminator
        is dead; near `energy_real`, the energy is flat and detects nothing.
    discrepancy : float
        `maximum_mean_discrepancy` of generated and real scaled rows, with the real rows'
        bandwidth, without unit; scatters around 0 at equilibrium; nan where a single row trains.
    """

    epoch: int
    value: float
    margin: float
    energy_real: float
    energy_generated: float
    energy_background: float
    discrepancy: float


@usual_defaults()
def equilibrium(
    detector: Any,
    X: Any,
    *,
    max_rows: int = 1000,
    random_state: int | np.random.RandomState | None = None,
) -> Equilibrium:
    """Measure how near a detector's game is to its equilibrium.

    Parameters
    ----------
    detector : EBGANDetector
        Fitted detector with an adversary.
    X : array-like, Tensor, DataFrame, memmap or Dataset
        Normal rows of the fitted shape [fitted unit], at least two; better not those that
        trained.
    max_rows : int, default=1000
        Most rows of `X` to use, chosen at random, and generated rows to set against them.
    random_state : int, RandomState or None, default=None
        Seed of that choice and of the generated rows.

    Returns
    -------
    Equilibrium
        The measurements.

    Raises
    ------
    InvalidInputError
        If `X` does not fit the detector, or has fewer than two rows.
    InvalidParameterError
        If the detector has no adversary with a margin, or `max_rows` is below 2.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = EBGANDetector(max_epochs=1, random_state=0).fit(X)
    >>> equilibrium(detector, X, random_state=0).margin == detector.margin_
    True
    """
    check_parameters({"max_rows": max_rows}, {"max_rows": integer(2)})
    check_is_fitted(detector, "model_")
    rows = rows_of_shape(detector, X, detector.input_shape_, type(detector).__name__)
    if len(rows) < 2:
        raise InvalidInputError(f"X must have at least two rows, got {len(rows)}")
    rows.check_finite()
    random = random_source(random_state)
    chosen = np.sort(random.permutation(len(rows))[:max_rows])
    device = resolve_device(detector.device)
    model = detector.model_.eval().to(device)
    scaled = model.scale(to_tensor(rows.read(chosen), device))
    rng = torch.Generator(device).manual_seed(int(random.randint(2**31 - 1)))
    epoch = detector.n_iter_
    measured = [_measure(_checked(game), scaled, rng, epoch) for game in model.games()]
    names = [field.name for field in fields(Equilibrium) if field.name != "epoch"]
    means = {name: float(np.mean([getattr(m, name) for m in measured])) for name in names}
    return Equilibrium(epoch=epoch, **means)


class EquilibriumRecorder(Callback):
    """Record before training and after its epochs how near the game is to its equilibrium.

    Give it to a detector's `callbacks`. It leaves training as it is, to the last bit.

    Parameters
    ----------
    every : int, default=1
        Record after every so many epochs, and after the last planned one.
    max_rows : int, default=500
        Most training rows to use, chosen at random, and generated rows to set against them.
    random_state : int, default=0
        Seed of that choice and of the generated rows, which are the same at every epoch.

    Attributes
    ----------
    history : dict of str to list of float
        One entry for each record: the fields of `Equilibrium`, and `member`, which counts the
        trainings seen, such as the members of an ensemble.

    Raises
    ------
    InvalidParameterError
        If a parameter is out of its range, and in training if the game has no adversary with
        a margin.

    Examples
    --------
    >>> recorder = EquilibriumRecorder(every=2)
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = EBGANDetector(max_epochs=3, callbacks=[recorder], random_state=0).fit(X)
    >>> recorder.history["epoch"]
    [0, 2, 3]
    """

    def __init__(self, *, every: int = 1, max_rows: int = 500, random_state: int = 0) -> None:
        given = {"every": every, "max_rows": max_rows, "random_state": random_state}
        check_parameters(
            given, {"every": integer(1), "max_rows": integer(2), "random_state": integer(0)}
        )
        self.every = every
        self.max_rows = max_rows
        self.random_state = random_state
        self.history: dict[str, list[float]] = {}
        self._member = -1
        self._real = torch.empty(0)

    @override
    def on_train_begin(self, run: TrainingRun) -> None:
        _checked(run.objective)
        order = torch.randperm(len(run.rows), generator=self._rng(torch.device("cpu")))
        self._member += 1
        self._real = run.rows.take(run.rows.placed(order[: self.max_rows].sort().values))
        if run.epoch == 0:
            self._record(run)

    @override
    def on_epoch_end(self, run: TrainingRun) -> None:
        if run.epoch % self.every == 0 or run.epoch == run.max_epochs:
            self._record(run)

    @override
    def on_train_end(self, run: TrainingRun) -> None:
        self._real = torch.empty(0)

    def _record(self, run: TrainingRun) -> None:
        """Append one record."""
        objective = _checked(run.objective)
        was_training = objective.training
        measured = _measure(objective.eval(), self._real, self._rng(self._real.device), run.epoch)
        objective.train(was_training)
        for name, value in {"member": self._member, **asdict(measured)}.items():
            self.history.setdefault(name, []).append(value)

    def _rng(self, device: torch.device) -> torch.Generator:
        """A fresh source of the same random numbers."""
        return torch.Generator(device).manual_seed(self.random_state)


def _checked(game: object) -> EBGANObjective:
    """The game, refused unless it has an adversary with a margin."""
    if not isinstance(game, EBGANObjective):
        raise InvalidParameterError(
            "detector must play against a generator up to a margin, got the game "
            f"{type(game).__name__}; use EBGANDetector(adversarial=True)"
        )
    return game


def _discrepancy(rows: NDArray[Any], drawn: NDArray[Any]) -> float:
    """Distance between real and generated rows; nan where a single row has no distribution."""
    if len(rows) < 2:
        return math.nan
    return maximum_mean_discrepancy(rows, drawn, bandwidth=median_distance(rows))


@torch.no_grad()
def _measure(game: EBGANObjective, real: Tensor, rng: torch.Generator, epoch: int) -> Equilibrium:
    """Play nothing, measure one game on scaled rows."""
    generated = game.sample(len(real), rng)
    low, high = real.amin(dim=0), real.amax(dim=0)
    rim = RIM * (high - low)
    share = torch.rand(real.shape, generator=rng, device=real.device)
    background = low - rim + share * (high - low + 2 * rim)
    energies = [
        torch.cat([game.energy(part) for part in rows.split(ROWS_SCORED)])
        for rows in (real, generated, background)
    ]
    margin = float(game.margin)
    rows, drawn = real.cpu().numpy(), generated.cpu().numpy()
    return Equilibrium(
        epoch=epoch,
        value=float(discriminator_loss(energies[0], energies[1], margin=margin)),
        margin=margin,
        energy_real=float(energies[0].mean()),
        energy_generated=float(energies[1].mean()),
        energy_background=float(energies[2].mean()),
        discrepancy=_discrepancy(rows, drawn),
    )
