"""The three networks of a game, and how to get them from a name or a user's factory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ebgan_detect.errors import InvalidParameterError

__all__ = ["AutoEncoder", "Factory", "Networks", "build_networks"]


@dataclass(frozen=True)
class AutoEncoder:
    """Encoder and decoder of one game.

    Attributes
    ----------
    encoder : Module
        ``(n, *input_shape) -> (n, ...)`` codes.
    decoder : Module
        Codes ``-> (n, *input_shape)``.
    """

    encoder: nn.Module
    decoder: nn.Module


@dataclass(frozen=True)
class Networks(AutoEncoder):
    """Encoder, decoder and generator of one game.

    Attributes
    ----------
    encoder : Module
        ``(n, *input_shape) -> (n, ...)`` codes.
    decoder : Module
        Codes ``-> (n, *input_shape)``.
    generator : Module
        Latents ``(n, latent_dim) -> (n, *input_shape)``.
    """

    generator: nn.Module


Factory = Callable[[tuple[int, ...]], "Networks | tuple[nn.Module, nn.Module, nn.Module]"]


def build_networks(
    factory: Factory, input_shape: tuple[int, ...], *, latent_dim: int, seed: int
) -> Networks:
    """Call a factory reproducibly and check that its networks fit together.

    Parameters
    ----------
    factory : callable
        From the shape of one row to `Networks` or a tuple of three modules: encoder,
        decoder, generator.
    input_shape : tuple of int
        Shape of one row, without the batch axis.
    latent_dim : int
        Number of features in the generator's input.
    seed : int
        Seed of the initial weights. The caller's global random state is untouched.

    Returns
    -------
    Networks
        Modules on the CPU in training mode.

    Raises
    ------
    InvalidParameterError
        If the factory returns something else, or a shape does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        # A user's factory draws its weights from the global generator, which is restored here.
        torch.random.manual_seed(seed)
        made = factory(input_shape)
        networks = _as_networks(made)
        _check_shapes(networks, input_shape, latent_dim)
    return networks


def _as_networks(made: object) -> Networks:
    """Three modules from whatever a factory returned."""
    parts = (made.encoder, made.decoder, made.generator) if isinstance(made, Networks) else made
    if (
        not isinstance(parts, tuple)
        or len(parts) != 3
        or not all(isinstance(part, nn.Module) for part in parts)
    ):
        raise InvalidParameterError(
            "architecture must be a factory that returns three modules (encoder, decoder, "
            f"generator), got {made!r}"
        )
    return Networks(*parts)


def _check_shapes(networks: Networks, input_shape: tuple[int, ...], latent_dim: int) -> None:
    """Run two rows through each network and compare shapes."""
    expected = (2, *input_shape)
    modules = nn.ModuleList([networks.encoder, networks.decoder, networks.generator]).eval()
    try:
        with torch.no_grad():
            outputs = {
                "decoder": networks.decoder(networks.encoder(torch.zeros(expected))),
                "generator": networks.generator(torch.zeros(2, latent_dim)),
            }
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InvalidParameterError(
            f"architecture does not fit rows of shape {input_shape} and latent_dim={latent_dim}: "
            f"{error}"
        ) from error
    modules.train()
    for name, output in outputs.items():
        got = tuple(getattr(output, "shape", ())) or type(output).__name__
        if got != expected:
            raise InvalidParameterError(
                f"{name} must return shape (n, {', '.join(map(str, input_shape))}), "
                f"got {got} for n = 2"
            )
