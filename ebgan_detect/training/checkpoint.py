"""The whole state of a training: gathered, put back, and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from ebgan_detect.errors import ModelFileError
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.objectives import Objective

__all__ = ["Checkpoint", "TrainingState"]

FORMAT = 1
OTHER = {"rows": "other training rows", "seed": "another random_state"}
"""Settings whose values would tell a reader nothing."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next update depends on.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Copies of weights, optimiser moments, random states and what else training holds.
    epoch : int
        Epochs done.
    history : dict of str to list
        Per-epoch records.
    best : float or None
        Best value of a criterion so far, when one chooses the state.
    settings : dict
        Settings that the training belongs to, as stored in its checkpoint.
    stopped : bool
        Whether a callback ended the training.
    """

    tensors: dict[str, Tensor]
    epoch: int
    history: dict[str, list[float]] = field(default_factory=dict)
    best: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def objective_tensors(self) -> dict[str, Tensor]:
        """State dict of the game.

        Returns
        -------
        dict of str to Tensor
            What ``objective.state_dict()`` held.
        """
        return below(self.tensors, "objective/")


def gather(objective: Objective, generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """Copy the tensors of a game and the states of its random generators.

    Parameters
    ----------
    objective : Objective
        The game.
    generators : mapping of str to Generator
        Sources of randomness, by name.

    Returns
    -------
    dict of str to Tensor
        Copies, by name.
    """
    live = {f"objective/{name}": value for name, value in objective.state_dict().items()}
    live |= {f"training/{name}": value for name, value in objective.training_tensors().items()}
    for player, optimizer in objective.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            live |= {f"optimizer/{player}/{index}/{key}": v for key, v in moments.items()}
    live |= {f"random/{name}": rng.get_state() for name, rng in generators.items()}
    return {name: tensor.detach().clone() for name, tensor in live.items()}


def restore(
    tensors: Mapping[str, Tensor], objective: Objective, generators: Mapping[str, torch.Generator]
) -> None:
    """Put back what `gather` copied; the optimisers must be configured.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        From `gather`.
    objective : Objective
        The game, changed in place.
    generators : mapping of str to Generator
        Sources of randomness, changed in place.
    """
    objective.load_state_dict(below(tensors, "objective/"))
    for name, live in objective.training_tensors().items():
        live.copy_(tensors[f"training/{name}"])
    for player, optimizer in objective.optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in below(tensors, f"optimizer/{player}/").items():
            index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor.clone()
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for name, rng in generators.items():
        state = tensors[f"random/{name}"].cpu()
        if len(state) == len(rng.get_state()):
            rng.set_state(state)
        else:  # of another kind of device, whose generator takes another course
            rng.manual_seed(crc32(state.numpy().tobytes()))


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose name starts with a prefix, without it.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Named tensors.
    prefix : str
        What the names start with.

    Returns
    -------
    dict of str to Tensor
        Those entries.
    """
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


class Checkpoint:
    """One training's state in a file, replaced atomically after every epoch.

    Parameters
    ----------
    path : path-like
        File to write; its folder is made when missing.
    settings : mapping
        Content that JSON can hold and that must be the same on resume.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.settings = dict(settings)

    def write(self, state: TrainingState) -> None:
        """Replace the file.

        Parameters
        ----------
        state : TrainingState
            What to keep.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "kind": "checkpoint",
            "format": FORMAT,
            "epoch": state.epoch,
            "history": state.history,
            "best": state.best,
            "settings": self.settings,
            "stopped": state.stopped,
        }
        write_sealed(self.path, state.tensors, header)

    def read(self) -> TrainingState | None:
        """Read the file back.

        Returns
        -------
        TrainingState or None
            None when there is no file yet.

        Raises
        ------
        ModelFileError
            If the file is damaged, of another kind, or was written with other settings.
        """
        if not self.path.exists():
            return None
        tensors, header = read_sealed(self.path, "delete it, and training starts anew")
        if header.get("kind") != "checkpoint":
            raise ModelFileError(
                f"{self.path.name} must be a checkpoint, got a {header.get('kind')} file"
            )
        if header["format"] > FORMAT:
            raise ModelFileError(
                f"checkpoint has format {header['format']}, this version reads up to {FORMAT}; "
                "upgrade ebgan-detect"
            )
        found = header["settings"]
        for name, value in self.settings.items():
            if found.get(name) != value:
                other = OTHER.get(name, f"{name}={found.get(name)!r}, got {value!r}")
                raise ModelFileError(
                    f"checkpoint {self.path.name} was written with {other}; go on as before or "
                    "name another folder"
                )
        return TrainingState(
            tensors,
            header["epoch"],
            header["history"],
            header["best"],
            found,
            header.get("stopped", False),
        )
