"""System shared memory through which rows reach a server on the same machine."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

__all__ = ["Region"]

PREFIX = "ebgan_detect_"
SHARED_MEMORY = Path("/dev/shm")


class Region:
    """A piece of shared memory with a name of its own; it must be closed.

    Parameters
    ----------
    size : int
        Bytes.

    Attributes
    ----------
    name, key : str
        What the server knows it by, and where it opens it.

    Raises
    ------
    OSError
        If there is no room for it.
    """

    def __init__(self, size: int) -> None:
        from tritonclient.utils import shared_memory

        self.name = self.key = PREFIX + uuid.uuid4().hex
        self.size = size
        self._library = shared_memory
        try:
            self._handle = shared_memory.create_shared_memory_region(
                self.name, self.key, size, create_only=True
            )
        except shared_memory.SharedMemoryException as error:
            raise OSError(f"{error}: {error.__cause__}") from error
        try:
            _reserve(self.key, size)
        except OSError:
            self.close()
            raise

    def write(self, rows: NDArray[Any]) -> None:
        """Copy rows to the beginning of the region.

        Parameters
        ----------
        rows : ndarray
            Rows of at most `size` bytes.
        """
        self._library.set_shared_memory_region(self._handle, [rows])

    def close(self) -> None:
        """Give the memory back."""
        self._library.destroy_shared_memory_region(self._handle)


def _reserve(key: str, size: int) -> None:
    """Claim the memory now: writing to a full file system would end the process."""
    file = SHARED_MEMORY / key
    if not file.exists():  # a system that keeps such regions elsewhere
        return
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
