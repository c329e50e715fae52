"""Games that the training loop can play."""

from ebgan_detect.objectives.autoencoder import AutoEncoderObjective
from ebgan_detect.objectives.ebgan import EBGANObjective
from ebgan_detect.objectives.gan import GANObjective
from ebgan_detect.objectives.objective import Objective
from ebgan_detect.objectives.vae import LIKELIHOODS, VAEObjective

__all__ = [
    "LIKELIHOODS",
    "AutoEncoderObjective",
    "EBGANObjective",
    "GANObjective",
    "Objective",
    "VAEObjective",
]
