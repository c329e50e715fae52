"""Going on with a detector: what must stay as it was, where training is kept, and failures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.base.scoring import ScoringDetector
from ebgan_detect.data import Rows
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.files import check_writable
from ebgan_detect.parameters import Rule, described
from ebgan_detect.torch_state import usual_defaults
from ebgan_detect.training import Checkpoint

__all__ = ["ResumableDetector"]


class ResumableDetector(ScoringDetector):
    """Adds what further fits, resumed ones and failed ones have to keep."""

    _free_on_resume: ClassVar[frozenset[str]] = frozenset(
        {
            "callbacks",
            "checkpoint",
            "contamination",
            "device",
            "false_alarm_rate",
            "random_state",
            "verbose",
            "warm_start",
        }
    )
    """What may differ where an interrupted training is taken up from its checkpoint."""
    _free_later: ClassVar[frozenset[str]] = _free_on_resume | {
        "batch_size",
        "keep_state",
        "learning_rate",
        "learning_rate_schedule",
        "max_epochs",
        "n_estimators",
    }
    """What may change between fits that go on; the first one has settled all else."""

    _rules: ClassVar[Mapping[str, Rule]]
    n_estimators: int
    checkpoint: Any
    history_: dict[str, list[float]]
    _seed: int
    _settled: dict[str, Any]

    def _settle(self) -> None:
        """Remember the parameters that further fits cannot change."""
        given = self._given().items()
        self._settled = {name: value for name, value in given if name not in self._free_later}

    def _given(self) -> dict[str, Any]:
        """The parameters; a list as a tuple, lest it changes later.

        A subclass's constructor may settle some and take others of its own.
        """
        given = {name: getattr(self, name) for name in self._rules}
        return {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (given | self.get_params(deep=False)).items()
        }

    def _check_settled(self) -> None:
        """Refuse parameters that a further fit would have to ignore."""
        problems = [
            f"{name} must stay {value!r} while the detector goes on, got {getattr(self, name)!r}"
            for name, value in self._settled.items()
            if value is not getattr(self, name)
            and described(value) != described(getattr(self, name))
        ]
        if self.n_estimators < len(self.model_.members):
            problems.append(
                f"n_estimators must be at least the {len(self.model_.members)} members that are "
                f"trained, got {self.n_estimators}"
            )
        if problems:
            remedy = "fit a clone of the detector, or with warm_start=False"
            raise InvalidParameterError("\n".join(problems) + f"; {remedy}")

    @abstractmethod
    def _begin(self, X: Any, *, continued: bool) -> tuple[Rows, NDArray[np.float64]]:
        """Check everything before any work, and place the rows."""

    @contextmanager
    def _begun(
        self, X: Any, *, continued: bool, trains: bool = True
    ) -> Iterator[tuple[Rows, NDArray[np.float64]]]:
        """Checked rows and their positions; everything is put back if a check or the fit fails.

        Optimisers and replay then start anew, unless it was a check or nothing `trains`.
        """
        before = dict(vars(self))
        try:
            with usual_defaults():
                begun = self._begin(X, continued=continued)
                if trains and "model_" in before:
                    before["model_"] = before["model_"].portable()
                    before["history_"] = {k: list(v) for k, v in before["history_"].items()}
                yield begun
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _check_checkpoint(self) -> None:
        """Make the folder, and refuse one that cannot be written."""
        if self.checkpoint is None:
            return
        path = self._checkpoint_path(0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_writable(path)
        except (OSError, ValueError) as error:
            raise InvalidParameterError(
                f"checkpoint must be a folder that can be written, got {self.checkpoint!r} "
                f"({error}); name another"
            ) from error

    def _checkpoint_path(self, k: int) -> Path:
        """File of one member's state."""
        return Path(self.checkpoint) / f"member-{k}.checkpoint"

    def _checkpoint(self, k: int, fingerprint: str) -> Checkpoint | None:
        """One member's checkpoint, bound to the parameters and rows that it belongs to."""
        if self.checkpoint is None:
            return None
        parameters = {
            name: described(value)
            for name, value in self._given().items()
            if name not in self._free_on_resume
        }
        settings = {"seed": self._seed, "rows": fingerprint, **parameters}
        return Checkpoint(self._checkpoint_path(k), settings)
