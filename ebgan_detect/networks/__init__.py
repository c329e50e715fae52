"""Encoder, decoder, generator and discriminator families."""

from ebgan_detect.networks.architecture import (
    Adversaries,
    AutoEncoder,
    Factory,
    Networks,
    build_adversaries,
    build_autoencoder,
    build_networks,
)
from ebgan_detect.networks.conv import (
    check_sides,
    conv_autoencoder,
    conv_networks,
    default_channels,
)
from ebgan_detect.networks.dcgan import dcgan_adversaries
from ebgan_detect.networks.mlp import mlp_adversaries, mlp_autoencoder, mlp_networks

__all__ = [
    "Adversaries",
    "AutoEncoder",
    "Factory",
    "Networks",
    "build_adversaries",
    "build_autoencoder",
    "build_networks",
    "check_sides",
    "conv_autoencoder",
    "conv_networks",
    "dcgan_adversaries",
    "default_channels",
    "mlp_adversaries",
    "mlp_autoencoder",
    "mlp_networks",
]
