"""`BaseDetector`: parts and training. A detector adds its constructor and its game."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from ebgan_detect.base.calibration import CalibratedDetector, CalibrationRows
from ebgan_detect.base.fitting import MemberPlan, separation, train_members
from ebgan_detect.complexity import fit_complexity
from ebgan_detect.data import Rows
from ebgan_detect.distributed import current_group
from ebgan_detect.errors import (
    InputRangeWarning,
    InvalidInputError,
    TrainingHealthWarning,
    warn_caller,
)
from ebgan_detect.model import EnergyModel
from ebgan_detect.objectives import Objective
from ebgan_detect.parameters import (
    Rule,
    auto_or,
    check_parameters,
    flag,
    integer,
    one_of,
    real,
    seed,
)
from ebgan_detect.partition import Partition, Parts, part_sizes, row_positions
from ebgan_detect.randomness import random_source
from ebgan_detect.scaling import SCALINGS, dwarfed_columns, fit_scaler
from ebgan_detect.thresholds import rows_needed
from ebgan_detect.training import (
    PRECISIONS,
    SCHEDULES,
    Callback,
    Checkpoint,
    Trainer,
    TrainingRun,
    resolve_device,
    training_rows,
)

__all__ = ["BaseDetector"]

AVERAGE_DECAY = 0.998
UPDATES_TO_JUDGE = 500
"""Fewer updates than this say nothing about the health of a game."""
ROWS_TO_JUDGE = 2048
"""Validation rows that a criterion scores after every epoch, at most."""


class BaseDetector(CalibratedDetector):
    """What every detector of the library has in common.

    A subclass defines a keyword-only constructor that stores its parameters, `_defaults`,
    `_make_objective` and, for parameters of its own, more `_rules`.
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "n_estimators": integer(1),
        "max_epochs": auto_or(integer(1)),
        "batch_size": auto_or(integer(1)),
        "learning_rate": real(0, closed="()"),
        "learning_rate_schedule": one_of(*SCHEDULES),
        "keep_state": one_of("final", "average", "separation"),
        "validation_fraction": real(0, 1, closed="[)"),
        "calibration_fraction": real(0, 1, closed="[)"),
        "contamination": auto_or(real(0, 0.5, closed="(]")),
        "false_alarm_rate": real(0, 1, closed="()"),
        "random_state": seed(),
        "scaling": one_of(*SCALINGS),
        "precision": one_of("auto", *PRECISIONS),
        "checkpoint": Rule(
            lambda v: (
                v is None
                or (isinstance(v, str | os.PathLike) and v != "" and isinstance(os.fspath(v), str))
            ),
            "None or a folder",
        ),
        "callbacks": Rule(
            lambda v: (
                v is None
                or (isinstance(v, list | tuple) and all(isinstance(c, Callback) for c in v))
            ),
            "None or a list of Callback objects",
        ),
        "warm_start": flag(),
        "verbose": Rule(lambda v: isinstance(v, int) and v >= 0, "False, True or an int >= 0"),
    }
    n_iter_: int
    _annealed: bool = False
    """Whether the last training ended with a learning rate of 0."""
    _fitted_on_uint8: bool = False
    """Whether the rows of the first fit were uint8."""

    # --- what a subclass adds ---------------------------------------------------------------

    @abstractmethod
    def _defaults(self, *, is_image: bool) -> dict[str, Any]:
        """Values that stand behind `'auto'`, and other settings, by kind of input."""

    @abstractmethod
    def _make_objective(self, plan: MemberPlan) -> Objective:
        """Build one member's game."""

    # --- fitting ----------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Self:
        r"""Train on rows that are taken as normal, and calibrate.

        Until it is done, other threads cannot score: fit a clone, and swap them.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of numbers of shape (n, d), (n, h, w) or (n, c, h, w) [any unit]. uint8
            images count as 0...255. Rows are read several times, a Dataset of up to 2 GiB only
            once: the transforms of a larger one must give the same row each time.
        y : None
            Ignored; present for scikit-learn's interface.

        Returns
        -------
        self
            The fitted detector.

        Raises
        ------
        InvalidInputError
            If `X` cannot be used; nothing has been trained then.
        InvalidParameterError
            If parameters are outside their ranges; all are named at once.
        TrainingDivergedError
            If a loss became nan or infinite. An earlier fit is kept then, as after any failure.
        """
        continued = self.warm_start and hasattr(self, "model_")
        with self._begun(X, continued=continued) as (rows, positions):
            if not hasattr(self, "_partition"):
                self._partition = self._new_partition(positions)
            parts = self._divide(positions)
            self._train(rows, positions, parts, None, self.learning_rate_schedule)
            self._annealed = self.learning_rate_schedule != "constant"
            if len(parts.calibration):
                self._calibration_rows = CalibrationRows.read(rows, parts, positions)
                energies = self._energies(rows, parts.calibration)
            else:
                energies = self._energies(Rows(self._calibration_rows.values))
            conformal = self.contamination == "auto"
            self._calibrate(energies, of_all=None if conformal else self._energies(rows))
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one epoch on further rows, at a constant learning rate.

        The first call on an unfitted detector learns scaling, margin and the division into
        parts from its rows, so these should be typical. A row that calibrates in one call
        never trains in another, and counts in each. So all copies of a row that comes once in
        every call are in one part: where such rows are many, p-values hold only roughly. Where
        all rows are given again, they are too small by less than 1 / (n + 1), with n distinct
        calibration rows. A call without any row to train on only calibrates. After a `fit`
        that lowered its learning rate to 0, the rate is a tenth of `learning_rate`: at the
        full one a few steps undo what was learnt. What the first training schedules, such as a
        margin, stays at its end. A call that fails, or that Ctrl-C ends, leaves the detector
        as it was, its optimisers and replay empty as after `load`.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows, as in `fit`.
        y : None
            Ignored.

        Returns
        -------
        self
            The detector, with threshold and p-values recalibrated. A float `contamination`
            is taken among the calibration rows, since not all fitted rows are at hand. Of
            these up to 32,768, a random sample of all calls, are kept and scored anew.

        Raises
        ------
        InvalidInputError
            If `X` cannot be used.
        InvalidParameterError
            If parameters are outside their ranges.
        TrainingDivergedError
            If a loss became nan or infinite.
        """
        with self._begun(X, continued=hasattr(self, "model_")) as (rows, positions):
            if not hasattr(self, "_partition"):
                self._partition = self._partition_by_shares()
            parts = self._divide(positions)
            self._train(rows, positions, parts, 1, "constant")
            within = self._partition.calibration_below or 1.0
            before = getattr(self, "_calibration_rows", None)
            call = 1 if before is None else before.calls + 1
            kept = CalibrationRows.read(rows, parts, positions, call=call, within=within)
            kept = kept if before is None else before.merge(kept)
            self._calibration_rows = kept
            self._calibrate(self._energies(Rows(kept.values)))
        return self

    @override
    def _begin(self, X: Any, *, continued: bool) -> tuple[Rows, NDArray[np.float64]]:
        check_parameters({name: getattr(self, name) for name in self._rules}, self._rules)
        resolve_device(self.device)
        if continued:
            self._check_settled()
        rows = self._validate(X, reset=not continued)
        if not continued:
            self._check_checkpoint()
            for name in (
                "model_",
                "history_",
                "health_",
                "n_iter_",
                "_partition",
                "_calibration_rows",
                "_annealed",
            ):
                self.__dict__.pop(name, None)
            self._seed = self._draw_seed()
            self._fitted_on_uint8 = rows.is_uint8
            self._settle()
            given = self._given()
            self.settings_ = {
                name: given.get(name, default) if not _is_auto(given.get(name, "auto")) else default
                for name, default in self._defaults(is_image=len(self.input_shape_) > 1).items()
            }
        positions = row_positions(rows.arrays(), self._seed)
        if not current_group().all_have(positions.tobytes()):
            raise InvalidInputError("X must be the same on all processes that train together")
        return rows, positions

    def _new_partition(self, positions: NDArray[np.float64]) -> Partition:
        """Parts of exactly the sizes asked for; where rows are too few for that, by shares."""
        n_calibration, n_validation = part_sizes(
            len(positions),
            calibration_fraction=self.calibration_fraction,
            validation_fraction=self._validation_share(),
            rows_needed=rows_needed(self.false_alarm_rate),
        )
        if self.calibration_fraction and not n_calibration:
            return self._partition_by_shares()
        return Partition.choose(
            positions, n_calibration=n_calibration, n_validation=n_validation, seed=self._seed
        )

    def _partition_by_shares(self) -> Partition:
        """Parts whose sizes are left to chance, for rows that come a few at a time."""
        calibration = float(self.calibration_fraction)
        return Partition(self._seed, calibration, calibration + self._validation_share())

    def _draw_seed(self) -> int:
        """The seed of everything random in a fit; a checkpoint's where one is resumed."""
        seed = int(random_source(self.random_state).randint(2**31 - 1))
        if self.checkpoint is not None and self.random_state is None:
            found = Checkpoint(self._checkpoint_path(0), {}).read()
            seed = seed if found is None else int(found.settings["seed"])
        return current_group().agree(seed)

    def _divide(self, positions: NDArray[np.float64]) -> Parts:
        """The parts of these rows; where a part may not be empty, rows serve for both."""
        return self._partition.divide(positions).filled(
            training=not hasattr(self, "model_"),
            calibration=not hasattr(self, "_calibration_rows") or not self.calibration_fraction,
        )

    def _train(
        self,
        rows: Rows,
        positions: NDArray[np.float64],
        parts: Parts,
        epochs: int | None,
        schedule: str,
    ) -> None:
        """Train every member on the training part, if it has rows."""
        if not len(parts.training):
            return
        device = resolve_device(self.device)
        continued = hasattr(self, "model_")
        training = parts.training
        model = self.model_.to(device) if continued else self._new_model(rows, training, device)
        chunk_rows = model.chunk_rows(device)
        scaled = training_rows(rows, training, model.scale, device, chunk_rows=chunk_rows)
        judges = parts.validation[np.argsort(positions[parts.validation])[:ROWS_TO_JUDGE]]
        held_out = [model.scale(c) for c in rows.tensors(chunk_rows, device, np.sort(judges))]
        done = self.n_iter_ if continued else 0
        resumable = epochs is None and not continued
        fingerprint = sha256(positions.tobytes()).hexdigest()
        annealed = schedule == "constant" and self._annealed
        rate = float(self.learning_rate) * (0.1 if annealed else 1.0)
        runs = train_members(
            model,
            scaled,
            Trainer(
                max_epochs=self._epochs(len(training)) if epochs is None else epochs,
                batch_size=self._rows_in_batch(),
                learning_rate=rate,
                device=device,
                seed=self._seed,
                schedule=SCHEDULES[schedule],
                precision=self.settings_["precision"],
                average_decay=AVERAGE_DECAY if self.keep_state == "average" else 0.0,
                criterion=separation(torch.cat(held_out), self._seed) if held_out else None,
                callbacks=list(self.callbacks or ()),
            ),
            self._make_objective,
            n_members=self.n_estimators,
            seeds=lambda k: int(np.random.SeedSequence([self._seed, k, done]).generate_state(1)[0]),
            checkpoints=lambda k: self._checkpoint(k, fingerprint) if resumable else None,
            verbose=bool(self.verbose) and current_group().rank == 0,
        )
        self.model_ = model.eval()
        self._record(runs, done)

    def _new_model(
        self, rows: Rows, training: NDArray[np.intp], device: torch.device
    ) -> EnergyModel:
        """A model without members; scaling and usual complexity come from the training rows."""
        chunks = rows.arrays(rows=training)
        scaler = fit_scaler(chunks, self.input_shape_, self.scaling, is_uint8=rows.is_uint8)
        model = EnergyModel(scaler, [], self.input_shape_).to(device)
        some = np.linspace(0, len(training) - 1, min(len(training), ROWS_TO_JUDGE)).astype(int)
        scaled = map(model.scale, rows.tensors(model.chunk_rows(device), device, training[some]))
        exponent = self.settings_.get("complexity_exponent", 0.0)
        if exponent:
            model.complexity = fit_complexity(scaled, exponent)
            model.to(device)
        elif len(self.input_shape_) == 1 and self.scaling in ("auto", "standard"):
            self._warn_of_dwarfed(torch.cat(list(scaled)))
        return model

    def _warn_of_dwarfed(self, scaled: Tensor) -> None:
        """Warn of columns in which the networks would see little but a few values."""
        found = dwarfed_columns(scaled)
        if found:
            names = getattr(self, "feature_names_in_", range(self.n_features_in_))
            j = max(found, key=lambda column: found[column])
            n = len(found) - 1
            others = f", as in {n} other{'s' * (n > 1)}," if n else ""
            warn_caller(
                f"X must not have columns that a few values dwarf, got column {names[j]!r}, where"
                f"{others} the standard deviation is {found[j]:.3g} times what the middle half "
                "of the rows suggests: usual rows hardly differ in it when it is scaled; correct "
                "codes such as -9999, or transform it (sklearn.preprocessing.QuantileTransformer)",
                InputRangeWarning,
            )

    def _validation_share(self) -> float:
        """Validation rows are set aside only where a criterion needs them."""
        return float(self.validation_fraction) if self.keep_state == "separation" else 0.0

    def _epochs(self, n_training: int) -> int:
        """Resolve ``max_epochs='auto'``: the epochs that make about `max_updates` updates."""
        if not _is_auto(self.max_epochs):
            epochs: int = self.max_epochs
            return epochs
        steps = n_training // current_group().batch_rows(self._rows_in_batch(), n_training)
        updates: int = self.settings_["max_updates"]
        return max(1, round(updates / steps))

    def _rows_in_batch(self) -> int:
        """Resolve ``batch_size='auto'``; what is set after the first fit counts from then on."""
        batch_size = self.batch_size
        return int(self.settings_["batch_size"] if _is_auto(batch_size) else batch_size)

    def _record(self, runs: list[TrainingRun], done: int) -> None:
        """Append the runs to the history, and say whether each game was healthy."""
        history: dict[str, list[float]] = getattr(self, "history_", {})
        for k, run in enumerate(runs):
            columns: dict[str, list[float]] = {
                "member": [k] * len(run.history["epoch"]),
                **run.history,
            }
            before = history.get("member", []).count(k)  # fewer where it came later
            columns["epoch"] = [before + epoch for epoch in run.history["epoch"]]
            for name, values in columns.items():
                history.setdefault(name, []).extend(values)
        self.history_ = history
        self.n_iter_ = done + max(run.epoch for run in runs)
        updates = [run.epoch * run.steps_per_epoch for run in runs]
        if max(updates) < UPDATES_TO_JUDGE:
            verdict = f"not judged: {max(updates)} updates at a time, {UPDATES_TO_JUDGE} needed"
            self.health_ = getattr(self, "health_", verdict)
            return
        problems = [
            f"member {k}: {problem}"
            for k, run in enumerate(runs)
            if updates[k] >= UPDATES_TO_JUDGE and (problem := run.objective.diagnose(run.history))
        ]
        self.health_ = "; ".join(problems) or "healthy"
        if problems:
            warn_caller(self.health_, TrainingHealthWarning)


def _is_auto(value: Any) -> bool:
    """Whether a parameter is left to the library."""
    return isinstance(value, str) and value == "auto"
