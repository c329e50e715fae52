"""When connections are opened and closed."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from sklearn.base import BaseEstimator

from ebgan_detect.serving.session import Session
from ebgan_detect.serving.settings import Settings

__all__ = ["KeepsConnections"]


_ENTRANCE = threading.Lock()
"""Blocks begin and end one after the other: several threads may enter the same object's."""


class KeepsConnections(BaseEstimator, ABC):
    """An estimator that opens connections for every call, or once for a ``with`` block."""

    @abstractmethod
    def _settings(self) -> Settings:
        """What the connections are made from."""

    def __enter__(self) -> Self:
        """Keep connections open until the end of the block, or of the outermost of several."""
        settings = self._settings()
        with _ENTRANCE:
            session: Session | None = self.__dict__.get("_open")
            if session is None or not session.serves(session.settings):  # of another process
                self._open = session = Session(settings)
            session.blocks += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with _ENTRANCE:
            session: Session | None = self.__dict__.get("_open")
            if session is not None:
                session.blocks -= 1
                if session.blocks:
                    return
            self.__dict__.pop("_open", None)  # in the lock: the next block opens its own
        _end(session, wait=kind is None or issubclass(kind, Exception))

    def close(self) -> None:
        """End the connections that a ``with`` block keeps open.

        A call under way in another thread fails with a `ServerError` that carries what was
        answered; requests that the server has got are waited for.
        """
        with _ENTRANCE:
            session: Session | None = self.__dict__.pop("_open", None)
        _end(session, wait=True)

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        """The connections that are kept open, or others for one call."""
        settings = self._settings()
        session: Session | None = self.__dict__.get("_open")
        if session is not None and session.serves(settings):
            yield session
        else:
            with Session(settings) as session:
                yield session

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles have no connections."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_open"}


def _end(session: Session | None, *, wait: bool) -> None:
    """End connections, unless they belong to the process that forked this one."""
    if session is not None and session.serves(session.settings):
        session.close(wait=wait)
