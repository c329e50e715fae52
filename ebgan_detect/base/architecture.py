"""Networks from a family's name or a user's factory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from ebgan_detect.base.fitting import MemberPlan
from ebgan_detect.base.scoring import ScoringDetector
from ebgan_detect.errors import EBGANWarning, InvalidInputError, InvalidParameterError, warn_caller
from ebgan_detect.networks import default_channels
from ebgan_detect.parameters import Rule, auto_or, one_of, sizes
from ebgan_detect.training import fastest_precision, resolve_device

__all__ = ["ArchitectureMixin"]

OF_IMAGES = {"coarse_weight": "blocks of pixels", "complexity_exponent": "a total variation"}
"""Parameters that only images have a use for, and why."""
MOST_VALUES = 2**16
"""Values of an image that get a fully connected network unasked, at most."""


class ArchitectureMixin(ScoringDetector):
    """Adds the choice of networks, and the defaults that detectors share."""

    _architecture_rules: ClassVar[Mapping[str, Rule]] = {
        "architecture": Rule(
            lambda v: callable(v) or one_of("auto", "mlp", "conv").holds(v),
            "'auto', 'mlp', 'conv' or a callable",
        ),
        "hidden_sizes": auto_or(sizes()),
    }

    architecture: Any
    hidden_sizes: str | Sequence[int]
    settings_: dict[str, Any]

    def _network_defaults(self, *, is_image: bool) -> dict[str, Any]:
        """Families and widths, batches and the length of training, for each kind of input."""
        architecture = self._resolved_architecture(is_image=is_image)
        if not is_image:
            return {
                "architecture": architecture,
                "hidden_sizes": (96, 96),
                "precision": "float32",
                "batch_size": 128,
                "max_updates": 1000,
            }
        channels, height, width = (1, 1, *self.input_shape_)[-3:]
        conv = architecture == "conv"
        large = conv and min(height, width) >= 16
        return {
            "architecture": architecture,
            "hidden_sizes": default_channels((channels, height, width)) if conv else (512, 256),
            "precision": fastest_precision(resolve_device(self.device)) if large else "float32",
            "batch_size": 64,
            "max_updates": 3000,
        }

    def _autoencoder_defaults(self, *, is_image: bool) -> dict[str, Any]:
        """One autoencoder for each kind of input, and what its energies are relative to."""
        for name, lack in OF_IMAGES.items():
            value = getattr(self, name, "auto")
            if not is_image and value not in ("auto", 0):
                raise InvalidParameterError(
                    f"{name} must be 0 for tables, got {value}; only images have {lack}"
                )
        own = (
            {"code_dim": 32, "noise": 0.0, "complexity_exponent": 1.0}
            if is_image
            else {"code_dim": 64, "noise": 0.5, "complexity_exponent": 0.0}
        )
        return self._network_defaults(is_image=is_image) | own

    def _resolved_architecture(self, *, is_image: bool) -> Any:
        """What stands behind ``architecture='auto'`` for rows of the fitted shape."""
        shape = self.input_shape_
        architecture = self.architecture
        if isinstance(architecture, str) and architecture == "auto":
            fits = is_image and min(shape[-2:]) >= 8 and max(shape[-2:]) <= 256
            channels_last = len(shape) == 3 and shape[-1] in (1, 3, 4) and min(shape[:-1]) >= 8
            if is_image and not fits and math.prod(shape) > MOST_VALUES:
                remedy = "resize them, or give architecture='mlp' or a factory"
                if channels_last:
                    resize = "resize them and " if max(shape[:-1]) > 256 else ""
                    remedy = f"{resize}put channels first: np.moveaxis(X, -1, 1)"
                raise InvalidInputError(
                    "images must have 8 to 256 pixels a side for architecture='auto', got rows of "
                    f"shape {shape}, for which a fully connected network would need up to "
                    f"hundreds of millions of weights; {remedy}"
                )
            if channels_last:
                warn_caller(
                    f"rows of shape {shape} look like images with their channels last, and get a "
                    "fully connected network: np.moveaxis(X, -1, 1) puts channels first",
                    EBGANWarning,
                )
            return "conv" if fits else "mlp"
        if isinstance(architecture, str) and architecture == "conv" and not is_image:
            raise InvalidParameterError(
                f"architecture='conv' needs images, got rows of shape {shape}; use 'mlp'"
            )
        return architecture

    def _factory(
        self, families: Mapping[str, Callable[..., Any]], plan: MemberPlan, **options: Any
    ) -> Any:
        """The user's own factory, or the named family with its settings filled in."""
        settings = self.settings_
        architecture = settings["architecture"]
        if callable(architecture):
            return architecture
        return partial(
            families[architecture],
            hidden_sizes=settings["hidden_sizes"],
            bounded=plan.bounded,
            **options,
        )
