"""Requests in flight, and the places that their answers go to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from ebgan_detect.errors import ServerError
from ebgan_detect.serving.call import Call, ModelChangedError
from ebgan_detect.serving.link import Link
from ebgan_detect.serving.results import Results
from ebgan_detect.serving.transport import Answer
from ebgan_detect.serving.workers import Workers

__all__ = ["Flight"]


class Flight:
    """The requests of one call: no more at a time than there are workers.

    Parameters
    ----------
    workers : Workers
        Who sends them.
    call : Call
        Whose they are.
    results : Results
        Where the answers go.
    """

    def __init__(self, workers: Workers, call: Call, results: Results) -> None:
        self._workers = workers
        self._call = call
        self._results = results
        self._pending: dict[Future[Answer], slice] = {}

    def send(self, request: Callable[[Link], Answer], part: slice) -> None:
        """Send a request as soon as there is room for it.

        Parameters
        ----------
        request : callable
            Asks a link.
        part : slice
            Rows that the request is about.

        Raises
        ------
        ServerError
            If an earlier request failed.
        """
        while len(self._pending) >= self._workers.limit:
            self._collect()
        self._pending[self._workers.submit(request)] = part

    def land(self) -> None:
        """Wait for all answers.

        Raises
        ------
        ServerError
            If a request failed.
        """
        while self._pending:
            self._collect()

    def cancel(self) -> None:
        """Take back what is not yet under way, and let nothing be tried again."""
        self._call.stop()
        for future in self._pending:
            future.cancel()

    def salvage(self, error: ServerError) -> None:
        """After a failure, wait for what is under way and keep good answers.

        Parameters
        ----------
        error : ServerError
            The failure. Where answers may stem from two models, none is kept.
        """
        wait(self._pending)
        errors: list[BaseException | None] = [error]
        for future, part in self._pending.items():
            if not future.cancelled():
                errors.append(future.exception())
                if errors[-1] is None:
                    try:
                        self._put(part, future.result())
                    except ModelChangedError as changed:
                        errors.append(changed)
        self._pending.clear()
        if any(isinstance(entry, ModelChangedError) for entry in errors):
            self._results.clear()

    def _collect(self) -> None:
        """Wait for an answer and put it, and what came with it, in place."""
        for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
            self._put(self._pending[future], future.result())
            del self._pending[future]

    def _put(self, part: slice, answer: Answer) -> None:
        """Put an answer in place, if it comes from the right version."""
        self._call.expect_version(answer.version)
        self._results.put(part, answer)
