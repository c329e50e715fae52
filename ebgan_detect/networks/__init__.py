"""Encoder, decoder and generator families."""

from .architecture import Factory, Networks, build_networks
from .conv import conv_networks, default_channels
from .mlp import mlp_networks

__all__ = [
    "Factory",
    "Networks",
    "build_networks",
    "conv_networks",
    "default_channels",
    "mlp_networks",
]
