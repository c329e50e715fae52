"""Proof at write time: the file's answers beside the estimator's, on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebgan_detect.data import Rows
from ebgan_detect.errors import ExportError
from ebgan_detect.export.pipeline import Source
from ebgan_detect.interchange import INPUT
from ebgan_detect.model import EnergyModel
from ebgan_detect.objectives import VAEObjective

__all__ = ["rescore"]

SAMPLE_ROWS, SAMPLE_VALUES = 64, 2**21
"""Most calibration rows to try, and most values in them: large images take much memory."""
TOLERANCE = 1e-5
"""Largest error of an energy, relative to its size; to a typical size too if it may be negative."""
ROUNDINGS = 4
"""Float32 roundings of a scaled value that two kernels may differ by: where rows are
reconstructed almost exactly, these are all that is left of the energy."""


@dataclass(frozen=True)
class Expected:
    """What the estimator answers.

    Attributes
    ----------
    energy, tolerance : ndarray of shape (n,), float64
        Energies, and how far from them an answer may lie.
    decision : ndarray of shape (n,), float64
        Distances from the threshold.
    """

    energy: NDArray[np.float64]
    tolerance: NDArray[np.float64]
    decision: NDArray[np.float64]

    @classmethod
    def of(cls, source: Source, rows: NDArray[Any]) -> Expected:
        """Score rows with the estimator, on the CPU.

        Parameters
        ----------
        source : Source
            What was exported.
        rows : ndarray of shape (n, *input_shape)
            Finite raw rows.

        Returns
        -------
        Expected
            Its answers.
        """
        model = source.detector.model_.portable()
        cpu = torch.device("cpu")
        inner = Rows(source.transform(rows))
        energy = torch.cat(list(model.stream(inner, model, cpu))).numpy()
        scaled = torch.cat(list(model.stream(inner, model.scale, cpu)))
        mean_square = np.square(scaled.flatten(1).numpy(), dtype=np.float64).mean(axis=1)
        if model.complexity is not None:
            # What multiplies an energy multiplies its errors.
            mean_square *= model.complexity(scaled).numpy()
        magnitude = np.abs(energy)
        if source.detector.calibration_energies_[0] < 0:
            # What is the difference of larger numbers has no relative error near 0.
            magnitude = magnitude + np.median(np.abs(source.detector.calibration_energies_))
        rounding = 2 * ROUNDINGS * np.finfo(np.float32).eps * np.sqrt(magnitude * mean_square)
        tolerance = TOLERANCE * magnitude + rounding / math.sqrt(2 * _least_variance(model))
        return cls(energy, tolerance, -energy - source.detector.offset_)


def _least_variance(model: EnergyModel) -> float:
    """Variance that squared errors are divided by twice; 1/2 where they are the energy."""
    games = [game for game in model.games() if isinstance(game, VAEObjective)]
    return min((float(g.variance) for g in games if g.likelihood == "gaussian"), default=0.5)


def rescore(content: bytes, source: Source, dtype: torch.dtype) -> None:
    """Refuse a file that does not score as its estimator does.

    Calibration rows and distorted ones are scored in one batch, with a row of nan among
    them where the input allows one, and alone.

    Parameters
    ----------
    content : bytes
        The file.
    source : Source
        What was exported.
    dtype : dtype
        Type of the input.

    Raises
    ------
    ExportError
        If onnxruntime cannot run the file, or an answer differs.
    """
    limit = max(1, SAMPLE_VALUES // math.prod(source.input_shape))
    values = source.sample(min(SAMPLE_ROWS, limit)).astype(np.float64)
    rows = torch.from_numpy(np.concatenate([values, values[..., ::-1]])).to(dtype).numpy()
    rows = rows[np.isfinite(rows).reshape(len(rows), -1).all(axis=1)]
    if not len(rows):
        raise ExportError(
            f"the fitted rows must be finite as {dtype} for the file to take such, got none "
            "that is; fit on smaller values"
        )
    run = _runner(content)
    expected = Expected.of(source, rows)
    if rows.dtype.kind == "f":
        answers = run(np.concatenate([rows, np.full_like(rows[:1], np.nan)]))
        if not (answers["energy"][-1] == np.inf and answers["label"][-1] == -1):
            raise ExportError(
                "the ONNX file must answer nan with energy=inf and label=-1, got "
                f"energy={answers['energy'][-1]} and label={answers['label'][-1]}"
            )
        _compare({name: values[:-1] for name, values in answers.items()}, expected)
    else:
        _compare(run(rows), expected)
    alone = Expected(expected.energy[:1], expected.tolerance[:1], expected.decision[:1])
    _compare(run(rows[:1]), alone)


def _runner(content: bytes) -> Any:
    """A function from rows to named answers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime cannot load the ONNX file: {error}") from error
    names = [output.name for output in session.get_outputs()]

    def run(rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        try:
            answers = session.run(None, {INPUT: rows})
        except Exception as error:
            raise ExportError(
                f"onnxruntime cannot run the ONNX file on {len(rows)} rows: {error}"
            ) from error
        return dict(zip(names, answers, strict=True))

    return run


def _compare(answers: dict[str, NDArray[Any]], expected: Expected) -> None:
    """Refuse energies and labels that differ."""
    energy = answers["energy"].astype(np.float64)
    finite = np.isfinite(expected.energy)
    error = np.abs(energy - np.where(finite, expected.energy, 0.0))
    wrong = np.where(finite, ~(error <= expected.tolerance), energy != np.inf)
    if wrong.any():
        raise ExportError(
            "the ONNX file must score as the estimator does, got energy "
            f"{energy[wrong][0]:.9g} in place of {expected.energy[wrong][0]:.9g} in a batch of "
            f"{len(energy)}; a network or transformer acts differently outside Python"
        )
    wrong = (answers["label"] == 1) != (expected.decision >= 0)
    wrong &= np.abs(expected.decision) > expected.tolerance
    if wrong.any():
        raise ExportError(
            "the ONNX file must label as the estimator does, got another label at energy "
            f"{expected.energy[wrong][0]:.9g}"
        )
