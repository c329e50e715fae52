"""One connection to a server: what gRPC and HTTP have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.errors import ServerError
from ebgan_detect.interchange import INPUT, OUTPUTS
from ebgan_detect.serving.region import Region
from ebgan_detect.serving.settings import Settings

__all__ = ["Answer", "TimedOutError", "Transport", "UnavailableError"]

TRITON_TYPES = {"float32": "FP32", "uint8": "UINT8"}


class UnavailableError(ServerError):
    """The server is not there, or says that it cannot answer now: another try may succeed."""


class TimedOutError(ServerError):
    """The server did not answer in time."""


@dataclass(frozen=True)
class Answer:
    """What came back for some rows.

    Attributes
    ----------
    version : str
        Version of the model that answered.
    values : dict of str to ndarray of shape (n,)
        One array for each output asked for.
    """

    version: str
    values: dict[str, NDArray[Any]]


class Transport(ABC):
    """A connection, used by one thread at a time.

    Parameters
    ----------
    library : module
        ``tritonclient.grpc`` or ``tritonclient.http``.
    client : object
        Its client.
    settings : Settings
        Which model, and how to ask it.
    """

    def __init__(self, library: ModuleType, client: Any, settings: Settings) -> None:
        self.library = library
        self.client = client
        self.settings = settings

    @abstractmethod
    def config(self, timeout: float) -> Mapping[str, Any]:
        """Ask for the model's configuration.

        Parameters
        ----------
        timeout : float
            Longest wait [s].

        Returns
        -------
        mapping
            As JSON has it.
        """

    @abstractmethod
    def ask(self, method: str, *arguments: Any, timeout: float, **options: Any) -> Any:
        """Call a method of the client under a time limit.

        Parameters
        ----------
        method : str
            Its name.
        *arguments : object
            Its arguments.
        timeout : float
            Longest wait [s].
        **options : object
            Its keyword arguments.

        Returns
        -------
        object
            What it returned.

        Raises
        ------
        UnavailableError
            If another try may succeed.
        TimedOutError
            If the time is over.
        ServerError
            If the server refuses.
        """

    @abstractmethod
    def answered_by(self, result: Any) -> str:
        """Version of the model that gave a result.

        Parameters
        ----------
        result : object
            The client's result.

        Returns
        -------
        str
            The version.
        """

    def close(self) -> None:
        """End the connection."""
        self.client.close()

    def infer(
        self,
        rows: NDArray[Any],
        outputs: Sequence[str],
        *,
        region: Region | None,
        timeout: float,
    ) -> Answer:
        """Send rows and wait for their answers.

        Parameters
        ----------
        rows : ndarray of shape (n, *input_shape)
            Rows in the model's type.
        outputs : sequence of str
            Answers to ask for.
        region : Region or None
            Registered shared memory through which the rows go, if any.
        timeout : float
            Longest wait [s].

        Returns
        -------
        Answer
            One value of each kind for each row.

        Raises
        ------
        ServerError
            If the server refuses, is away, is too slow, or answers something else.
        """
        tensor = self.library.InferInput(INPUT, rows.shape, TRITON_TYPES[rows.dtype.name])
        if region is None:
            tensor.set_data_from_numpy(rows)
        else:
            region.write(rows)
            tensor.set_shared_memory(region.name, rows.nbytes)
        result = self.ask(
            "infer",
            self.settings.model,
            [tensor],
            self.settings.version,
            outputs=[self.library.InferRequestedOutput(name) for name in outputs],
            timeout=timeout,
        )
        values = {name: _checked(result, name, len(rows)) for name in outputs}
        return Answer(self.answered_by(result), values)


def _checked(result: Any, name: str, n: int) -> NDArray[Any]:
    """One output of a result, refused unless it holds one sensible value for each row."""
    try:
        values: NDArray[Any] | None = result.as_numpy(name)
    except (ValueError, TypeError, KeyError) as error:
        raise ServerError(f"the server's answer {name!r} cannot be read: {error}") from error
    if values is None:
        raise ServerError(f"the server's answer lacks {name!r}, which it was asked for")
    wanted = np.dtype(OUTPUTS[name])
    if values.shape != (n, 1) or values.dtype != wanted:
        raise ServerError(
            f"the server's answer {name!r} must have shape {(n, 1)} and type {wanted}, "
            f"got {values.shape} and {values.dtype}"
        )
    sensible = np.abs(values) == 1 if name == "label" else ~np.isnan(values)
    if not sensible.all():
        rule = "+1 or -1" if name == "label" else "no nan"
        raise ServerError(
            f"the server's answer {name!r} must be {rule}, got {values[~sensible][0]}; "
            "export the model again"
        )
    return values[:, 0]
