"""Device and precision."""

from __future__ import annotations

import torch
from torch import nn

from ebgan_detect.errors import InvalidParameterError

__all__ = ["PRECISIONS", "autocast", "place", "resolve_device"]

PRECISIONS = ("float32", "bf16-mixed")


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn a device name into a device that is there.

    Parameters
    ----------
    device : str or device
        `'auto'` for CUDA if there is one, else the CPU; or any name torch knows.

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
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, dtype=torch.float64, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidParameterError(
            f"device must be 'auto' or one that this torch can use in float64, got {device!r}; "
            "device='auto' falls back to the CPU"
        ) from error
    return resolved


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
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
