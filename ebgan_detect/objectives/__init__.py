"""Games that the training loop can play."""

from .autoencoder import AutoEncoderObjective
from .ebgan import EBGANObjective
from .objective import Objective

__all__ = ["AutoEncoderObjective", "EBGANObjective", "Objective"]
