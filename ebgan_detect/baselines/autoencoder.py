"""The autoencoder without an adversary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ebgan_detect.base import ArchitectureMixin, BaseDetector, MemberPlan, ReconstructionMixin
from ebgan_detect.networks import (
    Factory,
    build_autoencoder,
    conv_autoencoder,
    mlp_autoencoder,
)
from ebgan_detect.objectives import AutoEncoderObjective, Objective
from ebgan_detect.parameters import Rule, auto_or, integer, real
from ebgan_detect.training import Callback

__all__ = ["AutoEncoderDetector"]


class AutoEncoderDetector(ReconstructionMixin, ArchitectureMixin, BaseDetector):
    r"""Anomaly detector whose score is the reconstruction error of an autoencoder.

    The network is that of `EBGANDetector`, trained without an adversary: with the same seed
    and number of snapshots it scores bit for bit as ``EBGANDetector(adversarial=False)``.
    What the adversary is worth on some data is the difference between the two.

    Parameters
    ----------
    architecture : {'auto', 'mlp', 'conv'} or callable, default='auto'
        Networks. `'auto'` takes `'conv'` for images of 8 to 256 pixels a side and `'mlp'`
        for everything else. A callable maps the shape of a scaled row (images channels
        first) to two modules: encoder and decoder. A third, the
        generator of a factory written for `EBGANDetector`, is left aside.
    hidden_sizes : 'auto' or tuple of int, default='auto'
        Widths of the encoder's hidden layers, or its channels at each halving of an image.
    code_dim : 'auto' or int, default='auto'
        Number of features in the code.
    noise : 'auto' or float, default='auto'
        Denoising: largest standard deviation of noise on the encoder's input in training [scaled
        input unit]: none for images, 0.5 for tables.
    coarse_weight : float, default=0.0
        Weight, in [0, 1], that errors averaged over blocks of 2 and 4 pixels have in the
        energies of images, as in `EBGANDetector`.
    complexity_exponent : 'auto' or float, default='auto'
        Power of their complexity that energies of plain images are divided by, as in
        `EBGANDetector`; 0 leaves them as they are.
    n_estimators : int, default=1
        Members whose energies are averaged.
    n_snapshots : int, default=1
        States of each member whose energies are averaged, as in `EBGANDetector`.
    max_epochs : 'auto' or int, default='auto'
        Passes over the training rows. `'auto'`: as many as make about
        ``settings_['max_updates']`` updates.
    batch_size : 'auto' or int, default='auto'
        Rows in an update. `'auto'`: 128 for tables, 64 for images.
    learning_rate : float, default=1e-3
        Adam's step size.
    learning_rate_schedule : {'linear', 'constant', 'cosine'}, default='linear'
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
        `energy_real`, which are both the energy of real rows (with their denoising noise),
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
    ebgan_detect.detector.EBGANDetector : The same autoencoder with its adversary.

    Notes
    -----
    The energy is the mean squared error over the features of the scaled row,

    .. math:: E(x) = \frac{1}{d} \lVert x - \mathrm{Dec}(\mathrm{Enc}(x)) \rVert^2 ,

    and for unusually plain images that relative to their complexity.

    With `noise` the encoder sees ``x + level * e`` in training, where `level` is uniform in
    [0, noise] and `e` standard normal, and must give back `x` [2]_. An autoencoder also
    reconstructs what it never saw, if it is simpler than its training rows: blank images,
    for example.

    References
    ----------
    .. [1] Hinton, Salakhutdinov, "Reducing the Dimensionality of Data with Neural
       Networks", Science 313, 2006.
    .. [2] Vincent et al., "Extracting and Composing Robust Features with Denoising
       Autoencoders", ICML 2008.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.02, (500, 2))
    >>> detector = AutoEncoderDetector(random_state=0, max_epochs=20).fit(ring)
    >>> detector.predict([[1.0, 0.0], [4.0, 4.0]]).tolist()
    [1, -1]
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        **ArchitectureMixin._architecture_rules,
        "code_dim": auto_or(integer(1)),
        "noise": auto_or(real(0)),
        "coarse_weight": real(0, 1),
        "complexity_exponent": auto_or(real(0)),
        "n_snapshots": integer(1),
        **BaseDetector._rules,
    }

    def __init__(
        self,
        *,
        architecture: str | Factory = "auto",
        hidden_sizes: str | Sequence[int] = "auto",
        code_dim: str | int = "auto",
        noise: str | float = "auto",
        coarse_weight: float = 0.0,
        complexity_exponent: str | float = "auto",
        n_estimators: int = 1,
        n_snapshots: int = 1,
        max_epochs: str | int = "auto",
        batch_size: str | int = "auto",
        learning_rate: float = 1e-3,
        learning_rate_schedule: str = "linear",
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
        self.code_dim = code_dim
        self.noise = noise
        self.coarse_weight = coarse_weight
        self.complexity_exponent = complexity_exponent
        self.n_estimators = n_estimators
        self.n_snapshots = n_snapshots
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
        """The autoencoder of every detector."""
        return self._autoencoder_defaults(is_image=is_image)

    def _make_objective(self, plan: MemberPlan) -> Objective:
        """Build the networks, and set up the game."""
        factory = self._factory(
            {"mlp": mlp_autoencoder, "conv": conv_autoencoder},
            plan,
            code_dim=self.settings_["code_dim"],
        )
        networks = build_autoencoder(factory, plan.input_shape, seed=plan.seed)
        return AutoEncoderObjective(
            networks,
            noise=self.settings_["noise"],
            n_snapshots=self.n_snapshots,
            coarse_weight=self.coarse_weight,
        )
