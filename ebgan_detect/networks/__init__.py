"""Encoder, decoder and generator families."""

from ebgan_detect.networks.architecture import AutoEncoder, Factory, Networks, build_networks
from ebgan_detect.networks.conv import conv_networks, default_channels
from ebgan_detect.networks.mlp import mlp_networks

__all__ = [
    "AutoEncoder",
    "Factory",
    "Networks",
    "build_networks",
    "conv_networks",
    "default_channels",
    "mlp_networks",
]
