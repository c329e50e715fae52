"""The GAN with a logistic discriminator; DCGAN for images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ebgan_detect.base import ArchitectureMixin, BaseDetector, GenerationMixin, MemberPlan
from ebgan_detect.networks import (
    Factory,
    build_adversaries,
    dcgan_adversaries,
    mlp_adversaries,
)
from ebgan_detect.objectives import GANObjective, Objective
from ebgan_detect.parameters import Rule, auto_or, integer
from ebgan_detect.training import Callback

__all__ = ["GANDetector"]


class GANDetector(GenerationMixin, ArchitectureMixin, BaseDetector):
    r"""Anomaly detector whose score is the logit of a GAN's discriminator.

    For images the networks and their training are those of DCGAN.

    Parameters
    ----------
    architecture : {'auto', 'mlp', 'conv'} or callable, default='auto'
        Networks. `'auto'` takes `'conv'`, the layers of DCGAN, for images of 8 to 256 pixels
        a side and `'mlp'` for everything else. A callable maps the shape of a scaled row
        (images channels first) to two modules: discriminator, which gives log-odds of shape
        (n,) or (n, 1), and generator of ``(n, latent_dim)``.
    hidden_sizes : 'auto' or tuple of int, default='auto'
        Widths of the discriminator's hidden layers, or its channels at each halving of an
        image; the generator mirrors them. `'auto'` doubles the channels from 64 to 512 at
        most; DCGAN has ``(128, 256, 512, 1024)`` at 64 pixels.
    latent_dim : 'auto' or int, default='auto'
        Number of features in the generator's input. `'auto'` is 100 for images, as in
        DCGAN, and 32 for tables.
    n_estimators : int, default=1
        Members whose energies are averaged.
    max_epochs : 'auto' or int, default='auto'
        Passes over the training rows. `'auto'`: as many as make about
        ``settings_['max_updates']`` updates.
    batch_size : 'auto' or int, default='auto'
        Rows in an update. `'auto'`: 128.
    learning_rate : float, default=2e-4
        Adam's step size for both players.
    learning_rate_schedule : {'linear', 'constant', 'cosine'}, default='constant'
        `'linear'` is constant, then falls to 0 over the second half.
    keep_state : {'final', 'average', 'separation'}, default='final'
        State kept in the end, as in `EBGANDetector`.
    validation_fraction : float, default=0.1
        Share of the rows set aside for ``keep_state='separation'``; not used otherwise.
    calibration_fraction : float, default=0.1
        Share of the rows set aside for the threshold and p-values; raised to what
        `false_alarm_rate` needs, up to a third of the rows.
    contamination : 'auto' or float, default='auto'
        `'auto'`: the rows are taken as normal, and the threshold is the conformal one at
        `false_alarm_rate`. A float in (0, 0.5]: that share of all fitted rows is called
        outliers, as in `sklearn.ensemble.IsolationForest`. It moves the threshold alone: all
        rows train as normal.
    false_alarm_rate : float, default=0.05
        Largest share of new normal rows called outliers, with ``contamination='auto'``. Another
        one afterwards: `calibrate`, or ``p_values(X) <= rate``.
    scaling : {'auto', 'standard', 'minmax', 'none'}, default='auto'
        Input scaling. `'auto'` standardises tables, divides uint8 images by 255, and maps
        other images onto [0, 1] unless they lie there already. A scaler before it that is
        affine too changes nothing.
    device : str, default='auto'
        `'auto'` is CUDA if there is one, else the CPU.
    precision : {'auto', 'float32', 'bf16-mixed'}, default='auto'
        Precision of training, as in `EBGANDetector`; scoring is always in float32.
    checkpoint : str or path, default=None
        Folder that keeps the training state after every epoch, to resume from; one for each
        fit, so that none suits cross-validation.
    callbacks : list of Callback, default=None
        Hooks into training.
    warm_start : bool, default=False
        Whether `fit` goes on from the fitted state.
    random_state : int, RandomState or None, default=None
        Seed. The global random state is never touched.
    verbose : bool or int, default=0
        Whether to show progress.

    Attributes
    ----------
    offset_ : float
        Threshold on the score: `decision_function` is ``score_samples - offset_``.
    calibration_energies_ : ndarray of shape (n_calibration,)
        Energies of the calibration rows, ascending.
    history_ : dict of str to list of float
        One entry for each member and epoch: `member`, `epoch`, `loss_discriminator` and
        `loss_generator` [nats], `probability_real` and `probability_generated`, which are the
        mean probabilities that the discriminator gives both to be real,
        `learning_rate`, `seconds`.
    health_ : str
        `'healthy'`, what went wrong and its remedy, or `'not judged'` and why.
    settings_ : dict
        Values in place of `'auto'`.
    n_iter_ : int
        Epochs trained.
    input_shape_ : tuple of int
        Shape of one row.
    n_features_in_ : int
        Number of values in one row.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where the fitted rows had some.
    model_ : EnergyModel
        Scaling and networks, as one module.

    See Also
    --------
    ebgan_detect.detector.EBGANDetector : A discriminator that is an autoencoder.

    Notes
    -----
    With :math:`D(x) = \sigma(l(x))`, the discriminator lowers
    :math:`-\log D(x) - \log(1 - D(G(z)))` and the generator the non-saturating
    :math:`-\log D(G(z))` [1]_, by Adam at 2e-4 with :math:`\beta_1 = 0.5` [2]_. The energy
    is minus the logit :math:`l(x)` [nats], of any sign; batch normalisation uses its running
    statistics while scoring.

    The best discriminator against a fixed generator has :math:`l(x) = \log p_{data}(x) -
    \log p_G(x)`, so that the score only compares data with what the generator makes. At the
    game's equilibrium it is 0 wherever there are data, and nothing at all is asked of it
    elsewhere [1]_. A row that no player has ever seen may get any score.

    References
    ----------
    .. [1] Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.
    .. [2] Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep
       Convolutional Generative Adversarial Networks", ICLR 2016.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.02, (500, 2))
    >>> detector = GANDetector(random_state=0, max_epochs=20).fit(ring)
    >>> detector.sample(3).shape
    (3, 2)
    """

    _energy_unit: ClassVar[str] = "nats"
    _rules: ClassVar[Mapping[str, Rule]] = {
        **ArchitectureMixin._architecture_rules,
        "latent_dim": auto_or(integer(1)),
        **BaseDetector._rules,
    }

    def __init__(
        self,
        *,
        architecture: str | Factory = "auto",
        hidden_sizes: str | Sequence[int] = "auto",
        latent_dim: str | int = "auto",
        n_estimators: int = 1,
        max_epochs: str | int = "auto",
        batch_size: str | int = "auto",
        learning_rate: float = 2e-4,
        learning_rate_schedule: str = "constant",
        keep_state: str = "final",
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        contamination: str | float = "auto",
        false_alarm_rate: float = 0.05,
        scaling: str = "auto",
        device: str | torch.device = "auto",
        precision: str = "auto",
        checkpoint: str | Path | None = None,
        callbacks: Sequence[Callback] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.architecture = architecture
        self.hidden_sizes = hidden_sizes
        self.latent_dim = latent_dim
        self.n_estimators = n_estimators
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.keep_state = keep_state
        self.validation_fraction = validation_fraction
        self.calibration_fraction = calibration_fraction
        self.contamination = contamination
        self.false_alarm_rate = false_alarm_rate
        self.scaling = scaling
        self.device = device
        self.precision = precision
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _defaults(self, *, is_image: bool) -> dict[str, Any]:
        """DCGAN's settings for images, at half its width."""
        defaults = self._network_defaults(is_image=is_image)
        if defaults["architecture"] == "conv":
            defaults["hidden_sizes"] = tuple(2 * width for width in defaults["hidden_sizes"])
        updates = 1500 if is_image else defaults["max_updates"]
        return defaults | {
            "batch_size": 128,
            "max_updates": updates,
            "latent_dim": 100 if is_image else 32,
        }

    def _make_objective(self, plan: MemberPlan) -> Objective:
        """Build the networks, and set up the game."""
        latent_dim = self.settings_["latent_dim"]
        factory = self._factory(
            {"mlp": mlp_adversaries, "conv": dcgan_adversaries}, plan, latent_dim=latent_dim
        )
        players = build_adversaries(
            factory, plan.input_shape, latent_dim=latent_dim, seed=plan.seed
        )
        ends_in_tanh = self.settings_["architecture"] == "conv" and plan.bounded
        return GANObjective(
            players.discriminator,
            players.generator,
            input_shape=plan.input_shape,
            latent_dim=latent_dim,
            symmetric=ends_in_tanh,
        )
