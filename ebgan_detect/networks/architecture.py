"""The networks of a game, and how to get them from a name or a user's factory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass

import torch
from torch import Tensor, nn

from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.randomness import GlobalRandomness

__all__ = [
    "Adversaries",
    "AutoEncoder",
    "Factory",
    "Networks",
    "build_adversaries",
    "build_autoencoder",
    "build_networks",
]


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


@dataclass(frozen=True)
class Adversaries:
    """The two players of a logistic game.

    Attributes
    ----------
    discriminator : Module
        ``(n, *input_shape) -> (n,)`` or ``(n, 1)``: log-odds that rows are real.
    generator : Module
        Latents ``(n, latent_dim) -> (n, *input_shape)``.
    """

    discriminator: nn.Module
    generator: nn.Module


Factory = Callable[[tuple[int, ...]], "AutoEncoder | Adversaries | tuple[nn.Module, ...]"]


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
    with GlobalRandomness(seed).in_use():
        networks = Networks(*_modules(factory(input_shape), "encoder", "decoder", "generator"))
        with _trial(networks, input_shape, f" and latent_dim={latent_dim}") as rows:
            outputs = {
                "decoder": networks.decoder(networks.encoder(rows)),
                "generator": networks.generator(torch.zeros(2, latent_dim)),
            }
        _check_shapes(outputs, input_shape)
    return networks


def build_autoencoder(
    factory: Factory, input_shape: tuple[int, ...], *, seed: int, latent_dim: int | None = None
) -> AutoEncoder:
    """Call a factory of an autoencoder reproducibly and check that its networks fit together.

    Parameters
    ----------
    factory : callable
        From the shape of one row to `AutoEncoder` or a tuple of encoder and decoder. A
        generator behind them is left aside.
    input_shape : tuple of int
        Shape of one row, without the batch axis.
    seed : int
        Seed of the initial weights. The caller's global random state is untouched.
    latent_dim : int, optional
        Features of the code of a variational autoencoder, whose encoder gives a mean and a
        log-variance for each.

    Returns
    -------
    AutoEncoder
        Modules on the CPU in training mode.

    Raises
    ------
    InvalidParameterError
        If the factory returns something else, or a shape does not fit.
    """
    with GlobalRandomness(seed).in_use():
        made = factory(input_shape)
        parts = made[:2] if isinstance(made, tuple) and len(made) == 3 else made
        networks = AutoEncoder(*_modules(parts, "encoder", "decoder"))
        fitting = "" if latent_dim is None else f" and code_dim={latent_dim}"
        with _trial(networks, input_shape, fitting) as rows:
            codes = networks.encoder(rows)
            given = tuple(codes.shape)
            if latent_dim is not None:
                codes = torch.zeros(2, latent_dim)
            outputs = {"decoder": networks.decoder(codes)}
        if latent_dim is not None and given != (2, 2 * latent_dim):
            raise InvalidParameterError(
                f"encoder must return shape (n, {2 * latent_dim}), a mean and a log-variance for "
                f"each of code_dim={latent_dim} features, got {given} for n = 2"
            )
        _check_shapes(outputs, input_shape)
    return networks


def build_adversaries(
    factory: Factory, input_shape: tuple[int, ...], *, latent_dim: int, seed: int
) -> Adversaries:
    """Call a factory of a discriminator and a generator reproducibly and check their shapes.

    Parameters
    ----------
    factory : callable
        From the shape of one row to `Adversaries` or a tuple of discriminator and generator.
    input_shape : tuple of int
        Shape of one row, without the batch axis.
    latent_dim : int
        Number of features in the generator's input.
    seed : int
        Seed of the initial weights. The caller's global random state is untouched.

    Returns
    -------
    Adversaries
        Modules on the CPU in training mode.

    Raises
    ------
    InvalidParameterError
        If the factory returns something else, or a shape does not fit.
    """
    with GlobalRandomness(seed).in_use():
        networks = Adversaries(*_modules(factory(input_shape), "discriminator", "generator"))
        with _trial(networks, input_shape, f" and latent_dim={latent_dim}") as rows:
            given = tuple(networks.discriminator(rows).shape)
            outputs = {"generator": networks.generator(torch.zeros(2, latent_dim))}
        if given not in ((2,), (2, 1)):
            raise InvalidParameterError(
                f"discriminator must return shape (n,) or (n, 1), got {given} for n = 2"
            )
        _check_shapes(outputs, input_shape)
    return networks


def _modules(made: object, *names: str) -> list[nn.Module]:
    """Modules from whatever a factory returned."""
    if is_dataclass(made) and all(hasattr(made, name) for name in names):
        made = tuple(getattr(made, name) for name in names)
    if (
        not isinstance(made, tuple)
        or len(made) != len(names)
        or not all(isinstance(part, nn.Module) for part in made)
    ):
        number = {2: "two", 3: "three"}[len(names)]
        raise InvalidParameterError(
            f"architecture must be a factory that returns {number} modules ({', '.join(names)}), "
            f"got {made!r}"
        )
    return list(made)


@contextmanager
def _trial(
    networks: AutoEncoder | Adversaries, input_shape: tuple[int, ...], fitting: str
) -> Iterator[Tensor]:
    """Two rows to run through networks in evaluation mode; what fails there does not fit."""
    modules = nn.ModuleList(vars(networks).values()).eval()
    try:
        with torch.no_grad():
            yield torch.zeros(2, *input_shape)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InvalidParameterError(
            f"architecture does not fit rows of shape {input_shape}{fitting}: {error}"
        ) from error
    modules.train()


def _check_shapes(outputs: Mapping[str, object], input_shape: tuple[int, ...]) -> None:
    """Compare what networks made of two rows with the rows' shape."""
    for name, output in outputs.items():
        got = tuple(getattr(output, "shape", ())) or type(output).__name__
        if got != (2, *input_shape):
            raise InvalidParameterError(
                f"{name} must return shape (n, {', '.join(map(str, input_shape))}), "
                f"got {got} for n = 2"
            )
