"""Weight initialisation that reaches every layer."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["initialize_"]

_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_NORMALISING = (nn.BatchNorm1d, nn.BatchNorm2d)


def initialize_(module: nn.Module, *, negative_slope: float) -> None:
    """Set every weight and bias below a module, so that signals keep their size with depth.

    Linear and convolutional weights are drawn from a normal distribution whose standard
    deviation is ``sqrt(2 / ((1 + negative_slope ** 2) * fan_in))``, where `fan_in` counts the
    inputs that really meet in one output; biases are 0; normalisations start as the identity.

    Parameters
    ----------
    module : Module
        Network whose layers are all linear, convolutional, normalising or free of parameters.
    negative_slope : float
        Slope of the activations below zero, in [0, 1].

    Raises
    ------
    TypeError
        If a layer holds parameters of a kind this function does not know: none is left at
        a default by accident.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015, equation 15.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _WEIGHTED):
            gain = (2 / (1 + negative_slope**2)) ** 0.5
            nn.init.normal_(layer.weight, std=gain * _fan_in(layer) ** -0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, _NORMALISING):
            layer.reset_parameters()
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"no initialisation for layer {name} of type {type(layer).__name__}")


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Inputs that meet in one output; a strided transposed kernel is shared by its outputs."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    receptive = layer.in_channels / layer.groups * math.prod(layer.kernel_size)
    return receptive / math.prod(layer.stride) if layer.transposed else receptive
