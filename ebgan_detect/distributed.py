"""Several processes that train one detector together, each on a device of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor
from typing_extensions import override

from ebgan_detect.errors import InvalidInputError, InvalidParameterError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ALONE", "ProcessGroup", "current_group", "train_together"]

T = TypeVar("T")


class ProcessGroup:
    """What the processes of a training tell each other; here there is only one.

    Attributes
    ----------
    size : int
        Number of processes.
    rank : int
        Number of this one, from 0.
    device : device or None
        Its own; None where it may be any.
    """

    size = 1
    rank = 0
    device: torch.device | None = None

    def own(self, n: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Draw the rows of all processes, and keep this one's.

        So their courses of random numbers stay the same, and are those of a single process.

        Parameters
        ----------
        n : int
            Rows of each process.
        draw : callable
            From a number of rows to random ones.

        Returns
        -------
        Tensor of shape (n, ...)
            Rows ``rank * n`` to ``(rank + 1) * n``.
        """
        return draw(n)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, with gradient.

        Parameters
        ----------
        rows : Tensor of shape (n, ...)
            This process's; n is the same on each.

        Returns
        -------
        Tensor of shape (size * n, ...)
            In the order of the ranks.
        """
        return rows

    def average(self, value: Tensor) -> Tensor:
        """Mean over the processes.

        Parameters
        ----------
        value : Tensor
            This process's; the shape is the same on each.

        Returns
        -------
        Tensor
            Of the same shape, without gradient.
        """
        return value

    def average_gradients(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Gradients of the mean of all processes' losses, in one exchange.

        Parameters
        ----------
        gradients : sequence of Tensor or None
            Those of this process's loss; None is None on each.

        Returns
        -------
        sequence of Tensor or None
            Of the same shapes.
        """
        return gradients

    def lead(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes what the first one has.

        Parameters
        ----------
        tensors : sequence of Tensor
            Changed in place; their shapes are the same on each.
        """

    def agree(self, value: T) -> T:
        """The first process's value.

        Parameters
        ----------
        value : object
            What this process has; of the first one it must go into a pickle.

        Returns
        -------
        object
            The same on each.
        """
        return value

    def all_have(self, content: bytes) -> bool:
        """Whether all processes have the same.

        Parameters
        ----------
        content : bytes
            What this process has.

        Returns
        -------
        bool
            The same answer on each.
        """
        return True

    def batch_rows(self, batch_size: int, n_rows: int) -> int:
        """Rows of all processes in an update.

        Parameters
        ----------
        batch_size : int
            Rows of each process, at most.
        n_rows : int
            Training rows.

        Returns
        -------
        int
            A multiple of the number of processes, at most n_rows.

        Raises
        ------
        InvalidInputError
            If there are fewer rows than processes.
        """
        if n_rows < self.size:
            raise InvalidInputError(
                f"X must have a training row for each of {self.size} processes, got {n_rows}"
            )
        return self.size * min(batch_size, n_rows // self.size)


ALONE = ProcessGroup()


class _FabricGroup(ProcessGroup):
    """The processes of a Lightning Fabric. All call the same methods in the same order."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.size = fabric.world_size
        self.rank = fabric.global_rank
        self.device = fabric.device

    @override
    def own(self, n: int, draw: Callable[[int], Tensor]) -> Tensor:
        return draw(n * self.size)[self.rank * n :][:n]

    @override
    def gather(self, rows: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # Fabric goes by a function of PyTorch's that is to have another name.
            warnings.filterwarnings("ignore", r"torch\.distributed\.nn\.functional\.all_gather")
            of_all = self.fabric.all_gather(rows, sync_grads=rows.requires_grad)
        return cast(Tensor, of_all).flatten(0, 1)

    @override
    def average(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(value.detach().clone()))

    @override
    def average_gradients(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        given = [each for each in gradients if each is not None]
        flat = self.average(torch.cat([each.flatten() for each in given]))
        means = iter(flat.split([each.numel() for each in given]))
        return [None if each is None else next(means).view(each.shape) for each in gradients]

    @override
    def lead(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)

    @override
    def agree(self, value: T) -> T:
        return self.fabric.broadcast(value)

    @override
    def all_have(self, content: bytes) -> bool:
        digests = self.gather(torch.tensor([list(sha256(content).digest())], device=self.device))
        return bool((digests == digests[0]).all())


_GROUP: ContextVar[ProcessGroup] = ContextVar("group", default=ALONE)


def current_group() -> ProcessGroup:
    """The processes that train together here.

    Returns
    -------
    ProcessGroup
        Of one process outside `train_together`.
    """
    return _GROUP.get()


@contextmanager
def train_together(fabric: Fabric) -> Iterator[None]:
    """Let every fit inside be one training over all processes of a Lightning Fabric.

    Each process runs the same fit on the same rows, with ``batch_size`` rows of every batch on
    its own device. N processes make the training of one with N times the batch size: the
    pulling-away term, batch normalisation and the earlier samples are those of the whole
    batch. A batch of the usual size, shared, is ``batch_size=64 // fabric.world_size``. In the
    end each process has the fitted detector; let one save it.

    Parameters
    ----------
    fabric : lightning_fabric.Fabric
        Launched with data-parallel processes, which it starts or finds as torchrun's.

    Yields
    ------
    None
        While trainings are shared.

    Raises
    ------
    InvalidParameterError
        If the fabric has not been launched.

    Notes
    -----
    ``random_state=None`` is the first process's draw. A checkpoint is written by the first process
    and read by all; its folder must be one that all see. Callbacks run on every process; the
    first one's say when to stop. Ctrl-C is passed on. Gradients are averaged after each player's
    backward pass, by Fabric's collectives and without its wrapper of modules. Let a function that
    Fabric spawns save the detector: what it returns goes through a queue that holds little.

    Examples
    --------
    >>> from lightning_fabric import Fabric
    >>> from ebgan_detect import EBGANDetector, save
    >>> rows = np.random.default_rng(0).normal(size=(300, 2))
    >>> def train(fabric):
    ...     with train_together(fabric):
    ...         detector = EBGANDetector(max_epochs=2, random_state=0).fit(rows)
    ...     if fabric.is_global_zero:
    ...         save(detector, "model.ebgan")
    >>> Fabric(accelerator="cpu", devices=1).launch(train)
    """
    if fabric.world_size > 1 and not torch.distributed.is_initialized():
        raise InvalidParameterError(
            f"fabric must be launched before {fabric.world_size} processes can train together; "
            "call fabric.launch()"
        )
    token = _GROUP.set(_FabricGroup(fabric) if fabric.world_size > 1 else ALONE)
    try:
        yield
    finally:
        _GROUP.reset(token)
