"""What connections are made from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ebgan_detect.serving.address import Address

__all__ = ["LONGEST_WAIT", "Settings"]

LONGEST_WAIT = 1e8
"""Three years [s]: clocks cannot count much longer ones, so that gRPC takes them for over."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


@dataclass(frozen=True)
class Settings:
    """Where a model is, and how to ask it.

    Attributes
    ----------
    address : Address
        Where the server is.
    model, version : str
        Which model; the newest version where `version` is empty.
    concurrency : int
        Most requests in flight.
    request_timeout : float
        Longest wait for one answer [s].
    retries : int
        Further tries after an interruption.
    shared_memory : {'auto', True, False}
        Whether rows go through shared memory.
    headers : mapping of str to str
        Sent with every request.
    root_certificates, private_key, certificate_chain : str or None
        PEM files for TLS.
    """

    address: Address
    model: str
    version: str
    concurrency: int
    request_timeout: float
    retries: int
    shared_memory: bool | str
    headers: Mapping[str, str]
    root_certificates: str | None
    private_key: str | None
    certificate_chain: str | None

    def pauses(self) -> Iterator[float]:
        """Waiting times before further tries: doubled each time, and drawn at random.

        Yields
        ------
        float
            One for each retry [s], in [0.05, 2].
        """
        source = random.Random()  # the caller's stays as it is
        longest = FIRST_PAUSE
        for _ in range(self.retries):
            yield longest * source.uniform(0.5, 1.0)
            longest = min(2 * longest, LONGEST_PAUSE)
