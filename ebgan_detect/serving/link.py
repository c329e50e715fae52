"""A worker's connection, made when it is needed and made anew after an interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from ebgan_detect.errors import ServerError
from ebgan_detect.serving.call import Call
from ebgan_detect.serving.grpc_transport import GrpcTransport
from ebgan_detect.serving.http_transport import HttpTransport
from ebgan_detect.serving.region import Region
from ebgan_detect.serving.served import ServedModel
from ebgan_detect.serving.settings import Settings
from ebgan_detect.serving.transport import (
    Answer,
    TimedOutError,
    Transport,
    UnavailableError,
)

__all__ = ["Link", "MemoryUse"]

T = TypeVar("T")
TRANSPORTS: dict[str, Callable[[Settings], Transport]] = {
    "grpc": GrpcTransport,
    "http": HttpTransport,
}
WORTH_SHARING = 2**16
"""Bytes of a request from which on shared memory is the faster way."""
FAREWELL = 1.0
"""Longest wait for a server to let go of a region [s]."""


@dataclass
class MemoryUse:
    """Whether rows travel through shared memory; what one link learns counts for all.

    Attributes
    ----------
    wanted : bool
        Whether to try it.
    required : bool
        Whether to fail rather than go without it.
    """

    wanted: bool
    required: bool

    @classmethod
    def of(cls, settings: Settings) -> MemoryUse:
        """What the user asks for.

        Parameters
        ----------
        settings : Settings
            Where the server is, and whether to share memory with it.

        Returns
        -------
        MemoryUse
            Before anything has been tried.
        """
        required = settings.shared_memory is True
        maybe = settings.shared_memory == "auto" and settings.address.is_local
        return cls(wanted=required or maybe, required=required)


class Link:
    """A connection that survives its server.

    Parameters
    ----------
    settings : Settings
        Where the model is, and how to ask it.
    memory : MemoryUse
        Whether to use shared memory.
    """

    def __init__(self, settings: Settings, memory: MemoryUse) -> None:
        self.settings = settings
        self.memory = memory
        self._transport: Transport | None = None
        self._region: Region | None = None

    def describe(self, call: Call) -> ServedModel:
        """Ask what is served, and refuse another model than the call began with.

        Parameters
        ----------
        call : Call
            Whose request this is.

        Returns
        -------
        ServedModel
            The model.

        Raises
        ------
        ServerError
            If the server is absent, or has no such model of ours.
        """
        return self._attempt(lambda transport: self._description(transport, call), call)

    def infer(
        self, rows: NDArray[Any], outputs: Sequence[str], call: Call, request_bytes: int
    ) -> Answer:
        """Have rows answered.

        Parameters
        ----------
        rows : ndarray of shape (n, *input_shape)
            Rows in the model's type.
        outputs : sequence of str
            Answers to ask for.
        call : Call
            Whose request this is.
        request_bytes : int
            Size of the largest request that may follow.

        Returns
        -------
        Answer
            One value of each kind for each row.

        Raises
        ------
        ServerError
            If the server fails or refuses.
        """

        def once(transport: Transport) -> Answer:
            region = None
            if self.memory.wanted and (self.memory.required or rows.nbytes >= WORTH_SHARING):
                region = self._shared(transport, request_bytes, call)
            try:
                return transport.infer(rows, outputs, region=region, timeout=call.time_left())
            except ServerError as error:
                if region is not None and region.name in str(error):
                    # A server that came back between two requests knows no regions.
                    raise UnavailableError(str(error)) from error
                raise

        return self._attempt(once, call)

    def close(self) -> None:
        """End the connection and give shared memory back, whether the server lives or not."""
        try:
            self._drop_region()
        finally:
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.close()

    def _attempt(self, action: Callable[[Transport], T], call: Call) -> T:
        """Do something with an open connection, again after interruptions."""
        pauses = self.settings.pauses()
        while True:
            try:
                if self._transport is None:
                    transport = TRANSPORTS[self.settings.address.protocol]
                    self._transport = transport(self.settings)
                    self._description(self._transport, call)
                return action(self._transport)
            except UnavailableError:
                self.close()
                pause = next(pauses, None)
                if pause is None or not call.pause(pause):
                    raise
            except TimedOutError:
                self.close()  # a late answer must not meet the next request
                raise

    def _description(self, transport: Transport, call: Call) -> ServedModel:
        """What is served now."""
        config = transport.config(call.time_left())
        return call.expect(ServedModel.read(config, self.settings.model, self.settings.version))

    def _shared(self, transport: Transport, size: int, call: Call) -> Region | None:
        """The region, made and registered at first use; None where that fails."""
        if self._region is not None and self._region.size >= size:
            return self._region
        self._drop_region()
        try:
            region = Region(size)
        except OSError as error:
            self._go_without_memory(error)
            return None
        try:
            transport.ask(
                "register_system_shared_memory",
                region.name,
                region.key,
                size,
                timeout=call.time_left(),
            )
        except BaseException as error:
            region.close()
            if not isinstance(error, ServerError) or isinstance(error, UnavailableError):
                raise
            self._go_without_memory(error)
            return None
        self._region = region
        return region

    def _drop_region(self) -> None:
        """Have the server let go of the region, if it still can, and give the memory back."""
        region, self._region = self._region, None
        if region is None:
            return
        try:
            if self._transport is not None:
                with contextlib.suppress(ServerError):
                    self._transport.ask(
                        "unregister_system_shared_memory", region.name, timeout=FAREWELL
                    )
        finally:
            region.close()

    def _go_without_memory(self, error: Exception) -> None:
        """Give shared memory up, unless the user insists."""
        if self.memory.required:
            raise ServerError(
                f"shared memory cannot be used: {error}; give shared_memory=False"
            ) from error
        self.memory.wanted = False
