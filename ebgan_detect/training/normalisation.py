"""Batch normalisation over the rows of all processes that train together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ebgan_detect.distributed import current_group

__all__ = ["normalising_together"]


@contextmanager
def normalising_together(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation use the statistics of all processes' rows while it trains.

    PyTorch's own layer for that, ``SyncBatchNorm``, runs on GPUs only, and would have to take
    the place of the layers.

    Parameters
    ----------
    module : Module
        Its layers are as before afterwards.

    Yields
    ------
    None
        While they normalise together.
    """
    if current_group().size > 1:
        for layer in module.modules():
            if isinstance(layer, _BatchNorm):
                layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in module.modules():  # copies made meanwhile are among them
            if isinstance(layer, _BatchNorm):
                layer.__dict__.pop("forward", None)


def _forward(layer: _BatchNorm, x: Tensor) -> Tensor:
    """A layer's output; its running statistics follow those of all rows."""
    if not layer.training:
        return type(layer).forward(layer, x)
    layer._check_input_dim(x)
    group = current_group()
    rows = x.float()
    variance, mean = torch.var_mean(rows, dim=[0, *range(2, x.ndim)], correction=0)
    means, variances = group.gather(torch.stack([mean, variance])[None]).unbind(1)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    if layer.num_batches_tracked is not None:
        n_batches = layer.num_batches_tracked.add_(1)
        rate = n_batches.reciprocal() if layer.momentum is None else layer.momentum
        n = group.size * x.numel() // x.shape[1]
        unbiased = variance.detach() * n / (n - 1)
        for running, now in ((layer.running_mean, mean.detach()), (layer.running_var, unbiased)):
            if running is not None:
                running.lerp_(now, rate)
    scale = (variance + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight
    shift = -mean * scale if layer.bias is None else layer.bias - mean * scale
    shape = [1, -1, *[1] * (x.ndim - 2)]
    return (rows * scale.view(shape) + shift.view(shape)).to(x.dtype)
