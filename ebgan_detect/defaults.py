"""What torch takes for granted: type and device of new tensors, whether gradients are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

__all__ = ["usual_defaults"]


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Let what follows find torch as it starts: float32 on the CPU, with gradients.

    The caller may have set another type or device, or be scoring without gradients. Its
    settings are put back afterwards. The type belongs to the process: other threads find
    float32 too, as long as one of them is inside.

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
        stack.enter_context(_FLOAT32.in_use())
        yield


class _Float32:
    """float32 as the default type, perhaps in several threads: the last one puts it back."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = 0
        self.before = torch.float32

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Set the default type, and in the end what the first thread found."""
        with self.lock:
            if not self.inside:
                self.before = torch.get_default_dtype()
            self.inside += 1
            torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    torch.set_default_dtype(self.before)


_FLOAT32 = _Float32()
