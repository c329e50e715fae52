"""Device and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import nn

from ebgan_detect.distributed import current_group
from ebgan_detect.errors import InvalidParameterError

__all__ = [
    "PRECISIONS",
    "autocast",
    "fastest_precision",
    "place",
    "resolve_device",
    "sparing_threads",
]

PRECISIONS = ("float32", "bf16-mixed")
WORTH_SHARING = 2**24
"""Multiplications in a forward pass below which a second thread costs more than it saves."""


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn a device name into a device that is there.

    Parameters
    ----------
    device : str or device
        `'auto'` for CUDA if there is one, else the CPU; or any name torch knows. Where several
        processes train together, each has its own, and this can only be of the same kind.

    Returns
    -------
    device
        The device.

    Raises
    ------
    InvalidParameterError
        If the name is unknown or the device absent.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    own = current_group().device
    if device == "auto":
        return own or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, dtype=torch.float64, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidParameterError(
            f"device must be 'auto' or one that this torch can use in float64, got {device!r}; "
            "device='auto' falls back to the CPU"
        ) from error
    if own is None:
        return resolved
    if resolved.type != own.type or resolved.index not in (None, own.index):
        raise InvalidParameterError(
            f"device must be 'auto' or {own.type!r} where processes train together on "
            f"{own.type}, got {device!r}"
        )
    return own


def fastest_precision(device: torch.device) -> str:
    """Precision in which a device trains large networks fastest.

    Parameters
    ----------
    device : device
        Where training runs.

    Returns
    -------
    str
        `'bf16-mixed'` where the device multiplies matrices of bfloat16 natively (recent GPUs,
        CPUs with AMX or AVX-512 BF16), else `'float32'`.

    Examples
    --------
    >>> fastest_precision(torch.device("cpu")) in PRECISIONS
    True
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        known = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
        native = device.type == "cpu" and known
    return "bf16-mixed" if native else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which updates run.

    Parameters
    ----------
    device : device
        Where training runs.
    precision : {'float32', 'bf16-mixed'}
        `'bf16-mixed'` runs matrix products and convolutions in bfloat16, with float32
        weights and losses. Scoring is not affected: it always runs in float32.

    Returns
    -------
    torch.autocast
        The context; without effect for `'float32'`.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def place(module: nn.Module, device: torch.device) -> None:
    """Move a module to a device, its convolutions in the layout that trains fastest.

    Parameters
    ----------
    module : Module
        Moved in place.
    device : device
        Where to.
    """
    module.to(device)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def sparing_threads(module: nn.Module, batch_size: int) -> Iterator[None]:
    """Compute on one thread where the batches of small networks are not worth sharing.

    Threads that wait for each other after every small operation slow it down by half on an
    idle machine, and ten times on a busy one.

    Parameters
    ----------
    module : Module
        What is trained.
    batch_size : int
        Rows in a batch.

    Yields
    ------
    None
        While torch's number of threads is lowered; it is put back afterwards.
    """
    # A convolution uses its weights once for each pixel; 64 is a guess, good enough here.
    uses = sum(p.numel() * (64 if p.ndim > 2 else 1) for p in module.parameters())
    if batch_size * uses >= WORTH_SHARING:
        yield
        return
    before = _ONE_THREAD.enter()
    try:
        yield
    finally:
        _ONE_THREAD.leave(before)


class _OneThread:
    """Trainings that run on one thread, perhaps side by side in threads of Python.

    torch's number is the calling thread's own, and what a new thread starts with. So it is what
    the first of them found that each goes back to: the others may have found the lowered one.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = 0
        self.before = 1

    def enter(self) -> int:
        """Lower the number; return what this thread has to go back to."""
        with self.lock:
            if not self.inside:
                self.before = torch.get_num_threads()
            self.inside += 1
            torch.set_num_threads(1)
            return self.before

    def leave(self, before: int) -> None:
        """Put the number back."""
        with self.lock:
            self.inside -= 1
            torch.set_num_threads(before)


_ONE_THREAD = _OneThread()
