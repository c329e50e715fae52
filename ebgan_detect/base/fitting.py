"""Steps of a fit that need no estimator: members and criterion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ebgan_detect.base.pilot import Pilot
from ebgan_detect.errors import TrainingInterruptedWarning, warn_caller
from ebgan_detect.model import EnergyModel
from ebgan_detect.objectives import Objective
from ebgan_detect.training import (
    Checkpoint,
    ProgressBar,
    Trainer,
    TrainingRows,
    TrainingRun,
)

__all__ = [
    "MemberPlan",
    "separation",
    "train_members",
]

ROWS_AT_ONCE = 256
"""Rows that a criterion scores in one pass."""


@dataclass(frozen=True)
class MemberPlan:
    """What a detector needs to set up the game of one ensemble member.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one scaled row as networks take it.
    bounded : bool
        Whether scaled training rows lie in [0, 1].
    seed : int
        The member's own seed.
    resumed : dict of str to Tensor
        State dict of the same game from a checkpoint or a saved model; empty for a new one.
    pilot : callable, optional
        From a game to spare to a pilot at the member's settings. A resumed game needs none.
    """

    input_shape: tuple[int, ...]
    bounded: bool
    seed: int
    resumed: dict[str, Tensor]
    pilot: Callable[[Objective], Pilot] | None = None


def train_members(
    model: EnergyModel,
    rows: TrainingRows,
    trainer: Trainer,
    make_objective: Callable[[MemberPlan], Objective],
    *,
    n_members: int,
    seeds: Callable[[int], int],
    checkpoints: Callable[[int], Checkpoint | None],
    verbose: bool,
) -> list[TrainingRun]:
    """Train the members of a model one after another, new ones and those it has.

    Parameters
    ----------
    model : EnergyModel
        Its `members` are trained in place; missing ones are appended.
    rows : TrainingRows
        Scaled training rows.
    trainer : Trainer
        How to train each.
    make_objective : callable
        Builds a new member's game.
    n_members : int
        How many members to end with.
    seeds, checkpoints : callable
        From a member's number to its seed and its checkpoint.
    verbose : bool
        Whether to show a progress bar.

    Returns
    -------
    list of TrainingRun
        One for each member; shorter when Ctrl-C ended one early.
    """
    runs: list[TrainingRun] = []
    for k in range(n_members):
        checkpoint = checkpoints(k)
        pilots, bars = (
            [ProgressBar(f"{what} {k + 1}/{n_members}")] if verbose else []
            for what in ("pilot", "fit")
        )
        callbacks = [*trainer.callbacks, *bars]
        own = replace(trainer, seed=seeds(k), checkpoint=checkpoint, callbacks=callbacks)
        try:
            if k < len(model.members):
                objective = model.games()[k]
                objective.go_on()
            else:
                state = checkpoint.read() if checkpoint is not None else None
                plan = MemberPlan(
                    model.network_shape,
                    model.scaler.bounded,
                    own.seed,
                    {} if state is None else state.objective_tensors(),
                    partial(Pilot.train, rows=rows, trainer=own, callbacks=pilots),
                )
                objective = make_objective(plan)
            runs.append(own.fit(objective, rows))
        except KeyboardInterrupt:
            if not runs or k < len(model.members):
                raise
            warn_caller(
                f"training was interrupted; the {k} of {n_members} members that are trained are "
                "kept and can be used",
                TrainingInterruptedWarning,
            )
            break
        if k == len(model.members):
            model.members.append(objective)
        if runs[-1].interrupted:
            break
    return runs


def separation(held_out: Tensor, seed: int) -> Callable[[Objective], float]:
    """Criterion without labels: how well held-out normal rows separate from broad negatives.

    Parameters
    ----------
    held_out : Tensor of shape (n, ...)
        Scaled validation rows, on the device.
    seed : int
        Seed of the negatives.

    Returns
    -------
    callable
        From a game to the AUROC between validation rows and as many negatives: half of them
        validation rows whose features are shuffled between rows, half the game's own earlier
        samples where it has any. Higher is better; in [0, 1].
    """
    # Imported when first needed: few fits do, and it costs a fifth of a second.
    from sklearn.metrics import roc_auc_score

    flat = held_out.flatten(1)
    rng = torch.Generator().manual_seed(seed)
    order = torch.rand(flat.shape, generator=rng).argsort(dim=0).to(flat.device)
    background = flat.gather(0, order).reshape(held_out.shape)

    @torch.no_grad()
    def criterion(objective: Objective) -> float:
        noise = torch.Generator(held_out.device).manual_seed(seed)
        generated = objective.negatives(len(held_out), noise)
        negatives = [background] if generated is None else [background, generated]
        judged = torch.cat([held_out, *negatives])
        energies = torch.cat([objective.energy(part) for part in judged.split(ROWS_AT_ONCE)])
        is_negative = np.repeat([0, 1], [len(held_out), len(held_out) * len(negatives)])
        return float(roc_auc_score(is_negative, energies.cpu().numpy()))

    return criterion
