"""`EBGANDetector`, the estimator."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base import (
    LIGHT_HINGE,
    ArchitectureMixin,
    BaseDetector,
    GenerationMixin,
    MemberPlan,
    ReconstructionMixin,
    lightened,
)
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.model import network_shape
from ebgan_detect.networks import (
    Factory,
    Networks,
    build_networks,
    check_sides,
    conv_networks,
    mlp_networks,
)
from ebgan_detect.objectives import AutoEncoderObjective, EBGANObjective, Objective
from ebgan_detect.parameters import Rule, auto_or, flag, integer, none_or, one_of, real
from ebgan_detect.training import Callback

__all__ = ["EBGANDetector"]

Margin = str | float | tuple[float, float] | Callable[[float], float]

NOISE = 0.3
"""Of mixed images; `python -m benchmarks.images heldout-digit --development --methods noiseless
noise-0.1 noise-0.5 noise-1` compares others."""
REPLAY_BYTES = 2**28
PAPER_MARGIN = 10
PAPER_IMAGE_MARGINS = {64: 20, 128: 40, 256: 80}
"""By the longer side of an image, in pixels."""


class EBGANDetector(ReconstructionMixin, GenerationMixin, ArchitectureMixin, BaseDetector):
    """Anomaly detector whose score is the energy of an energy-based GAN.

    An autoencoder is trained to reconstruct normal rows and, by an adversary, to fail on
    everything else: a generator makes rows that the autoencoder still reconstructs, and the
    autoencoder raises their energy, the reconstruction error, up to a margin.

    Parameters
    ----------
    architecture : {'auto', 'mlp', 'conv'} or callable, default='auto'
        Networks. `'auto'` takes `'conv'` for images of 8 to 256 pixels a side and `'mlp'`
        for everything else, and refuses other images of more than 65,536 values. A callable
        maps the shape of a scaled row (images channels first) to three modules: encoder, decoder,
        and generator of ``(n, latent_dim)``.
    hidden_sizes : 'auto' or tuple of int, default='auto'
        Widths of the encoder's hidden layers, or its channels at each halving of an image.
    code_dim : 'auto' or int, default='auto'
        Number of features in the code.
    latent_dim : 'auto' or int, default='auto'
        Number of features in the generator's input.
    adversarial : bool, default=True
        With False the same autoencoder is trained without its adversary: the control.
    margin : 'auto', float, tuple of two floats or callable, default='auto'
        Energy up to which generated rows are lifted [scaled input unit ** 2]. `'auto'`: a
        multiple of the energy that real rows reach in a pilot of 300 updates without adversary. A
        tuple changes linearly from its first to its second value over the training; a
        callable maps the share of training done to the margin.
    pull_away_weight : float, default=0.1
        Weight of the pulling-away term in the generator's loss.
    hinge_weight : 'auto' or float, default='auto'
        Weight of the hinge in the discriminator's loss; 1 in the paper. `'auto'`: 0.1 for
        tables. For images 1; but where their sides have 16 pixels or more and the margin's
        pilot tells strangers without an adversary, in that turning images by a quarter
        multiplies their energy, less: between the two factors ``settings_['turned_ratios']``
        the weight falls, as a power of the factor, from 1 to 0.1.
    replay_size : 'auto' or int, default='auto'
        Number of earlier generated rows that half of the negatives are drawn from; 0 for
        none, as in the paper. Images then have two negatives for each real row.
    noise : 'auto' or float, default='auto'
        Denoising: largest standard deviation of noise on the encoder's input in training [scaled
        input unit], on real rows and generated ones alike: a neighbourhood of either then has
        low energy or high. Scoring adds none. `'auto'`: 0.5 for tables; for images whose sides
        have 16 pixels or more 0.3, beside an adversary, and less where `hinge_weight` is less by
        itself, down to none at 0.1; for others none.
    coarse_weight : float, default=0.0
        Weight, in [0, 1], that errors averaged over blocks of 2 and 4 pixels have in the
        energies of images, as in `ebgan_detect.losses.energy_map`. Fine detail, which no
        autoencoder gets right, cancels within a block; a part that is missing or too much does
        not. 1 tells one kind of images from others better, mixed ones no better, and noise
        worse, among photographs most. Training minimises squared errors, whatever is scored.
    complexity_exponent : 'auto' or float, default='auto'
        Energies of images with less detail than nearly all training images are divided by this
        power of their complexity, their total variation over what all but a twentieth of the
        training images have [3]_: a plain or smooth image leaves an autoencoder little to fail
        on, even one that it never saw. 0 leaves energies as they are; so does `'auto'` for
        tables, and it is 1 for images.
    n_estimators : int, default=1
        Members, each trained from another seed, whose energies are averaged.
    n_snapshots : 'auto' or int, default='auto'
        States of each member whose energies are averaged: the final one and others at equal
        intervals over the second half of its training [2]_. Scoring takes as many times longer.
    max_epochs : 'auto' or int, default='auto'
        Passes over the training rows. `'auto'`: as many as make about
        ``settings_['max_updates']`` updates.
    batch_size : 'auto' or int, default='auto'
        Rows in an update. `'auto'`: 128 for tables, 64 for images.
    learning_rate : float, default=1e-3
        Adam's step size.
    generator_rate : float, default=1.0
        Generator's step size as a multiple of `learning_rate`, the autoencoder's. A faster
        generator follows the autoencoder more closely.
    learning_rate_schedule : {'linear', 'constant', 'cosine'}, default='linear'
        `'linear'` is constant, then falls to 0 over the second half.
    keep_state : {'final', 'average', 'separation'}, default='final'
        State kept in the end: the last one; a running average of the weights; or the epoch
        after which validation rows separate best from broad negatives (shuffled features
        and earlier generator samples). No label is involved.
    validation_fraction : float, default=0.1
        Share of the rows set aside for ``keep_state='separation'``; not used otherwise.
    calibration_fraction : float, default=0.1
        Share of the rows set aside for the threshold and p-values; raised to what
        `false_alarm_rate` needs, up to a third of the rows, and never more than half of them.
        With 0 both come from the training rows, and hold for none but those.
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
        Precision of training; scoring is always in float32. `'auto'` is `'bf16-mixed'` for
        convolutional networks on images of at least 16 pixels a side where the device
        multiplies bfloat16 natively, which halves the time, and `'float32'` elsewhere.
    checkpoint : str or path-like, default=None
        Folder that keeps the training state after every epoch. A later `fit` with the same
        rows and parameters goes on from there, to bit-identical weights on a CPU. One folder
        holds one fit, so that none suits cross-validation.
    callbacks : list of Callback, default=None
        Hooks into training.
    warm_start : bool, default=False
        Whether `fit` goes on from the fitted state. Batches, learning rate, epochs, members
        and thresholds may change then; what the first fit has settled may not.
    preset : {None, 'paper'}, default=None
        What stands behind `'auto'`. None: settings found to detect. `'paper'`: those of the
        paper [1]_, which were found to generate: a fixed margin of 10 (fully connected), 20,
        40 or 80 (images up to 64, 128, 256 pixels) on the *sum* of squared errors, a hinge of
        weight 1, no replay, no noise, one state, the plain squared error, and 64, 128, 256 (512)
        channels.
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
    margin_ : float
        Margin in force at the end of training; nan without an adversary.
    history_ : dict of str to list of float
        One entry for each member and epoch: `member`, `epoch`, mean losses, energy of real
        rows and of fresh generated ones (both with denoising noise), pulling-away term,
        share of negatives below the margin, `margin`, `learning_rate`, `seconds`.
    health_ : str
        `'healthy'`, what went wrong and its remedy, or `'not judged'` and why.
    hinge_weight_ : float
        Weight of the hinge in force; nan without an adversary.
    noise_ : float
        Largest standard deviation of noise in force [scaled input unit].
    settings_ : dict
        Values in place of `'auto'` where they follow from the kind of input, and settings that
        no parameter sets.
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
    sklearn.ensemble.IsolationForest : A detector without networks, with the same interface.

    Notes
    -----
    At the game's equilibrium the energy is flat on the data [1]_, which would be useless.
    What detects is the way there: with negatives drawn from all that the generator has made
    so far, the discriminator estimates where data outweigh them. The defaults keep that
    mixture broad, and for images average the energies of several states on the way.
    `ebgan_detect.diagnostics` measures how near a training came to the equilibrium.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network", ICLR 2017.
    .. [2] Huang et al., "Snapshot Ensembles: Train 1, Get M for Free", ICLR 2017.
    .. [3] Serrà et al., "Input Complexity and Out-of-distribution Detection with
       Likelihood-based Generative Models", ICLR 2020.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.02, (500, 2))
    >>> detector = EBGANDetector(random_state=0, max_epochs=20).fit(ring)
    >>> detector.predict([[1.0, 0.0], [4.0, 4.0]]).tolist()
    [1, -1]
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        **ArchitectureMixin._architecture_rules,
        "code_dim": auto_or(integer(1)),
        "latent_dim": auto_or(integer(1)),
        "adversarial": flag(),
        "margin": auto_or(
            Rule(
                lambda v: (
                    callable(v)
                    or real(0, closed="()").holds(v)
                    or (
                        isinstance(v, tuple | list)
                        and len(v) == 2
                        and all(real(0, closed="()").holds(end) for end in v)
                    )
                ),
                "a float > 0, a pair of such or a callable",
            )
        ),
        "pull_away_weight": real(0),
        "hinge_weight": auto_or(real(0, closed="()")),
        "generator_rate": real(0, closed="()"),
        "replay_size": auto_or(integer(0)),
        "noise": auto_or(real(0)),
        "coarse_weight": real(0, 1),
        "complexity_exponent": auto_or(real(0)),
        "n_snapshots": auto_or(integer(1)),
        "preset": none_or(one_of("paper")),
        **BaseDetector._rules,
    }

    def __init__(
        self,
        *,
        architecture: str | Factory = "auto",
        hidden_sizes: str | Sequence[int] = "auto",
        code_dim: str | int = "auto",
        latent_dim: str | int = "auto",
        adversarial: bool = True,
        margin: Margin = "auto",
        pull_away_weight: float = 0.1,
        hinge_weight: str | float = "auto",
        replay_size: str | int = "auto",
        noise: str | float = "auto",
        coarse_weight: float = 0.0,
        complexity_exponent: str | float = "auto",
        n_estimators: int = 1,
        n_snapshots: str | int = "auto",
        max_epochs: str | int = "auto",
        batch_size: str | int = "auto",
        learning_rate: float = 1e-3,
        generator_rate: float = 1.0,
        learning_rate_schedule: str = "linear",
        keep_state: str = "final",
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        contamination: str | float = "auto",
        false_alarm_rate: float = 0.05,
        scaling: str = "auto",
        device: str | torch.device = "auto",
        precision: str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] | None = None,
        warm_start: bool = False,
        preset: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.architecture = architecture
        self.hidden_sizes = hidden_sizes
        self.code_dim = code_dim
        self.latent_dim = latent_dim
        self.adversarial = adversarial
        self.margin = margin
        self.pull_away_weight = pull_away_weight
        self.hinge_weight = hinge_weight
        self.replay_size = replay_size
        self.noise = noise
        self.coarse_weight = coarse_weight
        self.complexity_exponent = complexity_exponent
        self.n_estimators = n_estimators
        self.n_snapshots = n_snapshots
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.generator_rate = generator_rate
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
        self.preset = preset
        self.random_state = random_state
        self.verbose = verbose

    @property
    def margin_(self) -> float:
        """Margin in force at the end of training.

        Returns
        -------
        float
            Mean over the members [scaled input unit ** 2]; nan without an adversary.
        """
        return self._mean_of_games("margin")

    @property
    def hinge_weight_(self) -> float:
        """Weight of the hinge in force.

        Returns
        -------
        float
            Mean over the members; nan without an adversary.
        """
        return self._mean_of_games("hinge_weight")

    @property
    def noise_(self) -> float:
        """Largest standard deviation of the noise on the encoder's input in training.

        Returns
        -------
        float
            Mean over the members [scaled input unit].
        """
        return self._mean_of_games("noise", AutoEncoderObjective)

    def _mean_of_games(self, name: str, kind: type[Objective] = EBGANObjective) -> float:
        """Mean of a number over the members that play a kind of game."""
        check_is_fitted(self, "model_")
        values = [
            float(getattr(game, name)) for game in self.model_.members if isinstance(game, kind)
        ]
        return float(np.mean(values)) if values else math.nan

    # --- the game ---------------------------------------------------------------------------

    def _defaults(self, *, is_image: bool) -> dict[str, Any]:
        """One configuration for each kind of input."""
        replay = REPLAY_BYTES // (4 * math.prod(self.input_shape_))
        common = self._autoencoder_defaults(is_image=is_image)
        batch_size = common["batch_size"] if self.batch_size == "auto" else self.batch_size
        common |= {"latent_dim": 32, "replay_size": min(100 * batch_size, replay)}
        if self.preset == "paper":
            return common | self._paper_settings(conv=common["architecture"] == "conv")
        if is_image:
            # Found on pictures of 28 pixels a side; in tiny ones a turn says little (RESULTS.md).
            large = min(self.input_shape_[-2:]) >= 16
            noise = NOISE if self.adversarial else 0.0
            conv = common["architecture"] == "conv"
            return (
                common
                | ({"generator_width": 2} if conv else {})
                | ({"turned_ratios": (2.35, 2.85), "noise": noise} if large else {})
                | {
                    "hinge_weight": 1.0,
                    "margin_multiple": 4.0,
                    "negatives_ratio": 2,
                    "n_snapshots": 5,
                }
            )
        return common | {
            "hinge_weight": LIGHT_HINGE,
            "margin_multiple": 3.0,
            "negatives_ratio": 1,
            "n_snapshots": 1,
        }

    def _paper_settings(self, *, conv: bool) -> dict[str, Any]:
        """The paper's own settings; its margins are on sums of squared errors, ours on means."""
        settings = {
            "hinge_weight": 1.0,
            "margin": PAPER_MARGIN / math.prod(self.input_shape_),
            "negatives_ratio": 1,
            "n_snapshots": 1,
            "noise": 0.0,
            "complexity_exponent": 0.0,
            "replay_size": 0,
        }
        if not conv:
            return settings
        check_sides(network_shape(self.input_shape_))
        shorter, longer = sorted(self.input_shape_[-2:])
        margin = next(m for side, m in PAPER_IMAGE_MARGINS.items() if longer <= side)
        levels = max(1, min(4, (shorter // 4).bit_length() - 1))
        return settings | {
            "margin": margin / math.prod(self.input_shape_),
            "hidden_sizes": tuple(64 << level for level in range(levels)),
        }

    def _make_objective(self, plan: MemberPlan) -> Objective:
        """Build the networks, settle the margin, and set up the game."""
        settings = self.settings_
        networks = self._networks(plan)
        if not self.adversarial:
            return AutoEncoderObjective(
                networks,
                noise=settings["noise"],
                n_snapshots=settings["n_snapshots"],
                coarse_weight=self.coarse_weight,
            )
        margin, hinge_weight = self._terms(plan, networks)
        return EBGANObjective(
            networks,
            input_shape=plan.input_shape,
            latent_dim=settings["latent_dim"],
            margin=margin,
            pull_away_weight=self.pull_away_weight,
            hinge_weight=hinge_weight,
            replay_size=settings["replay_size"],
            negatives_ratio=settings["negatives_ratio"],
            generator_rate=self.generator_rate,
            noise=self._noise(hinge_weight),
            n_snapshots=settings["n_snapshots"],
            coarse_weight=self.coarse_weight,
        )

    def _terms(
        self, plan: MemberPlan, networks: Networks
    ) -> tuple[float | Callable[[float], float], float]:
        """Margin and hinge weight as the game takes them; automatic ones stay fixed from here on.

        One pilot settles both; a given margin spares it, and with it the choice of the weight.
        """
        settings = self.settings_
        weight = float(settings["hinge_weight"])
        if callable(self.margin):
            return partial(_checked, self.margin), weight
        if isinstance(self.margin, tuple | list):
            return partial(_between, *self.margin), weight
        if not isinstance(self.margin, str):
            return float(self.margin), weight
        if "margin" in settings:
            return float(settings["margin"]), weight
        if "margin" in plan.resumed:
            # A file from before there was a choice lacks it; reading its weights says so.
            return float(plan.resumed["margin"]), float(plan.resumed.get("hinge_weight", weight))
        if plan.pilot is None:
            raise InvalidParameterError("margin='auto' needs training rows for its pilot, got none")
        noise = 0.0 if self._noise_follows else settings["noise"]
        pilot = plan.pilot(AutoEncoderObjective(copy.deepcopy(networks), noise=noise))
        if self.hinge_weight == "auto" and "turned_ratios" in settings:
            weight *= lightened(pilot.turned_ratio(), *settings["turned_ratios"])
        return float(settings["margin_multiple"] * pilot.energy()), weight

    @property
    def _noise_follows(self) -> bool:
        """Whether noise becomes lighter with the hinge."""
        chosen = self.noise == "auto" and self.hinge_weight == "auto"
        return chosen and "turned_ratios" in self.settings_

    def _noise(self, hinge_weight: float) -> float:
        """Noise beside a hinge of that weight: none where it is light."""
        noise = float(self.settings_["noise"])
        if not self._noise_follows:
            return noise
        # In the precision in which a file keeps the weight, so that it resumes with the same.
        share = math.log(float(np.float32(hinge_weight))) / math.log(LIGHT_HINGE)
        return noise * round(1 - share, 6)

    def _networks(self, plan: MemberPlan) -> Networks:
        """Networks of one member."""
        latent_dim = self.settings_["latent_dim"]
        width = self.settings_.get("generator_width", 2)  # the paper's and old files' lack it
        factory = self._factory(
            {"mlp": mlp_networks, "conv": partial(conv_networks, generator_width=width)},
            plan,
            code_dim=self.settings_["code_dim"],
            latent_dim=latent_dim,
        )
        return build_networks(factory, plan.input_shape, latent_dim=latent_dim, seed=plan.seed)


def _checked(schedule: Callable[[float], float], progress: float) -> float:
    """Margin of the user's own schedule."""
    margin = schedule(progress)
    if not real(0, closed="()").holds(margin):
        raise InvalidParameterError(
            f"margin must return a float > 0, got {margin!r} at {progress:.3g} of the training"
        )
    return margin


def _between(start: float, stop: float, progress: float) -> float:
    """Margin on a straight line from start to stop."""
    return start + (stop - start) * progress
