"""The loop: epochs of updates, whatever the game."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ebgan_detect.distributed import ALONE, current_group
from ebgan_detect.errors import (
    ModelFileError,
    TrainingDivergedError,
    TrainingInterruptedWarning,
    warn_caller,
)
from ebgan_detect.objectives import Objective
from ebgan_detect.randomness import GlobalRandomness, draws_globally
from ebgan_detect.training.callbacks import Callback
from ebgan_detect.training.checkpoint import Checkpoint, TrainingState, below, gather, restore
from ebgan_detect.training.metrics import EpochLog
from ebgan_detect.training.normalisation import normalising_together
from ebgan_detect.training.placement import autocast, place, sparing_threads
from ebgan_detect.training.rows import TrainingRows
from ebgan_detect.training.run import TrainingRun

__all__ = ["SCHEDULES", "Trainer"]

Schedule = Callable[[float], float]

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: min(1.0, 2.0 * (1.0 - progress)),
    "cosine": lambda progress: 0.5 * (1.0 + float(np.cos(np.pi * progress))),
}
"""Learning-rate factors over the share of training done; `'linear'` falls in its second half."""


@dataclass(frozen=True)
class Trainer:
    """How to train any game.

    Attributes
    ----------
    max_epochs : int
        Passes over the training rows.
    batch_size : int
        Rows in an update, of each process; fewer training rows make a smaller batch. What is
        left of an epoch after its last full batch waits for another epoch's shuffle.
    learning_rate : float
        Base learning rate.
    device : device
        Where to train.
    seed : int
        Seed of the shuffling and of all noise.
    schedule : callable
        Factor of the learning rate over the share of training done.
    precision : str
        See `autocast`.
    average_decay : float
        Decay of a running average of the weights that is kept in the end; 0 keeps the final
        weights.
    criterion : callable, optional
        From the objective after an epoch to a value; the state with the highest is kept.
    callbacks : sequence of Callback
        Hooks.
    checkpoint : Checkpoint, optional
        Where to keep the state after every epoch, and to resume from.
    max_steps_per_epoch : int, optional
        End an epoch after so many updates.
    passes_interrupt : bool
        Whether Ctrl-C is passed on rather than ending training with the last full epoch.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    device: torch.device
    seed: int
    schedule: Schedule = SCHEDULES["linear"]
    precision: str = "float32"
    average_decay: float = 0.0
    criterion: Callable[[Objective], float] | None = None
    callbacks: Sequence[Callback] = ()
    checkpoint: Checkpoint | None = None
    max_steps_per_epoch: int | None = None
    passes_interrupt: bool = False

    def fit(self, objective: Objective, rows: TrainingRows) -> TrainingRun:
        """Train a game, from its checkpoint on where there is one.

        Ctrl-C ends training with the state after the last full epoch, and warns; before the
        first epoch's end, or where several processes train together, it is passed on.

        Parameters
        ----------
        objective : Objective
            The game; trained in place and left in evaluation mode.
        rows : TrainingRows
            Scaled training rows.

        Returns
        -------
        TrainingRun
            The finished run with its history.

        Raises
        ------
        TrainingDivergedError
            If a metric became nan or infinite; read at the end of each epoch.
        InvalidInputError
            If there are fewer rows than processes that train together.
        ModelFileError
            If the checkpoint does not fit this training.
        """
        place(objective, self.device)
        with sparing_threads(objective, self.batch_size), normalising_together(objective):
            return _Loop(self, objective, rows).run_all()


class _Loop:
    """One call of `Trainer.fit`."""

    def __init__(self, trainer: Trainer, objective: Objective, rows: TrainingRows) -> None:
        self.trainer = trainer
        self.objective = objective
        self.rows = rows
        if not objective.optimizers or _elsewhere(objective):
            objective.configure_optimizers(trainer.learning_rate)
        self.base_rates = {
            player: trainer.learning_rate * objective.rate_factors.get(player, 1.0)
            for player in objective.optimizers
        }
        self.group = current_group()
        self.batch_size = self.group.batch_rows(trainer.batch_size, len(rows))
        steps = min(len(rows) // self.batch_size, trainer.max_steps_per_epoch or len(rows))
        self.run = TrainingRun(objective, rows, trainer.max_epochs, steps)
        self.generators = {
            "shuffle": torch.Generator().manual_seed(trainer.seed),
            "noise": torch.Generator(trainer.device).manual_seed(trainer.seed + 1),
        }
        # Weights, and the statistics that batch normalisation goes by when it does not train.
        self.averaged: list[Tensor] = [p for p in objective.parameters() if p.requires_grad]
        self.averaged += [
            statistic
            for layer in objective.modules()
            if isinstance(layer, _BatchNorm)
            for statistic in (layer.running_mean, layer.running_var)
            if statistic is not None
        ]
        self.average: list[Tensor] = []
        if trainer.average_decay:
            self.average = [each.detach().clone() for each in self.averaged]
        self.begun: list[Callback] = []
        self.best: float | None = None
        self.best_tensors: dict[str, Tensor] = {}

    def run_all(self) -> TrainingRun:
        """Resume, train, and leave the state to keep in place."""
        had_stopped = self.resume()
        state = self.state() if self.run.epoch else None
        try:
            self.objective.group = self.group
            # Devices that round otherwise may have come to others.
            self.group.lead(list(self.objective.state_dict().values()))
            self.begin()
            if had_stopped:
                self.ask_to_stop()
            while self.run.epoch < self.run.max_epochs and not self.run.stop:
                self.train_epoch()
                state = self.state()
                self.write(state)
                self.ask_to_stop()
                if self.run.stop:
                    self.write(replace(state, stopped=True))
        except KeyboardInterrupt:
            if state is None or self.trainer.passes_interrupt or self.group.size > 1:
                self.end()
                raise
            self.put_back(state)
            self.run.interrupted = True
        except BaseException:
            self.end()
            raise
        finally:
            self.objective.eval()
            self.objective.group = ALONE
            for optimizer in self.objective.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
        self.keep()
        self.end()
        if self.run.interrupted:
            warn_caller(
                f"training was interrupted; the state after epoch {self.run.epoch} of "
                f"{self.run.max_epochs} is kept and can be used",
                TrainingInterruptedWarning,
            )
        return self.run

    def train_epoch(self) -> None:
        """One pass over the rows; the host waits for the device only at its end."""
        started = time.perf_counter()
        run, objective, steps = self.run, self.objective.train(), self.run.steps_per_epoch
        order = torch.randperm(len(self.rows), generator=self.generators["shuffle"])
        order = self.rows.placed(order)
        log = EpochLog()
        mixed = autocast(self.trainer.device, self.trainer.precision)
        # Layers of a user's own, such as dropout, may draw from the global generators.
        drawing: Callable[[], AbstractContextManager[None]] = nullcontext
        if draws_globally(objective):
            seed = self.trainer.seed + run.epoch + (self.group.rank << 32)
            drawing = GlobalRandomness(seed, self.trainer.device).in_use
        factor = 1.0
        for step in range(steps):
            progress = (run.epoch * steps + step) / (run.max_epochs * steps)
            factor = self.trainer.schedule(progress)
            self.set_rates(factor)
            objective.begin_step(progress)
            batch = self.rows.take(self.own(order[step * self.batch_size :]))
            with mixed, drawing():
                log.add(objective.update(batch, self.generators["noise"]))
            if self.average:
                self.update_average(run.epoch * steps + step)
            self.call("on_step_end")
        run.epoch += 1
        self.record(log.read(self.group), self.trainer.learning_rate * factor, started)

    def own(self, order: Tensor) -> Tensor:
        """The share of the next batch that is this process's."""
        return self.group.own(self.batch_size // self.group.size, lambda n: order[:n])

    def update_average(self, n_updates: int) -> None:
        """Move the running average; early on it forgets faster, lest it keep the first weights."""
        decay = min(self.trainer.average_decay, (1 + n_updates) / (10 + n_updates))
        get_ema_multi_avg_fn(decay)(self.average, self.averaged, n_updates)

    def record(self, log: dict[str, NDArray[np.float32]], rate: float, started: float) -> None:
        """Check an epoch's metrics and append their means to the history."""
        spoilt = {name: np.flatnonzero(~np.isfinite(values)) for name, values in log.items()}
        if any(map(len, spoilt.values())):
            name = min((name for name in log if len(spoilt[name])), key=lambda n: spoilt[n][0])
            step = spoilt[name][0]
            raise TrainingDivergedError(
                f"{name.replace('_', ' ')} became {log[name][step]} at epoch {self.run.epoch}, "
                f"step {step + 1}; lower learning_rate (now {self.trainer.learning_rate:g})"
            )
        record = {name: float(values.mean(dtype=np.float64)) for name, values in log.items()}
        record |= {"learning_rate": rate, "seconds": time.perf_counter() - started}
        if self.trainer.criterion is not None:
            value = self.group.agree(self.trainer.criterion(self.objective.eval()))
            value = float(np.nan_to_num(value, nan=-np.inf))
            record["criterion"] = value
            if self.best is None or value > self.best:
                self.best = value
                weights = self.objective.state_dict()
                self.best_tensors = {name: v.detach().clone() for name, v in weights.items()}
        for name, value in {"epoch": self.run.epoch, **record}.items():
            self.run.history.setdefault(name, []).append(value)

    def set_rates(self, factor: float) -> None:
        """Set every player's learning rate, on the device where it lives there."""
        for player, optimizer in self.objective.optimizers.items():
            for group in optimizer.param_groups:
                rate = self.base_rates[player] * factor
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def state(self) -> TrainingState:
        """Copy everything that the next epoch depends on."""
        tensors = gather(self.objective, self.generators)
        tensors |= {f"average/{i}": p.clone() for i, p in enumerate(self.average)}
        tensors |= {f"best/{name}": value for name, value in self.best_tensors.items()}
        history = {name: list(values) for name, values in self.run.history.items()}
        return TrainingState(tensors, self.run.epoch, history, self.best)

    def write(self, state: TrainingState) -> None:
        """Keep a state on disk, if there is a place."""
        if self.trainer.checkpoint is not None and self.group.rank == 0:
            self.trainer.checkpoint.write(state)

    def put_back(self, state: TrainingState) -> None:
        """Return to a copied state."""
        restore(state.tensors, self.objective, self.generators)
        for i, average in enumerate(self.average):
            average.copy_(state.tensors[f"average/{i}"])
        self.best, self.best_tensors = state.best, below(state.tensors, "best/")
        self.run.epoch = state.epoch
        self.run.history = {name: list(values) for name, values in state.history.items()}

    def ask_to_stop(self) -> None:
        """Tell callbacks that an epoch is done; they may stop training."""
        self.call("on_epoch_end")
        self.run.stop = self.group.agree(self.run.stop)

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one; whether callbacks had stopped it."""
        checkpoint = self.trainer.checkpoint
        state = checkpoint.read() if checkpoint is not None else None
        if checkpoint is None or state is None:
            return False
        try:
            self.put_back(state)
        except RuntimeError as error:
            raise ModelFileError(
                f"checkpoint {checkpoint.path.name} does not fit its networks: {error}; go on with "
                "the version that wrote it, or name another folder"
            ) from error
        return state.stopped

    def keep(self) -> None:
        """Leave the state to keep in the objective."""
        if self.best_tensors:
            self.objective.load_state_dict(self.best_tensors)
        elif self.average and self.run.epoch:
            with torch.no_grad():
                for each, average in zip(self.averaged, self.average, strict=True):
                    each.copy_(average)

    def begin(self) -> None:
        """Call `on_train_begin` of every callback."""
        for callback in self.trainer.callbacks:
            callback.on_train_begin(self.run)
            self.begun.append(callback)

    def end(self) -> None:
        """Call `on_train_end` of every callback that has begun, also if one of them fails."""
        with ExitStack() as stack:
            for callback in reversed(self.begun):
                stack.callback(callback.on_train_end, self.run)

    def call(self, hook: str) -> None:
        """Call one hook of every callback."""
        for callback in self.trainer.callbacks:
            getattr(callback, hook)(self.run)


def _elsewhere(objective: Objective) -> bool:
    """Whether the optimisers' moments lie on another device than the weights, since a move."""
    return any(
        value.ndim > 0 and value.device != weight.device
        for optimizer in objective.optimizers.values()
        for weight, moments in optimizer.state.items()
        for value in moments.values()
        if isinstance(value, Tensor)
    )
