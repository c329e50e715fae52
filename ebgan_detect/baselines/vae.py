"""The variational autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ebgan_detect.base import (
    ArchitectureMixin,
    BaseDetector,
    GenerationMixin,
    MemberPlan,
    ReconstructionMixin,
)
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.networks import (
    Factory,
    build_autoencoder,
    conv_autoencoder,
    mlp_autoencoder,
)
from ebgan_detect.objectives import LIKELIHOODS, Objective, VAEObjective
from ebgan_detect.parameters import Rule, auto_or, integer, one_of, real
from ebgan_detect.training import Callback

__all__ = ["VAEDetector"]


class VAEDetector(ReconstructionMixin, GenerationMixin, ArchitectureMixin, BaseDetector):
    r"""Anomaly detector whose score is the evidence lower bound of a variational autoencoder.

    Parameters
    ----------
    architecture : {'auto', 'mlp', 'conv'} or callable, default='auto'
        Networks. `'auto'` takes `'conv'` for images of 8 to 256 pixels a side and `'mlp'`
        for everything else. A callable maps the shape of a scaled row (images channels
        first) to two modules: encoder ``-> (n, 2 * code_dim)``, means
        and then log-variances, and decoder, whose output are logits for the Bernoulli
        likelihood and means for the Gaussian one.
    hidden_sizes : 'auto' or tuple of int, default='auto'
        Widths of the encoder's hidden layers, or its channels at each halving of an image.
    code_dim : 'auto' or int, default='auto'
        Number of features in the code.
    likelihood : {'auto', 'bernoulli', 'gaussian'}, default='auto'
        Distribution of a row given its code. `'bernoulli'` takes rows that are scaled onto
        [0, 1]; `'gaussian'` has one variance, learned from the rows. `'auto'` is
        `'bernoulli'` for images that are scaled so, else `'gaussian'`.
    kl_weight : float, default=1.0
        Weight of the divergence of codes from their prior, in training and in the score.
        Towards 0 the Gaussian VAE ranks rows as an autoencoder does.
    n_draws : int, default=0
        0: the score is the lower bound at the mean of the code. Otherwise it is the
        importance-weighted bound from so many draws of the code. The noise of the draws is
        made once and is part of the model. Either score is a function of the row alone.
    n_estimators : int, default=1
        Members whose energies are averaged.
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
        One entry for each member and epoch: `member`, `epoch`, `loss` and
        `negative_log_likelihood` [nats per feature], `divergence` [nats per row],
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
    AutoEncoderDetector : The same networks without a distribution of the code.

    Notes
    -----
    Training maximises, with one reparameterised draw of the code for each row [1]_,

    .. math:: \mathrm{ELBO}(x) = E_{z \sim q(z|x)} \log p(x|z)
              - \beta \, \mathrm{KL}(q(z|x) \,\Vert\, N(0, I)),

    where q is Gaussian with a diagonal covariance and :math:`\beta` is `kl_weight`. The
    energy is the negative bound, divided by the number of features [nats per feature], of
    any sign. At the code's mean, which replaces the expectation, it costs one pass and is
    no strict bound. With :math:`K` draws it is [2]_

    .. math:: E(x) = -\frac{1}{d} \log \frac{1}{K} \sum_{k=1}^K
              \frac{p(x|z_k) \, p(z_k)^\beta}{q(z_k|x)^\beta},

    which at :math:`\beta = 1` falls towards :math:`-\log p(x) / d` as K grows.

    References
    ----------
    .. [1] Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    .. [2] Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.02, (500, 2))
    >>> detector = VAEDetector(random_state=0, max_epochs=20).fit(ring)
    >>> detector.predict([[1.0, 0.0], [4.0, 4.0]]).tolist()
    [1, -1]
    """

    _energy_unit: ClassVar[str] = "nats per feature"
    _rules: ClassVar[Mapping[str, Rule]] = {
        **ArchitectureMixin._architecture_rules,
        "code_dim": auto_or(integer(1)),
        "likelihood": one_of("auto", *LIKELIHOODS),
        "kl_weight": real(0),
        "n_draws": integer(0),
        **BaseDetector._rules,
    }

    def __init__(
        self,
        *,
        architecture: str | Factory = "auto",
        hidden_sizes: str | Sequence[int] = "auto",
        code_dim: str | int = "auto",
        likelihood: str = "auto",
        kl_weight: float = 1.0,
        n_draws: int = 0,
        n_estimators: int = 1,
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
        self.likelihood = likelihood
        self.kl_weight = kl_weight
        self.n_draws = n_draws
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
        """The autoencoder of every detector, without denoising, its energies as they are."""
        defaults = self._autoencoder_defaults(is_image=is_image)
        del defaults["noise"], defaults["complexity_exponent"]
        bounded = is_image and self.scaling in ("auto", "minmax")
        # After three times an autoencoder's updates the codes of a table have found their use.
        defaults["max_updates"] *= 1 if is_image else 3
        return defaults | {"likelihood": "bernoulli" if bounded else "gaussian"}

    def _make_objective(self, plan: MemberPlan) -> Objective:
        """Build the networks, and set up the game."""
        likelihood, code_dim = self.settings_["likelihood"], self.settings_["code_dim"]
        if likelihood == "bernoulli" and not plan.bounded:
            raise InvalidParameterError(
                "likelihood='bernoulli' needs rows scaled onto [0, 1], got "
                f"scaling={self.scaling!r} on rows of shape {self.input_shape_}; take "
                "scaling='minmax' or likelihood='gaussian'"
            )
        plan_of_decoder = replace(plan, bounded=plan.bounded and likelihood == "gaussian")
        factory = self._factory(
            {"mlp": mlp_autoencoder, "conv": conv_autoencoder},
            plan_of_decoder,
            code_dim=code_dim,
            n_statistics=2,
        )
        networks = build_autoencoder(factory, plan.input_shape, seed=plan.seed, latent_dim=code_dim)
        return VAEObjective(
            networks,
            latent_dim=code_dim,
            likelihood=likelihood,
            kl_weight=self.kl_weight,
            n_draws=self.n_draws,
        )
