"""The model as Triton's Python backend runs it: an ONNX Runtime session.

A copy of this file lies beside every exported ``model.onnx``. It runs inside the server, whose
environment holds NumPy and ONNX Runtime and nothing else.
"""

import json
import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """Runs the graph once for all the requests that the server hands over together."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph of one version."""
        config = json.loads(args["model_config"])
        folder = os.path.join(args["model_repository"], args["model_version"])  # noqa: PTH118
        options = onnxruntime.SessionOptions()
        threads = config["parameters"]["intra_op_thread_count"]["string_value"]
        options.intra_op_num_threads = int(threads)
        options.inter_op_num_threads = 1
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            device = {"device_id": args["model_instance_device_id"]}
            providers.insert(0, ("CUDAExecutionProvider", device))
        self.session = onnxruntime.InferenceSession(
            os.path.join(folder, "model.onnx"),  # noqa: PTH118
            options,
            providers=providers,
        )
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request, together if possible; one that fails does not fail the others."""
        try:
            return self._answer(requests)
        except Exception as error:
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))]
            return [response for request in requests for response in self.execute([request])]

    def _answer(self, requests: list[Any]) -> list[Any]:
        """Run all rows at once and share out the results."""
        rows = [pb_utils.get_input_tensor_by_name(r, "input").as_numpy() for r in requests]
        wanted = [set(request.requested_output_names()) for request in requests]
        names = [name for name in self.outputs if any(name in some for some in wanted)]
        together = rows[0] if len(rows) == 1 else np.concatenate(rows)
        results = dict(zip(names, self.session.run(names, {"input": together}), strict=True))
        responses, start = [], 0
        for request_rows, some in zip(rows, wanted, strict=True):
            stop = start + len(request_rows)
            tensors = [pb_utils.Tensor(k, v[start:stop]) for k, v in results.items() if k in some]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses
