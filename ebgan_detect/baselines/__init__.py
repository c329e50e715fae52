"""The systems that the energy-based GAN is measured against, under the same contract."""

from ebgan_detect.baselines.autoencoder import AutoEncoderDetector
from ebgan_detect.baselines.gan import GANDetector
from ebgan_detect.baselines.vae import VAEDetector

__all__ = ["AutoEncoderDetector", "GANDetector", "VAEDetector"]
