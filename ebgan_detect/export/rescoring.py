"""Proof at write time: the file's answers beside the estimator's, on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebgan_detect.data import Rows
from ebgan_detect.errors import ExportError
from ebgan_detect.export.graph import TABLE_SIDE
from ebgan_detect.export.pipeline import Source
from ebgan_detect.export.tolerance import Limits, scored
from ebgan_detect.interchange import INPUT
from ebgan_detect.thresholds import conformal_p_values, p_value_table

__all__ = ["rescore"]

SAMPLE_ROWS, SAMPLE_VALUES = 64, 2**21
"""Most calibration rows to try, and most values in them: large images take much memory."""
LEAST_STEP = 1e-6
"""Relative difference of p-values that float32 may make."""


@dataclass(frozen=True)
class Expected:
    """What the estimator answers.

    Attributes
    ----------
    energy, tolerance : ndarray of shape (n,), float64
        Energies, and how far from them an answer may lie.
    decision, p_value : ndarray of shape (n,), float64
        Distances from the threshold, and p-values.
    """

    energy: NDArray[np.float64]
    tolerance: NDArray[np.float64]
    decision: NDArray[np.float64]
    p_value: NDArray[np.float64]

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

        Raises
        ------
        ExportError
            If a transformer refuses the rows.
        """
        detector = source.detector
        try:
            transformed = source.transform(rows)
        except ValueError as error:
            raise ExportError(
                f"transformers must take rows made for the trial, got: {error}; apply them to the "
                "rows before the Pipeline gets them"
            ) from error
        energy, tolerance = scored(detector, Rows(transformed))
        p_value = conformal_p_values(detector.calibration_energies_, energy)
        return cls(energy, tolerance, -energy - detector.offset_, p_value)

    def first(self, n: int) -> Expected:
        """The answers to the first rows.

        Parameters
        ----------
        n : int
            Their number.

        Returns
        -------
        Expected
            Their answers.
        """
        return Expected(*(getattr(self, entry.name)[:n] for entry in fields(self)))


def rescore(content: bytes, source: Source, limits: Limits, dtype: torch.dtype) -> None:
    """Refuse a file that does not score as its estimator does.

    Calibration rows and distorted ones are scored in one batch, with a row of nan among
    them where the input allows one, and alone. Energies, labels and p-values are compared:
    no answer to a calibration row may be further from normal than the estimator's.

    Parameters
    ----------
    content : bytes
        The file.
    source : Source
        What was exported.
    limits : Limits
        What the file compares its energies with.
    dtype : dtype
        Type of the input.

    Raises
    ------
    ExportError
        If onnxruntime cannot run the file, or an answer differs.
    """
    limit = max(1, SAMPLE_VALUES // math.prod(source.input_shape))
    values = source.sample(min(SAMPLE_ROWS, limit)).astype(np.float64)
    both = source.whole(np.concatenate([values, values[..., ::-1]]))
    rows = torch.from_numpy(both).to(dtype).numpy()
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    # Rows of a later calibration may be no whole numbers: rounded, they are other rows.
    is_other = dtype == torch.uint8 and not np.array_equal(rows[: len(values)], values)
    n_known = 0 if source.transformers or is_other else int(finite[: len(values)].sum())
    rows = rows[finite]
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
        answers = {name: values[:-1] for name, values in answers.items()}
    else:
        answers = run(rows)
    _compare_energies(answers["energy"], expected)
    _compare_decisions(answers, expected, limits)
    known = {name: values[:n_known] for name, values in answers.items()}
    _compare_known(known, expected.first(n_known))
    alone = run(rows[:1])
    _compare_energies(alone["energy"], expected.first(1))
    _compare_decisions(alone, expected.first(1), limits)


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


def _compare_energies(answer: NDArray[Any], expected: Expected) -> None:
    """Refuse energies that differ."""
    energy = answer.astype(np.float64)
    finite = np.isfinite(expected.energy)
    error = np.abs(energy - np.where(finite, expected.energy, 0.0))
    wrong = np.where(finite, ~(error <= expected.tolerance), energy != np.inf)
    if wrong.any():
        raise ExportError(
            "the ONNX file must score as the estimator does, got energy "
            f"{energy[wrong][0]:.9g} in place of {expected.energy[wrong][0]:.9g} in a batch of "
            f"{len(energy)}; a network or transformer acts differently outside Python"
        )


def _compare_decisions(
    answers: dict[str, NDArray[Any]], expected: Expected, limits: Limits
) -> None:
    """Refuse labels and p-values that the limits do not lead to, wherever energies may lie."""
    finite = np.isfinite(expected.energy)
    energy, tolerance = expected.energy[finite], expected.tolerance[finite]
    label, p_value = answers["label"][finite], answers["p_value"][finite].astype(np.float64)
    low, high = energy - tolerance, energy + tolerance
    wrong = np.where(label == 1, low > limits.threshold, high <= limits.threshold)
    if wrong.any():
        raise ExportError(
            "the ONNX file must label as the estimator does, got another label at energy "
            f"{energy[wrong][0]:.9g}"
        )
    known, p_values = p_value_table(limits.energies, TABLE_SIDE**2)
    largest, least = (p_values[np.searchsorted(known, ends)] for ends in (low, high))
    wrong = (p_value > largest * (1 + LEAST_STEP)) | (p_value < least * (1 - LEAST_STEP))
    if wrong.any():
        raise ExportError(
            "the ONNX file must give the estimator's p-values, got "
            f"{p_value[wrong][0]:.9g} at energy {energy[wrong][0]:.9g}"
        )


def _compare_known(answers: dict[str, NDArray[Any]], expected: Expected) -> None:
    """Refuse outliers and p-values among calibration rows that the estimator does not have."""
    wrong = (answers["label"] != 1) & (expected.decision >= 0)
    wrong |= answers["p_value"] < expected.p_value * (1 - LEAST_STEP)
    if wrong.any():
        raise ExportError(
            "the ONNX file must take calibration rows for no less normal than the estimator "
            f"does, got label {answers['label'][wrong][0]} and p-value "
            f"{answers['p_value'][wrong][0]:.9g} at energy {expected.energy[wrong][0]:.9g}"
        )
