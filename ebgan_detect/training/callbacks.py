"""Hooks into training."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from ebgan_detect.training.run import TrainingRun

__all__ = ["Callback", "ProgressBar"]


class Callback:
    """Hooks that training calls; override the ones you need.

    Setting ``run.stop = True`` in any of them ends training after the current epoch.
    """

    def on_train_begin(self, run: TrainingRun) -> None:
        """Before the first epoch, or the first after a resume.

        Parameters
        ----------
        run : TrainingRun
            The training under way: its objective, history and epoch.
        """

    def on_step_end(self, run: TrainingRun) -> None:
        """After each update. Reading a tensor here makes the device wait.

        Parameters
        ----------
        run : TrainingRun
            The training under way.
        """

    def on_epoch_end(self, run: TrainingRun) -> None:
        """After each epoch, when its record stands in the history.

        Once more for the last one where a training that was stopped is resumed.

        Parameters
        ----------
        run : TrainingRun
            The training under way.
        """

    def on_train_end(self, run: TrainingRun) -> None:
        """After the last epoch, when the state to keep is in place; also when training fails.

        Not called where this callback's own `on_train_begin` was not reached or has failed.

        Parameters
        ----------
        run : TrainingRun
            The finished training.
        """


class ProgressBar(Callback):
    """A tqdm bar over updates with the latest epoch's energies or probabilities beside it.

    Parameters
    ----------
    description : str
        Text before the bar.
    """

    def __init__(self, description: str = "fit") -> None:
        self.description = description
        self._bar: Any = None

    @override
    def on_train_begin(self, run: TrainingRun) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=run.steps_per_epoch * run.max_epochs,
            initial=run.steps_per_epoch * run.epoch,
            desc=self.description,
            unit="step",
        )

    @override
    def on_step_end(self, run: TrainingRun) -> None:
        self._bar.update(1)

    @override
    def on_epoch_end(self, run: TrainingRun) -> None:
        shown = {
            name.removeprefix("energy_"): f"{values[-1]:.3g}"
            for name, values in run.history.items()
            if name.startswith(("energy_", "probability_")) or name == "margin"
        }
        self._bar.set_postfix({"epoch": f"{run.epoch}/{run.max_epochs}", **shown})

    @override
    def on_train_end(self, run: TrainingRun) -> None:
        self._bar.close()
