"""Games that the training loop can play."""

from ebgan_detect.objectives.autoencoder import AutoEncoderObjective
from ebgan_detect.objectives.ebgan import EBGANObjective
from ebgan_detect.objectives.objective import Objective

__all__ = ["AutoEncoderObjective", "EBGANObjective", "Objective"]
