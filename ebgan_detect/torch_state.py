"""What torch takes for granted, set as the library needs it and put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, Generic, TypeVar

import torch

__all__ = ["full_precision", "usual_defaults"]

Value = TypeVar("Value")


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Let what follows find torch as it starts: float32 on the CPU, with gradients.

    The caller may have set another type or device, mixed precision, or be scoring without
    gradients. Its settings are put back afterwards. The type belongs to the process: other
    threads find float32 too, as long as one of them is inside.

    Yields
    ------
    None
        While the defaults are in force.

    Examples
    --------
    >>> with torch.inference_mode(), usual_defaults():
    ...     torch.ones(1, requires_grad=True).exp().requires_grad
    True
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # the context would slow every call down
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            _leave_autocast(stack, kind)
        stack.enter_context(_DEFAULT_TYPE.held())
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Let a device multiply in float32: neither mixed precision nor TensorFloat-32.

    A GPU rounds the factors of convolutions to ten bits unless told otherwise. That is told to
    the process: other threads compute in float32 too, as long as one of them is inside.

    Parameters
    ----------
    device : device
        Where rows are scored.

    Yields
    ------
    None
        While it is in force.

    Examples
    --------
    >>> rows, weights = torch.rand(2, 3), torch.rand(3, 4)
    >>> with torch.autocast("cpu", torch.bfloat16), full_precision(rows.device):
    ...     (rows @ weights).dtype
    torch.float32
    """
    with ExitStack() as stack:
        _leave_autocast(stack, device.type)
        if device.type == "cuda":
            for setting in _TENSOR_FLOAT:
                stack.enter_context(setting.held())
        yield


def _leave_autocast(stack: ExitStack, kind: str) -> None:
    """Leave mixed precision on a kind of device, if the caller is in it."""
    if torch.is_autocast_enabled(kind):
        stack.enter_context(torch.autocast(kind, enabled=False))


class _Held(Generic[Value]):
    """A setting of the process, held at one value by perhaps several threads at once.

    The last of them puts back what the first one found.

    Parameters
    ----------
    value : object
        Its value while it is held.
    read, write : callable
        Tell the setting, and change it.
    """

    def __init__(
        self, value: Value, read: Callable[[], Value], write: Callable[[Value], object]
    ) -> None:
        self.value = value
        self.read = read
        self.write = write
        self.lock = Lock()
        self.inside = 0
        self.before = value

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the setting."""
        with self.lock:
            if not self.inside:
                self.before = self.read()
            self.inside += 1
            self.write(self.value)
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.write(self.before)


def _float_precision(backend: Any) -> _Held[str]:
    """How a backend multiplies float32."""
    return _Held(
        "ieee",
        lambda: backend.fp32_precision,
        lambda value: setattr(backend, "fp32_precision", value),
    )


_DEFAULT_TYPE = _Held(torch.float32, torch.get_default_dtype, torch.set_default_dtype)
_TENSOR_FLOAT = [_float_precision(torch.backends.cudnn.conv)]  # type: ignore[attr-defined]
_TENSOR_FLOAT += [_float_precision(torch.backends.cuda.matmul)]
