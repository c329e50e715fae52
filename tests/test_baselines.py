"""The baselines under the contract of `EBGANDetector`."""

import pickle  # noqa: TID251 - scikit-learn's tools pickle estimators

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

from ebgan_detect import (
    Callback,
    EBGANDetector,
    ExportError,
    InvalidParameterError,
    TrainingHealthWarning,
    load,
    save,
)
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.export import export_onnx, export_triton
from ebgan_detect.networks import build_adversaries, dcgan_adversaries
from ebgan_detect.plotting import (
    EnergyHistogramDisplay,
    EnergyMapDisplay,
    EnergySurfaceDisplay,
    SampleGridDisplay,
    TrainingHistoryDisplay,
)

SMALL = {"max_epochs": 2, "hidden_sizes": (4,), "random_state": 0}
KINDS = {
    "autoencoder": (AutoEncoderDetector, {"code_dim": 3}),
    "vae": (VAEDetector, {"code_dim": 3}),
    "vae-draws": (VAEDetector, {"code_dim": 3, "n_draws": 4, "likelihood": "gaussian"}),
    "gan": (GANDetector, {"latent_dim": 3}),
}
DIGITS = load_digits().images[:300]


def ring(n=300, seed=0):
    """Points on a noisy circle."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.05, (n, 2))


def make(kind, **parameters):
    family, own = KINDS[kind]
    return family(**SMALL | own | parameters)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def on_table(kind):
    return make(kind, n_estimators=2).fit(ring())


@pytest.fixture(scope="module")
def on_images(kind):
    return make(kind, max_epochs=1).fit(DIGITS)


@pytest.fixture(params=["table", "images"])
def fitted_and_rows(request, on_table, on_images):
    return (on_table, ring()) if request.param == "table" else (on_images, DIGITS)


# --- the contract ---------------------------------------------------------------------------


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pair
        for family in (AutoEncoderDetector, VAEDetector, GANDetector)
        for pair in estimator_checks_generator(family(max_epochs=3, hidden_sizes=(16,)))
    ],
    ids=lambda value: getattr(
        getattr(value, "func", value), "__name__", type(value).__name__.lower()
    ),
)
def test_estimator_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


def test_parameters_common_with_ebgan_have_its_names_and_mostly_its_defaults():
    common = EBGANDetector().get_params()
    own = {"likelihood", "kl_weight", "n_draws"}
    different = {}
    for family in (AutoEncoderDetector, VAEDetector, GANDetector):
        for name, value in family().get_params().items():
            assert name in common or name in own
            if name in common and value != common[name]:
                different[family, name] = value
    assert different == {
        (AutoEncoderDetector, "n_snapshots"): 1,  # EBGANDetector's are 'auto'
        (GANDetector, "learning_rate"): 2e-4,
        (GANDetector, "learning_rate_schedule"): "constant",
    }


def test_detectors_have_only_the_methods_that_they_can_answer():
    reconstruction, generation = {"reconstruct", "energy_map"}, {"sample", "generate"}
    for family, expected in {
        AutoEncoderDetector: reconstruction,
        VAEDetector: reconstruction | generation,
        GANDetector: generation,
    }.items():
        found = {name for name in reconstruction | generation if hasattr(family, name)}
        assert found == expected


@pytest.mark.parametrize("n_snapshots", [1, 3])
@pytest.mark.parametrize("x", [ring(), DIGITS], ids=["table", "images"])
def test_autoencoder_is_ebgan_without_its_adversary(x, n_snapshots):
    options = {"n_snapshots": n_snapshots, "max_epochs": 2, "random_state": 0}
    detector = AutoEncoderDetector(**options).fit(x)
    control = EBGANDetector(adversarial=False, **options).fit(x)
    np.testing.assert_array_equal(detector.energy(x), control.energy(x))
    for name, value in detector.settings_.items():
        assert control.settings_[name] == value


def test_scores_depend_on_neither_batch_nor_order_and_repeat(fitted_and_rows):
    detector, x = fitted_and_rows
    whole = detector.score_samples(x[:130])
    order = np.random.default_rng(0).permutation(130)
    np.testing.assert_array_equal(detector.score_samples(x[order]), whole[order])
    np.testing.assert_array_equal(detector.score_samples(x[7:8]), whole[7:8])
    np.testing.assert_array_equal(detector.score_samples(x[:130]), whole)
    assert np.ptp(whole) > 0


def test_maps_average_to_the_energy_and_reconstructions_have_the_rows_shape(fitted_and_rows):
    detector, x = fitted_and_rows
    if not hasattr(detector, "energy_map"):
        return
    split = detector.energy_map(x[:50])
    assert split.shape == detector.reconstruct(x[:50]).shape == x[:50].shape
    np.testing.assert_allclose(
        split.reshape(50, -1).mean(axis=1), detector.energy(x[:50]), rtol=1e-9, atol=1e-12
    )


def test_generated_rows_lie_in_the_fitted_unit(fitted_and_rows):
    detector, x = fitted_and_rows
    if not hasattr(detector, "sample"):
        return
    rows = detector.sample(9, random_state=0)
    assert rows.shape == (9, *x.shape[1:])
    np.testing.assert_array_equal(rows, detector.sample(9, random_state=0))
    if x.ndim > 2 and detector.settings_.get("likelihood") != "gaussian":
        assert rows.min() >= x.min()
        assert rows.max() <= x.max()
        assert rows.max() > 1  # digits go to 16


def test_file_and_pickle_score_bit_for_bit(fitted_and_rows, tmp_path):
    detector, x = fitted_and_rows
    save(detector, tmp_path / "m.ebgan")
    for other in (load(tmp_path / "m.ebgan"), pickle.loads(pickle.dumps(detector))):  # noqa: S301
        assert type(other) is type(detector)
        for method in ("energy", "predict", "p_values"):
            np.testing.assert_array_equal(getattr(other, method)(x), getattr(detector, method)(x))
        if hasattr(detector, "sample"):
            np.testing.assert_array_equal(
                other.sample(5, random_state=3), detector.sample(5, random_state=3)
            )
    assert load(tmp_path / "m.ebgan").get_params() == detector.get_params()


def test_training_goes_on_from_its_checkpoint_to_the_same_scores(kind, tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                raise OSError("power cut")

    x = ring()
    whole = make(kind, max_epochs=4).fit(x)
    with pytest.raises(OSError, match="power cut"):
        make(kind, max_epochs=4, checkpoint=tmp_path, callbacks=[Stop()]).fit(x)
    resumed = make(kind, max_epochs=4, checkpoint=tmp_path).fit(x)
    np.testing.assert_array_equal(resumed.energy(x), whole.energy(x))
    assert resumed.n_iter_ == 4


def test_warm_start_and_partial_fit_go_on(kind):
    x = ring()
    detector = make(kind, warm_start=True).fit(x)
    first = detector.energy(x)
    detector.fit(x).partial_fit(x[:100])
    assert detector.n_iter_ == 5
    assert not np.array_equal(detector.energy(x), first)
    assert len(set(map(len, detector.history_.values()))) == 1
    assert make(kind).partial_fit(x).n_iter_ == 1


def test_same_seed_gives_the_same_scores_and_others_do_not(kind):
    x = ring()
    detector = make(kind, max_epochs=1).fit(x)
    np.testing.assert_array_equal(clone(detector).fit(x).energy(x), detector.energy(x))
    other = make(kind, max_epochs=1, random_state=1).fit(x)
    assert not np.array_equal(other.energy(x), detector.energy(x))


def test_criterion_and_average_work_for_every_game(kind):
    for keep_state in ("separation", "average"):
        detector = make(kind, keep_state=keep_state).fit(ring())
        assert np.isfinite(detector.energy(ring())).all()


def test_far_finite_row_has_infinite_energy(kind, on_table):
    if kind != "gan":  # a logit may have either sign out there
        assert on_table.energy(np.full((1, 2), 1e300)) == np.inf
        assert on_table.predict(np.full((1, 2), 1e300)) == -1


def test_row_that_overflows_the_logit_is_an_outlier(kind, on_table):
    if kind == "gan":
        assert (on_table.energy([[1e300, 0], [-1e300, 0], [0, 1e300], [0, -1e300]]) == np.inf).all()


# --- detection ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "trained", "least"),
    [(VAEDetector, {"max_epochs": 60}, 0.9), (GANDetector, {"max_epochs": 60}, 0.6)],
)
def test_training_beats_the_untrained_network_on_digits(family, trained, least):
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    normal, abnormal = images[labels == 0], images[labels == 1]
    test = np.concatenate([normal[1::2], abnormal])
    is_anomaly = np.arange(len(test)) >= len(normal[1::2])

    def auroc(**parameters):
        detector = family(random_state=0, hidden_sizes=(16,), batch_size=32, **parameters)
        return roc_auc_score(is_anomaly, detector.fit(normal[::2]).energy(test))

    untrained = auroc(max_epochs=1, learning_rate=1e-30)
    found = auroc(**trained)
    assert found > untrained + 0.05
    assert found > least


def test_vae_with_a_light_divergence_ranks_as_the_autoencoder():
    """Of linear networks both find the principal component, which has no other optimum."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 3)) * [3, 1, 0.5], rng.normal(size=(300, 3))
    options = {
        "code_dim": 1,
        "scaling": "none",
        "learning_rate": 0.02,
        "max_epochs": 80,
        "random_state": 0,
    }
    plain = AutoEncoderDetector(
        architecture=lambda _: (nn.Linear(3, 1), nn.Linear(1, 3)), noise=0.0, **options
    )
    reference = plain.fit(x).energy(y)

    def agreement(kl_weight):
        detector = VAEDetector(
            architecture=lambda _: (nn.Linear(3, 2), nn.Linear(1, 3)),
            kl_weight=kl_weight,
            **options,
        )
        energy = detector.fit(x).energy(y)
        error = ((detector.reconstruct(y) - y) ** 2).mean(axis=1)
        return spearmanr(energy, error)[0], spearmanr(energy, reference)[0]

    by_error, with_autoencoder = agreement(0.0)
    assert by_error > 0.9999
    assert with_autoencoder > 0.95
    assert agreement(1.0)[1] < with_autoencoder


def test_discriminator_that_wins_is_named():
    class Stubborn(nn.Module):
        """A generator that makes nothing but a faraway point, whatever it learns."""

        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, latents):
            return 20 + 0.0 * self.inner(latents)

    with pytest.warns(TrainingHealthWarning, match="the discriminator won: real rows"):
        detector = GANDetector(
            architecture=lambda shape: (nn.Linear(2, 1), Stubborn()),
            latent_dim=2,
            learning_rate=0.05,
            max_epochs=260,
            random_state=0,
        ).fit(ring(300))
    assert "lower learning_rate" in detector.health_


# --- parameters and networks ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "parameters", "message"),
    [
        (VAEDetector, {"likelihood": "poisson"}, "likelihood must be 'auto' or 'bernoulli' or"),
        (VAEDetector, {"kl_weight": -1}, "kl_weight must be a float >= 0, got -1"),
        (VAEDetector, {"n_draws": -1}, "n_draws must be an int >= 0, got -1"),
        (VAEDetector, {"likelihood": "bernoulli"}, r"likelihood='bernoulli' .* scaling='auto'"),
        (AutoEncoderDetector, {"noise": -1}, "noise must be"),
        (GANDetector, {"latent_dim": 0}, "latent_dim must be 'auto' or an int >= 1, got 0"),
        (GANDetector, {"architecture": "conv"}, "architecture='conv' needs images"),
        (GANDetector, {"architecture": lambda _: nn.Linear(2, 1)}, r"two modules \(discriminator"),
        (
            GANDetector,
            {"architecture": lambda _: (nn.Linear(2, 2), nn.Linear(32, 2))},
            r"discriminator must return shape \(n,\) or \(n, 1\), got \(2, 2\)",
        ),
        (
            GANDetector,
            {"architecture": lambda _: (nn.Linear(2, 1), nn.Linear(32, 3))},
            "generator must return shape",
        ),
        (
            VAEDetector,
            {"architecture": lambda _: (nn.Linear(2, 5), nn.Linear(5, 2)), "code_dim": 5},
            r"encoder must return shape \(n, 10\).* got \(2, 5\)",
        ),
        (
            AutoEncoderDetector,
            {"architecture": lambda _: (nn.Linear(2, 5), nn.Linear(4, 2))},
            "architecture does not fit rows",
        ),
    ],
)
def test_wrong_parameters_are_refused(family, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        family(max_epochs=1, **parameters).fit(ring(60))


def test_factories_work_and_survive_a_file(tmp_path):
    x = ring(100)
    factories = {
        AutoEncoderDetector: lambda _: (nn.Linear(2, 3), nn.Linear(3, 2)),
        VAEDetector: lambda _: (nn.Linear(2, 6), nn.Linear(3, 2)),
        GANDetector: lambda _: (nn.Linear(2, 1), nn.Linear(3, 2)),
    }
    for family, factory in factories.items():
        own = {"latent_dim": 3} if family is GANDetector else {"code_dim": 3}
        detector = family(architecture=factory, max_epochs=1, random_state=0, **own).fit(x)
        save(detector, tmp_path / "m.ebgan")
        again = load(tmp_path / "m.ebgan", architecture=factory)
        np.testing.assert_array_equal(again.energy(x), detector.energy(x))


def test_factory_of_ebgan_serves_the_autoencoder_too():
    def factory(shape):
        return nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(32, 2)

    x = ring(100)
    options = {"architecture": factory, "n_snapshots": 1, "max_epochs": 1, "random_state": 0}
    np.testing.assert_array_equal(
        AutoEncoderDetector(**options).fit(x).energy(x),
        EBGANDetector(adversarial=False, **options).fit(x).energy(x),
    )


def test_likelihood_follows_the_scaling():
    settings = {
        ("auto", 3): "bernoulli",
        ("minmax", 3): "bernoulli",
        ("standard", 3): "gaussian",
        ("auto", 2): "gaussian",
        ("minmax", 2): "gaussian",
    }
    for (scaling, ndim), expected in settings.items():
        x = DIGITS[:40] if ndim == 3 else ring(40)
        detector = make("vae", max_epochs=1, scaling=scaling, false_alarm_rate=0.2).fit(x)
        assert detector.settings_["likelihood"] == expected
    table = make("vae", max_epochs=1, scaling="minmax", likelihood="bernoulli").fit(ring(100))
    assert np.isfinite(table.energy(ring(50, seed=9) * 3)).all()


def test_dcgan_has_the_layers_of_the_paper():
    players = build_adversaries(
        lambda s: dcgan_adversaries(
            s, hidden_sizes=(32, 64, 128, 256), latent_dim=100, bounded=True
        ),
        (3, 64, 64),
        latent_dim=100,
        seed=0,
    )

    def names(network):
        return [type(layer).__name__ for layer in network]

    level = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert names(players.discriminator) == [
        *("Conv2d", "LeakyReLU"),
        *(3 * level),
        *("Flatten", "Linear"),
    ]
    level = ["BatchNorm2d", "ReLU", "ConvTranspose2d"]
    assert names(players.generator) == ["Linear", "Unflatten", *(4 * level), "Tanh"]
    for layer in (*players.discriminator, *players.generator):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert (layer.kernel_size, layer.stride) == ((5, 5), (2, 2))
        if isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.2
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            n = layer.weight.numel()
            assert abs(layer.weight.mean()) < 5 * 0.02 / n**0.5
            assert layer.weight.std().item() == pytest.approx(0.02, abs=5 * 0.02 / (2 * n) ** 0.5)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.02)
    assert players.generator[1].unflattened_size == (256, 4, 4)


@pytest.mark.parametrize("sides", [(8, 8), (9, 256), (17, 30), (28, 28), (64, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_dcgan_fits_images_of_any_size(sides, channels):
    shape = (channels, *sides)
    for hidden_sizes in ((2,), (2, 3)):
        players = dcgan_adversaries(shape, hidden_sizes=hidden_sizes, latent_dim=4, bounded=True)
        with torch.no_grad():
            rows = players.generator(torch.zeros(2, 4))
            assert rows.shape == (2, *shape)
            assert players.discriminator(rows).shape == (2, 1)


@pytest.mark.parametrize("hidden_sizes", [(), (2, 3, 4), (1, 1, 1, 1)])
def test_dcgan_refuses_levels_that_leave_no_image(hidden_sizes):
    with pytest.raises(InvalidParameterError, match=r"hidden_sizes .* 8x8"):
        dcgan_adversaries((1, 8, 8), hidden_sizes=hidden_sizes, latent_dim=4, bounded=True)


def test_dcgan_widths_and_range():
    detector = GANDetector(max_epochs=1, false_alarm_rate=0.2, random_state=0)
    detector.fit(np.random.default_rng(0).integers(0, 256, (20, 16, 17)).astype(np.uint8))
    assert detector.settings_["hidden_sizes"] == (64, 128)
    assert detector.settings_["latent_dim"] == 100
    assert detector.settings_["batch_size"] == 128
    game = detector.model_.members[0]
    assert game.symmetric
    assert isinstance(game.generator[-1], nn.Tanh)
    unbounded = make("gan", max_epochs=1, scaling="standard").fit(DIGITS[:100])
    assert not unbounded.model_.members[0].symmetric
    assert not isinstance(unbounded.model_.members[0].generator[-1], nn.Tanh)


# --- displays and export ----------------------------------------------------------------------


@pytest.fixture
def _agg():
    """Draw without a screen, and leave no figure open."""
    backend = mpl.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.usefixtures("_agg")
def test_displays_draw_every_detector(kind, on_table, on_images):
    x = ring()
    unit = {"autoencoder": "[scaled unit²]", "gan": "[nats]"}.get(kind, "[nats per feature]")
    histogram = EnergyHistogramDisplay.from_estimator(on_table, x, np.arange(300) > 250)
    histogram.figure_.canvas.draw()
    assert unit in histogram.ax_.get_xlabel()
    negative = on_table.energy(x).min() < 0
    assert negative == (histogram.ax_.get_xscale() == "linear")
    surface = EnergySurfaceDisplay.from_estimator(on_table, x, grid_resolution=12)
    surface.figure_.canvas.draw()
    history = TrainingHistoryDisplay.from_estimator(on_table)
    history.figure_.canvas.draw()
    assert len(history.ax_) == 2
    if hasattr(on_images, "energy_map"):
        for detector, rows in ((on_images, DIGITS[:3]), (on_table, x[:3])):
            EnergyMapDisplay.from_estimator(detector, rows).figure_.canvas.draw()
    if hasattr(on_images, "sample"):
        SampleGridDisplay.from_estimator(on_images, n_samples=4).figure_.canvas.draw()


@pytest.mark.usefixtures("_agg")
def test_displays_refuse_what_a_detector_cannot_answer():
    gan = make("gan", max_epochs=1).fit(ring())
    with pytest.raises(InvalidParameterError, match="has energy_map, got GANDetector"):
        EnergyMapDisplay.from_estimator(gan, ring()[:3])
    plain = make("autoencoder", max_epochs=1).fit(DIGITS[:60])
    with pytest.raises(InvalidParameterError, match="has sample, got AutoEncoderDetector"):
        SampleGridDisplay.from_estimator(plain)


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.filterwarnings("ignore::ebgan_detect.InputRangeWarning")  # of the far row
def test_onnx_file_answers_as_the_detector(fitted_and_rows, tmp_path):
    detector, x = fitted_and_rows
    x = x[:100].astype(np.float32)
    splits = hasattr(detector, "energy_map")
    path = export_onnx(detector, tmp_path / "m.onnx", energy_map=splits, reconstruction=splits)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(None, {"input": x}), strict=True))
    energy = detector.energy(x)
    scale = np.abs(energy).max()
    np.testing.assert_allclose(answers["energy"], energy, rtol=1e-5, atol=1e-5 * scale)
    clear = np.abs(detector.decision_function(x)) > 1e-4 * scale
    np.testing.assert_array_equal(answers["label"][clear], detector.predict(x)[clear])
    if splits:
        np.testing.assert_allclose(
            answers["energy_map"], detector.energy_map(x), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(
            answers["reconstruction"], detector.reconstruct(x), rtol=1e-4, atol=1e-4
        )
    far = np.full_like(x[:1], 3e38)
    alone = dict(zip(names, session.run(None, {"input": far}), strict=True))
    np.testing.assert_allclose(alone["energy"], detector.energy(far), rtol=1e-4)
    nowhere = dict(zip(names, session.run(None, {"input": far * np.nan}), strict=True))
    assert (nowhere["energy"][0], nowhere["label"][0]) == (np.inf, -1)


@pytest.mark.parametrize("option", ["energy_map", "reconstruction"])
def test_export_refuses_what_a_gan_cannot_answer(option, tmp_path):
    gan = make("gan", max_epochs=1).fit(ring())
    with pytest.raises(ExportError, match=f"{option}=True needs .* got GANDetector"):
        export_onnx(gan, tmp_path / "m.onnx", **{option: True})
    assert not list(tmp_path.iterdir())


def test_triton_repository_of_a_gan(tmp_path):
    pytest.importorskip("tritonclient")
    gan = make("gan", max_epochs=1).fit(ring())
    export_triton(gan, tmp_path, name="gan")
    assert (tmp_path / "gan" / "config.pbtxt").is_file()
