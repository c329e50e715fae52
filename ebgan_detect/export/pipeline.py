"""Transformers of a scikit-learn Pipeline and the detector behind them, as one graph."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base import BaseDetector
from ebgan_detect.errors import ExportError, InvalidParameterError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Source", "prepend", "transformer_graphs"]

ML_OPSET = 3


@dataclass(frozen=True)
class Source:
    """What is exported: a fitted detector, and the fitted transformers before it.

    Attributes
    ----------
    transformers : tuple of (str, transformer)
        Steps of a Pipeline in order, without those that pass rows through; empty for a
        detector alone. They find columns by position, not by name.
    detector : BaseDetector
        The detector.
    """

    transformers: tuple[tuple[str, Any], ...]
    detector: BaseDetector

    @classmethod
    def of(cls, estimator: Any) -> Source:
        """Take a detector or a Pipeline apart.

        Parameters
        ----------
        estimator : BaseDetector or Pipeline
            Fitted; a Pipeline ends in a detector.

        Returns
        -------
        Source
            Its parts.

        Raises
        ------
        InvalidParameterError
            If it is neither.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        steps = estimator.steps if isinstance(estimator, Pipeline) else [("detector", estimator)]
        *before, (_, detector) = steps
        if not isinstance(detector, BaseDetector):
            raise InvalidParameterError(
                "detector must be a detector of this library or a Pipeline that ends in one, "
                f"got {type(detector).__name__}"
            )
        check_is_fitted(detector, "model_")
        steps = [step for step in before if step[1] not in (None, "passthrough")]
        return cls(tuple((name, _by_position(step)) for name, step in steps), detector)

    @property
    def first(self) -> Any:
        """What takes the raw rows.

        Returns
        -------
        estimator
            The first transformer, or the detector.
        """
        return self.transformers[0][1] if self.transformers else self.detector

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one raw row.

        Returns
        -------
        tuple of int
            The detector's own, or the width of the first transformer's table.
        """
        return (self.first.n_features_in_,) if self.transformers else self.detector.input_shape_

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the raw columns.

        Returns
        -------
        list of str or None
            None where the fitted rows had none.
        """
        names = getattr(self.first, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    def transform(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Raw rows as the detector gets them.

        Parameters
        ----------
        rows : ndarray of shape (n, *input_shape)
            Raw rows.

        Returns
        -------
        ndarray of shape (n, *detector.input_shape_)
            Transformed in float64; as they are where there is no transformer.
        """
        return _through([t.transform for _, t in self.transformers], rows)

    def sample(self, n: int) -> NDArray[Any]:
        """Raw rows to try an export on.

        Parameters
        ----------
        n : int
            Most rows.

        Returns
        -------
        ndarray of shape (<= n, *input_shape)
            Calibration rows, where transformers can undo what they did; else noise of many
            magnitudes, as behind a KernelPCA that was fitted without its inverse, and
            categories that encoders know.
        """
        rows = np.asarray(self.detector._calibration_rows.values[:n])
        backwards = [t for _, t in reversed(self.transformers)]
        if all(hasattr(t, "inverse_transform") for t in backwards):
            with suppress(ValueError):  # such as NotFittedError: some have the method in vain
                return _through([t.inverse_transform for t in backwards], rows)
        rng, shape = np.random.default_rng(0), (len(rows), *self.input_shape)
        noise = rng.normal(size=shape) * 10 ** rng.uniform(-2, 8, (len(rows), 1))
        for column, categories in _categories(self.first):
            noise[:, column] = rng.choice(categories, len(rows))
        return noise

    def whole(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows with whole numbers where encoders look for categories, known or unknown.

        Parameters
        ----------
        rows : ndarray of shape (n, *input_shape)
            Raw rows.

        Returns
        -------
        ndarray of shape (n, *input_shape)
            A copy.
        """
        rows = rows.copy()
        columns = [column for column, _ in _categories(self.first)]
        rows[:, columns] = np.rint(rows[:, columns])
        return rows


def _categories(transformer: Any) -> Iterator[tuple[int, Any]]:
    """Columns that reach an encoder as they are, and the categories that it knows."""
    if isinstance(transformer, Pipeline):
        yield from _categories(transformer.steps[0][1])
    elif isinstance(transformer, ColumnTransformer):
        for _, part, columns in transformer.transformers_:
            numbers = np.arange(transformer.n_features_in_)[columns]
            for column, categories in _categories(part):
                yield int(numbers[column]), categories
    else:
        yield from enumerate(getattr(transformer, "categories_", ()))


def _by_position(transformer: Any) -> Any:
    """The same transformer, its columns numbered where names chose them: a graph has no names."""
    if isinstance(transformer, Pipeline):
        changed = copy.copy(transformer)
        changed.steps = [(name, _by_position(step)) for name, step in transformer.steps]
        return changed
    if not (isinstance(transformer, ColumnTransformer) and hasattr(transformer, "transformers_")):
        return transformer
    names = list(getattr(transformer, "feature_names_in_", range(transformer.n_features_in_)))
    changed = copy.copy(transformer)
    changed.transformers_ = [
        (name, _by_position(part), _positions(columns, names))
        for name, part, columns in transformer.transformers_
    ]
    return changed


def _positions(columns: Any, names: list[Any]) -> Any:
    """Numbers of columns that a ColumnTransformer chose, by name, by mask or from the end."""
    if isinstance(columns, str):
        return names.index(columns)
    if isinstance(columns, slice):
        if not isinstance(columns.stop, str) and not isinstance(columns.start, str):
            return columns
        first = 0 if columns.start is None else names.index(columns.start)
        last = len(names) - 1 if columns.stop is None else names.index(columns.stop)
        return slice(first, last + 1, columns.step)  # a slice of names holds its end
    listed = list(columns) if np.ndim(columns) else columns
    if np.ndim(columns) and listed and all(isinstance(c, str) for c in listed):
        return [names.index(c) for c in listed]
    return np.arange(len(names))[listed].tolist() if np.size(listed) else []


def _through(functions: Sequence[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Apply functions of fitted transformers in turn, in float64."""
    with warnings.catch_warnings():
        # They may know column names; the columns of a file's input have but their order.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        for function in functions:
            rows = np.asarray(function(rows.astype(np.float64)))
    return rows


def transformer_graphs(source: Source, opset: int) -> list[ModelProto]:
    """Convert the transformers, each in float64.

    Parameters
    ----------
    source : Source
        What is exported.
    opset : int
        Opset to write.

    Returns
    -------
    list of ModelProto
        One graph for each transformer, its names prefixed by its place.

    Raises
    ------
    ExportError
        If a step replaces nan, or skl2onnx cannot convert it.
    """
    graphs = []
    for k, (name, transformer) in enumerate(source.transformers):
        try:
            _check_encoders(transformer)
            if _replaces_nan(transformer):
                raise ValueError("it replaces nan, to which a file always answers energy=inf")
            graphs.append(_converted(transformer, f"step{k}.", opset))
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"Pipeline step {name!r} ({type(transformer).__name__}) cannot be exported: "
                f"{reason}; apply it to the rows before the Pipeline gets them"
            ) from error
    return graphs


def _parts(transformer: Any) -> list[Any]:
    """Transformers that one is made of."""
    if isinstance(transformer, ColumnTransformer):
        parts = [part for _, part, _ in transformer.transformers_]
    elif isinstance(transformer, Pipeline):
        parts = [part for _, part in transformer.steps]
    elif isinstance(transformer, FeatureUnion):
        parts = [part for _, part in transformer.transformer_list]
    else:
        return []
    return [part for part in parts if hasattr(part, "transform")]


def _check_encoders(transformer: Any) -> None:
    """Refuse encoders that refuse categories: a file cannot refuse one row of a batch."""
    for part in _parts(transformer):
        _check_encoders(part)
    if isinstance(transformer, OneHotEncoder | OrdinalEncoder):
        if transformer.handle_unknown == "error":
            raise ValueError(
                "it refuses unknown categories, which a file cannot do row by row (set its "
                "handle_unknown)"
            )
        for known in transformer.categories_:
            if known.dtype.kind not in "iuf" or not (known == np.rint(known)).all():
                raise ValueError(f"its categories must be whole numbers, got {known[:5].tolist()}")


def _replaces_nan(transformer: Any) -> bool:
    """Whether a transformer makes numbers of nan, as an imputer does; encoders do by the way."""
    if parts := _parts(transformer):
        return any(map(_replaces_nan, parts))
    if isinstance(transformer, OneHotEncoder | OrdinalEncoder):
        return False
    row = np.full((1, transformer.n_features_in_), np.nan)
    try:
        return bool(np.isfinite(_through([transformer.transform], row)).any())
    except ValueError:  # in most, scikit-learn's own check refuses nan
        return False


def _converted(transformer: Any, prefix: str, opset: int) -> ModelProto:
    """One transformer as a valid graph."""
    from onnx.checker import check_model
    from onnx.compose import add_prefix
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    graph = convert_sklearn(
        transformer,
        name="transformer",
        initial_types=[("input", DoubleTensorType([None, transformer.n_features_in_]))],
        target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
    )
    _state_opsets(graph, opset)
    check_model(graph, full_check=True)
    return add_prefix(graph, prefix)


def _state_opsets(graph: ModelProto, opset: int) -> None:
    """Name each domain in use once: skl2onnx states the oldest opset that knows its nodes."""
    from onnx.helper import make_opsetid

    domains = {node.domain for node in graph.graph.node} - {""}
    del graph.opset_import[:]
    graph.opset_import.append(make_opsetid("", opset))
    graph.opset_import.extend(make_opsetid(domain, ML_OPSET) for domain in sorted(domains))


def prepend(transformers: Sequence[ModelProto], detector: ModelProto) -> ModelProto:
    """Join transformers and detector to one graph that takes float32 rows.

    A transformer may clip infinity, yet the detector must see it: ``x - x``, which is 0
    for a number and nan for all else, goes past the transformers and is added behind them.

    Parameters
    ----------
    transformers : sequence of ModelProto
        From `transformer_graphs`, one or more.
    detector : ModelProto
        Takes float64 rows.

    Returns
    -------
    ModelProto
        The joined graph, its input and outputs named as the detector's.
    """
    from onnx.compose import add_prefix, merge_models
    from onnx.parser import parse_model

    opset = max(entry.version for entry in detector.opset_import if not entry.domain)
    header = f'<ir_version: {detector.ir_version}, opset_import: ["": {opset}]>'
    n_raw, n = (_width(graph) for graph in (transformers[0], detector))
    joined = parse_model(f"""{header}
        raw (float[batch, {n_raw}] input) => (double[batch, {n_raw}] rows, double[batch, 1] zero)
        {{
            rows = Cast <to = 11> (input)
            difference = Sub (rows, rows)
            columns = Constant <value_ints = [1]> ()
            zero = ReduceSum (difference, columns)
        }}""")
    last = parse_model(f"""{header}
        last (double[batch, {n}] transformed, double[batch, 1] nothing) => (double[batch, {n}] sum)
        {{
            exact = Cast <to = 11> (transformed)
            sum = Add (exact, nothing)
        }}""")
    output = "rows"
    for graph in transformers:
        graph.ir_version = detector.ir_version
        joined = merge_models(joined, graph, [(output, graph.graph.input[0].name)])
        output = graph.graph.output[0].name
    joined = merge_models(joined, last, [(output, "transformed"), ("zero", "nothing")])
    detector = add_prefix(detector, "detector.", rename_outputs=False)
    joined = merge_models(joined, detector, [("sum", "detector.input")])
    _state_opsets(joined, opset)
    return joined


def _width(graph: ModelProto) -> int:
    """Number of columns that a graph takes."""
    return int(graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
