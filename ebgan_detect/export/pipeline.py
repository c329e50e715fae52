"""scikit-learn transformers before a detector, in the same graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
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
        detector alone.
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
        return cls(tuple(step for step in before if step[1] not in (None, "passthrough")), detector)

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
        return self._through([t.transform for _, t in self.transformers], rows)

    def sample(self, n: int) -> NDArray[Any]:
        """Raw rows to try an export on.

        Parameters
        ----------
        n : int
            Most rows.

        Returns
        -------
        ndarray of shape (<= n, *input_shape)
            Calibration rows, where transformers can undo what they did; else noise.
        """
        rows = np.asarray(self.detector._calibration_rows.values[:n])
        backwards = [t for _, t in reversed(self.transformers)]
        if all(hasattr(t, "inverse_transform") for t in backwards):
            return self._through([t.inverse_transform for t in backwards], rows)
        return np.random.default_rng(0).normal(size=(len(rows), *self.input_shape))

    def _through(self, functions: Sequence[Any], rows: NDArray[Any]) -> NDArray[Any]:
        """Apply functions of transformers in turn."""
        with warnings.catch_warnings():
            # They may know column names; their order is that of the file's input.
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
        One graph for each transformer, prefixed by its place; empty where there is none.

    Raises
    ------
    ExportError
        If skl2onnx cannot convert a step.
    """
    if not source.transformers:
        return []
    import onnx.compose
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    graphs = []
    for k, (name, transformer) in enumerate(source.transformers):
        rows = DoubleTensorType([None, transformer.n_features_in_])
        try:
            graph = convert_sklearn(
                transformer,
                name="transformer",
                initial_types=[("input", rows)],
                target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
            )
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"Pipeline step {name!r} ({type(transformer).__name__}) cannot be exported: "
                f"{reason}; apply it before the Pipeline"
            ) from error
        graphs.append(onnx.compose.add_prefix(graph, f"step{k}."))
    return graphs


def prepend(graphs: Sequence[ModelProto], detector: ModelProto) -> ModelProto:
    """Join transformers and detector to one graph of float32 rows.

    A row that is not finite stays so: transformers may clip or replace such values, and
    the detector must still see them.

    Parameters
    ----------
    graphs : sequence of ModelProto
        From `transformer_graphs`, one or more.
    detector : ModelProto
        Takes float64 rows.

    Returns
    -------
    ModelProto
        The joined graph, its input and outputs named as the detector's.

    Raises
    ------
    ExportError
        If the graphs do not fit together.
    """
    import onnx.compose
    import onnx.parser

    def parse(text: str) -> ModelProto:
        opset = detector.opset_import[0].version
        head = f'<ir_version: {detector.ir_version}, opset_import: ["": {opset}]>'
        return onnx.parser.parse_model(head + text)

    def align(graph: ModelProto) -> ModelProto:
        # skl2onnx states the oldest opset that knows the nodes; they mean the same here.
        graph.ir_version = detector.ir_version
        used = {node.domain for node in graph.graph.node} - {""}
        del graph.opset_import[:]
        graph.opset_import.extend(detector.opset_import)
        graph.opset_import.extend(onnx.helper.make_opsetid(d, ML_OPSET) for d in sorted(used))
        return graph

    def width(value: Any) -> int:
        return int(value.type.tensor_type.shape.dim[1].dim_value)

    n = width(graphs[0].graph.input[0])
    model = parse(f"""
        raw (float[batch, {n}] input) => (double[batch, {n}] rows, double[batch, 1] zero) {{
            rows = Cast<to = 11>(input)
            difference = Sub(rows, rows)
            axis = Constant<value = int64[1] {{1}}>()
            zero = ReduceSum(difference, axis)
        }}""")
    last = "rows"
    try:
        for graph in graphs:
            (into,), (out,) = graph.graph.input, graph.graph.output
            io_map = [(last, into.name)]
            model = onnx.compose.merge_models(model, align(graph), io_map)
            last = out.name
        n = width(detector.graph.input[0])
        join = parse(f"""
            join (double[batch, {n}] answer, double[batch, 1] nothing)
                => (double[batch, {n}] sum) {{
                wide = Cast<to = 11>(answer)
                sum = Add(wide, nothing)
            }}""")
        model = onnx.compose.merge_models(model, join, [(last, "answer"), ("zero", "nothing")])
        detector = onnx.compose.add_prefix(detector, "detector.", rename_outputs=False)
        return onnx.compose.merge_models(model, detector, [("sum", "detector.input")])
    except Exception as error:
        raise ExportError(f"transformers and detector do not fit together: {error}") from error
