"""One call of a user's: how much time it has, and which model must answer all of it."""

from __future__ import annotations

import threading
import time

from ebgan_detect.errors import ServerError
from ebgan_detect.serving.served import ServedModel
from ebgan_detect.serving.transport import TimedOutError

__all__ = ["Call", "ModelChangedError"]


class ModelChangedError(ServerError):
    """Another model answers than the one that the call began with."""


class Call:
    """What all requests of one call share.

    Parameters
    ----------
    deadline : float or None
        Time for the whole call [s], from now on.
    request_timeout : float
        Longest wait for one answer [s].

    Attributes
    ----------
    version : str or None
        Version of the model that has answered so far.
    """

    def __init__(self, deadline: float | None, request_timeout: float) -> None:
        self.deadline = deadline
        self.request_timeout = request_timeout
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._served: ServedModel | None = None
        self.version: str | None = None

    def time_left(self) -> float:
        """Time that the next request may take.

        Returns
        -------
        float
            Seconds, > 0.

        Raises
        ------
        TimedOutError
            If the deadline has passed.
        """
        if self.deadline is None:
            return self.request_timeout
        left = self._began + self.deadline - time.monotonic()
        if left <= 0:
            raise TimedOutError(f"the deadline of {self.deadline:g} s has passed")
        return min(left, self.request_timeout)

    def pause(self, seconds: float) -> bool:
        """Wait before another try.

        Parameters
        ----------
        seconds : float
            How long, unless the call ends before.

        Returns
        -------
        bool
            Whether another try makes sense.

        Raises
        ------
        TimedOutError
            If the deadline passes meanwhile.
        """
        return not self._stopped.wait(min(seconds, self.time_left())) and self.time_left() > 0

    def stop(self) -> None:
        """Let no further try begin."""
        self._stopped.set()

    def expect(self, served: ServedModel) -> ServedModel:
        """Note the model that answers, or refuse another one.

        Parameters
        ----------
        served : ServedModel
            What the server says now.

        Returns
        -------
        ServedModel
            The same.

        Raises
        ------
        ModelChangedError
            If it is not the model that the call began with.
        """
        if self._served is None:
            self._served = served
        elif not self._served.may_be(served):
            raise ModelChangedError("another model is served than when the call began; call again")
        return served

    def expect_version(self, version: str) -> None:
        """Note the version that answers, or refuse another one.

        Parameters
        ----------
        version : str
            Version that gave the latest answer.

        Raises
        ------
        ModelChangedError
            If other rows were answered by another one.
        """
        if self.version is None:
            self.version = version
        elif self.version != version:
            raise ModelChangedError(
                f"version {version} answers, version {self.version} did when the call began; "
                "call again, or ask for one version"
            )
