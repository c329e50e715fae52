"""The variational autoencoder: its losses, its updates, its bounds."""

import math

import numpy as np
import onnxruntime
import oracles
import pytest
import torch
from games import metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from ebgan_detect.baselines import VAEDetector
from ebgan_detect.errors import InvalidInputError
from ebgan_detect.export import export_onnx
from ebgan_detect.losses import (
    bernoulli_map,
    gaussian_divergence,
    gaussian_map,
    importance_weighted_bound,
)
from ebgan_detect.networks import build_autoencoder, mlp_autoencoder
from ebgan_detect.objectives import VAEObjective

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

FLOATS = st.floats(-8, 8).map(lambda v: round(v, 3))
PAIRS = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float64, shape, elements=FLOATS)] * 2)
)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_game(likelihood="gaussian", *, learning_rate=0.01, **options):
    networks = build_autoencoder(
        lambda s: mlp_autoencoder(s, hidden_sizes=(8,), code_dim=3, bounded=False, n_statistics=2),
        (5,),
        seed=0,
        latent_dim=3,
    )
    game = VAEObjective(networks, latent_dim=3, likelihood=likelihood, **options)
    game.configure_optimizers(learning_rate)
    game.begin_step(1.0)
    return game


def rows(n=6, seed=0):
    return torch.rand((n, 5), generator=torch.Generator().manual_seed(seed))


# --- losses -----------------------------------------------------------------------------------


@given(PAIRS)
def test_likelihoods_and_divergence_equal_oracles(pair):
    x, other = (torch.from_numpy(values) for values in pair)
    inside = x.sigmoid()
    np.testing.assert_allclose(
        bernoulli_map(inside, other).sum(dim=1),
        oracles.bernoulli_nll(inside, other),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        gaussian_map(x, other, variance=0.7).sum(dim=1),
        oracles.gaussian_nll(x, other, 0.7),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        gaussian_divergence(x, other), oracles.gaussian_divergence(x, other), atol=1e-12, rtol=1e-9
    )


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=FLOATS))
def test_importance_weighted_bound_equals_oracle_and_lies_between_mean_and_maximum(log_weights):
    bound = importance_weighted_bound(torch.from_numpy(log_weights)).numpy()
    np.testing.assert_allclose(bound, oracles.importance_weighted_bound(log_weights), atol=1e-12)
    assert (bound >= log_weights.mean(axis=0) - 1e-12).all()
    assert (bound <= log_weights.max(axis=0) + 1e-12).all()


def test_importance_weighted_bound_does_not_overflow():
    assert importance_weighted_bound(torch.tensor([[-1e5], [-1e5]])).tolist() == [-1e5]
    assert importance_weighted_bound(torch.tensor([[1e5], [0.0]])).item() == pytest.approx(
        1e5 - math.log(2)
    )


def test_bernoulli_is_exact_at_the_ends_and_grows_beyond_them():
    ends = bernoulli_map(torch.tensor([[0.0, 1.0]]), torch.tensor([[-200.0, 200.0]]))
    assert ends.tolist() == [[0, 0]]
    beyond = torch.tensor([[1.0, 2.0, 5.0, -4.0]])
    # However sure the decoder is of a 1, a value beyond it is never more likely than it.
    for logit in (-9.0, 0.0, 9.0, 90.0):
        values = bernoulli_map(beyond, torch.full((1, 4), logit))[0]
        assert values[0] < values[1] < values[2]
        assert values[3] >= 16


def test_gaussian_has_its_density():
    x = torch.linspace(-20, 20, 40001, dtype=torch.float64).reshape(1, -1)
    density = (-gaussian_map(x, torch.full_like(x, 1.5), variance=2.0)).exp()
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-9)


def test_divergence_is_zero_only_for_the_prior():
    zero = torch.zeros(1, 3)
    assert gaussian_divergence(zero, zero).item() == 0
    for mean, log_variance in ((1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert gaussian_divergence(zero + mean, zero + log_variance).item() > 0


def test_gradients_of_losses_are_right():
    x, y = (normal(3, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: bernoulli_map(a.sigmoid(), b), (x, y))
    assert torch.autograd.gradcheck(lambda a, b: gaussian_map(a, b, variance=0.3), (x, y))
    assert torch.autograd.gradcheck(gaussian_divergence, (x, y))
    assert torch.autograd.gradcheck(importance_weighted_bound, (x,))


@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (3,)])
def test_likelihoods_refuse_other_shapes(shape):
    with pytest.raises(InvalidInputError, match="shape"):
        bernoulli_map(torch.zeros(2, 3), torch.zeros(shape))
    with pytest.raises(InvalidInputError, match="shape"):
        gaussian_map(torch.zeros(2, 3), torch.zeros(shape), variance=1.0)


# --- updates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("n", [1, 9])
def test_every_parameter_moves_in_one_update(likelihood, n, rng):
    game = make_game(likelihood)
    before = {name: p.clone() for name, p in game.named_parameters()}
    found = metrics(game.update(rows(n), rng))
    assert not [name for name, p in game.named_parameters() if torch.equal(p, before[name])]
    assert len(found) == 3
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("kl_weight", [0.0, 1.0, 3.0])
def test_loss_is_the_negative_bound_of_its_draw(likelihood, kl_weight, rng):
    game = make_game(likelihood, kl_weight=kl_weight, learning_rate=1e-30)
    x, state = rows(), rng.get_state()
    loss, nll, divergence = metrics(game.update(x, rng)).values()
    rng.set_state(state)
    with torch.no_grad():
        mean, log_variance = game.encode(x)
        noise = torch.randn(mean.shape, generator=rng)
        decoded = game.decode(mean + (log_variance / 2).exp() * noise)
    if likelihood == "bernoulli":
        expected = oracles.bernoulli_nll(x, decoded)
    else:
        expected = oracles.gaussian_nll(x, decoded, float((x - decoded).square().mean()))
    kl = oracles.gaussian_divergence(mean, log_variance)
    assert nll == pytest.approx(expected.mean() / 5, rel=1e-5)
    assert divergence == pytest.approx(kl.mean(), rel=1e-4)
    assert loss == pytest.approx((expected.mean() + kl_weight * kl.mean()) / 5, rel=1e-5)


def test_gradient_flows_through_the_draw(rng):
    """Without reparameterisation the log-variances would only feel the divergence."""
    game = make_game("bernoulli", kl_weight=0.0)
    last = game.encoder[-1]
    game.update(rows(50), rng)
    assert (last.weight.grad[3:].abs().sum(dim=1) > 0).all()


def test_weight_of_the_divergence_rises_once(rng):
    game = make_game(kl_weight=1.0)
    game.warmth.zero_()
    x, shares = rows(), []
    for progress in (0.0, 0.15, 0.3, 0.9, 0.0):
        game.begin_step(progress)
        loss, nll, divergence = metrics(game.update(x, rng)).values()
        shares.append((loss - nll) * 5 / divergence)
    assert shares == pytest.approx([0, 0.5, 1, 1, 1], abs=1e-3)


def test_variance_follows_the_error(rng):
    game = make_game(learning_rate=1e-30)
    assert float(game.variance) == 1
    x = 3 + normal(400, 5)
    for _ in range(40):
        game.update(x, rng)
    with torch.no_grad():
        mean, log_variance = game.encode(x)
        decoded = game.decode(mean + (log_variance / 2).exp() * normal(*mean.shape, seed=9))
    expected = oracles.energy(x, decoded).mean()
    assert float(game.variance) == pytest.approx(expected, rel=0.02)


def test_variance_has_a_floor(rng):
    game = make_game(learning_rate=1e-30)
    with torch.no_grad():
        game.decoder[-1].weight.zero_()
        game.decoder[-1].bias.zero_()
    found = metrics(game.update(torch.zeros(4, 5), rng))
    assert np.isfinite(list(found.values())).all()
    assert float(game.variance) == pytest.approx(1e-6)


# --- energies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("kl_weight", [0.0, 1.0, 2.0])
def test_energy_at_the_mean_equals_oracles(likelihood, kl_weight):
    game = make_game(likelihood, kl_weight=kl_weight)
    game.variance.fill_(0.3)
    x = rows()
    with torch.no_grad():
        found = game.energy(x).numpy()
        mean, log_variance = game.encode(x)
        decoded = game.decode(mean)
    nll = (
        oracles.bernoulli_nll(x, decoded)
        if likelihood == "bernoulli"
        else oracles.gaussian_nll(x, decoded, 0.3)
    )
    expected = (nll + kl_weight * oracles.gaussian_divergence(mean, log_variance)) / 5
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def log_weights(game, x, draws):
    """log p(x, z) - log q(z|x) of given noise, by densities, in float64."""
    with torch.no_grad():
        mean, log_variance = game.encode(x)
        found = []
        for noise in draws:
            code = mean + (log_variance / 2).exp() * noise
            nll = oracles.bernoulli_nll(x, game.decode(code))
            prior = torch.distributions.Normal(0.0, 1.0).log_prob(code.double()).sum(dim=1)
            posterior = torch.distributions.Normal(
                mean.double(), (log_variance.double() / 2).exp()
            ).log_prob(code.double())
            found.append(-nll + (prior - posterior.sum(dim=1)).numpy())
    return np.array(found)


def test_importance_weighted_energy_equals_oracle():
    game = make_game("bernoulli", n_draws=7)
    x = rows()
    with torch.no_grad():
        found = game.energy(x).numpy()
    expected = -oracles.importance_weighted_bound(log_weights(game, x, game.draws)) / 5
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_importance_weighted_bound_exceeds_the_evidence_lower_bound(rng):
    game = make_game("bernoulli", n_draws=64)
    for _ in range(50):
        game.update(rows(64), rng)
    x = rows(20, seed=3)
    with torch.no_grad():
        bound = -5 * game.energy(x).numpy()
    elbo = log_weights(game, x, game.draws).mean(axis=0)
    assert (bound >= elbo - 1e-4).all()
    assert (bound > elbo + 1e-3).any()


def test_importance_weighted_bound_reaches_the_likelihood(rng):
    """Of one feature and one code, log p(x) can be had by quadrature."""
    networks = build_autoencoder(
        lambda _: (nn.Linear(1, 2), nn.Linear(1, 1)), (1,), seed=0, latent_dim=1
    )
    with torch.no_grad():
        for p in (*networks.encoder.parameters(), *networks.decoder.parameters()):
            p.copy_(torch.randn(p.shape, generator=rng))
    x = torch.tensor([[0.0], [1.0], [0.3]])
    z = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    with torch.no_grad():
        logits = networks.decoder(z.float()[:, None]).double()[:, 0]
    prior = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    exact = []
    for value in x.double():
        likelihood = (-bernoulli_map(value.expand_as(logits), logits)).exp()
        exact.append(float(torch.trapezoid(prior * likelihood, z).log()))
    errors = []
    for n_draws in (1, 20000):
        game = VAEObjective(networks, latent_dim=1, likelihood="bernoulli", n_draws=n_draws)
        with torch.no_grad():
            errors.append(np.abs(-game.energy(x).numpy() - exact))
    assert (errors[1] < 0.03).all()
    assert errors[1].sum() < errors[0].sum()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("n_draws", [0, 1, 5])
def test_energy_map_averages_to_the_energy_and_each_row_stands_alone(likelihood, n_draws):
    game = make_game(likelihood, n_draws=n_draws, kl_weight=0.7)
    x = rows(8)
    with torch.no_grad():
        split, energy = game.energy_map(x), game.energy(x)
        assert split.shape == x.shape
        torch.testing.assert_close(split.mean(dim=1), energy, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(game.energy(x.flip(0)).flip(0), energy, rtol=1e-6, atol=1e-6)
        assert torch.equal(game.energy(x), energy)


def test_importance_weighted_energy_of_a_bernoulli_likelihood_can_be_exported(tmp_path):
    x = np.random.default_rng(0).uniform(size=(60, 4)).astype(np.float32)
    options = {"likelihood": "bernoulli", "scaling": "minmax", "n_draws": 2}
    detector = VAEDetector(max_epochs=1, random_state=0, device="cpu", **options).fit(x)
    file = str(export_onnx(detector, tmp_path / "vae.onnx"))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (energy,) = session.run(["energy"], {"input": x})
    np.testing.assert_allclose(energy, detector.energy(x), rtol=1e-5)


def test_draws_belong_to_the_state():
    game = make_game(n_draws=3)
    assert "draws" in game.state_dict()
    assert torch.equal(game.draws, make_game(n_draws=3).draws)
    assert torch.equal(game.draws, make_game(n_draws=5).draws[:3])


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_generated_rows_are_means_of_the_likelihood(likelihood, rng):
    game = make_game(likelihood)
    codes = normal(4, 3)
    with torch.no_grad():
        decoded = game.decode(codes)
        made, x = game.generate(codes), rows()
        assert torch.equal(made, decoded.sigmoid() if likelihood == "bernoulli" else decoded)
        assert torch.equal(game.reconstruct(x), game.generate(game.encode(x)[0]))
        assert game.sample(3, rng).shape == (3, 5)


def test_verdict_names_a_code_that_collapsed():
    game = make_game()
    assert "0.02 nats" in game.diagnose({"divergence": [3.0, 0.02]})
    assert "lower kl_weight" in game.diagnose({"divergence": [0.02]})
    assert game.diagnose({"divergence": [0.02, 3.0]}) is None
