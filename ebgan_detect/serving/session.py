"""Open connections to one model, and calls that share them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from ebgan_detect.data import Rows
from ebgan_detect.errors import ServerError
from ebgan_detect.serving.call import Call
from ebgan_detect.serving.flight import Flight
from ebgan_detect.serving.link import Link, MemoryUse
from ebgan_detect.serving.results import Results, Values
from ebgan_detect.serving.served import ServedModel
from ebgan_detect.serving.settings import Settings
from ebgan_detect.serving.transport import TimedOutError, UnavailableError
from ebgan_detect.serving.workers import Workers

__all__ = ["Session"]


class Session:
    """Connections to one model; they must be closed, as a ``with`` block does.

    Parameters
    ----------
    settings : Settings
        Where the model is, and how to ask it.

    Attributes
    ----------
    blocks : int
        How many ``with`` blocks keep them open.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.blocks = 0
        link = partial(Link, settings, MemoryUse.of(settings))
        self._workers = Workers(settings.concurrency, link)
        self._process = os.getpid()
        self._served: ServedModel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After Ctrl-C a server that hangs must not hold the user up.
        self.close(wait=kind is None or issubclass(kind, Exception))

    def serves(self, settings: Settings) -> bool:
        """Whether these connections are the ones wanted.

        Parameters
        ----------
        settings : Settings
            What is wanted.

        Returns
        -------
        bool
            False for other settings, and in a process that was forked from the one that
            opened them.
        """
        return self._process == os.getpid() and self.settings == settings

    def close(self, *, wait: bool = True) -> None:
        """End all connections.

        Parameters
        ----------
        wait : bool, default=True
            Whether to wait until they are.
        """
        self._workers.close(wait=wait)

    def served(self, call: Call) -> ServedModel:
        """What is served, asked once unless a call has failed or met another version since.

        Parameters
        ----------
        call : Call
            The call that needs it.

        Returns
        -------
        ServedModel
            The model that must answer the whole call.

        Raises
        ------
        ServerError
            If the server is absent, or has no such model of ours.
        """
        try:
            known = self._served or self._describe(call)
        except ServerError as error:
            raise ServerError(self._sentence(error)) from error
        self._served = known
        return call.expect(known)

    def answer(
        self, rows: Rows, outputs: Sequence[str], call: Call, served: ServedModel, size: int
    ) -> Values:
        """Have all rows answered, some requests at a time.

        Parameters
        ----------
        rows : Rows
            Checked rows.
        outputs : sequence of str
            Answers to ask for.
        call : Call
            The call that needs them.
        served : ServedModel
            The model.
        size : int
            Rows in a request.

        Returns
        -------
        dict of str to ndarray of shape (n,)
            One array for each output.

        Raises
        ------
        ServerError
            If not every row could be answered; it carries those that were.
        """
        results = Results(len(rows), outputs, served.n_calibration)
        flight = Flight(self._workers, call, results)
        try:
            self._send(flight, rows, served, size, outputs=outputs, call=call)
            if len(rows) > size:
                self._describe(call)  # finds a model out that was replaced unseen
        except BaseException as error:
            self._served = None
            flight.cancel()
            if not isinstance(error, ServerError):
                raise
            flight.salvage(error)
            raise results.failure(self._sentence(error)) from error
        if served.version != call.version:
            self._served = None
        return results.values

    def _send(
        self, flight: Flight, rows: Rows, served: ServedModel, size: int, **what: Any
    ) -> None:
        """Send rows until all are answered."""
        request_bytes = min(size, len(rows)) * served.n_features * served.dtype.itemsize
        start = 0
        for chunk in rows.arrays(size):
            request = partial(
                Link.infer, rows=served.encode(chunk), request_bytes=request_bytes, **what
            )
            flight.send(request, slice(start, start + len(chunk)))
            start += len(chunk)
        flight.land()

    def _describe(self, call: Call) -> ServedModel:
        """Ask what is served."""
        return self._workers.submit(partial(Link.describe, call=call)).result()

    def _sentence(self, error: ServerError) -> str:
        """What failed, with whom, and what to do about it."""
        text = f"{self.settings.address.url}: {error}"
        if isinstance(error, TimedOutError):
            if isinstance(error.__context__, UnavailableError):
                text += f", and all the time: {error.__context__}"
            text += "; raise deadline or request_timeout"
        if isinstance(error, UnavailableError):
            tries = self.settings.retries + 1
            text += f"; tried {tries} times: start the server, wait for it, or correct the url"
        return text
